"""Applies concepts to a MODEL: merged, by ComfyUI's own patches, or live, by its wrappers.

Concepts are live if they act in regions or if their strengths change during sampling.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import comfy.lora
import torch
from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor

from ..setandseq_core.compose.live import LiveConcepts
from ..setandseq_core.concept import WHOLE_RANGE, WITHOUT, Concept, expert_for, noise_range, times_in_words
from ..setandseq_core.errors import ConceptMismatchError, ConfigError
from ..setandseq_core.fingerprint import ROUNDING_DISTANCE, distance
from ..setandseq_core.prompts import place_embeddings
from .families import family_of
from .models import PREFIX, adapted_layers, model_fingerprint, model_name
from .times import Times
from .wires import WeightedConcept

KEY = "setandseq"
"""Key of the wrappers that compute live concepts."""
TOKENS_KEY = "setandseq_tokens"
"""Key of the wrappers that put learned tokens in the prompt."""
KINDS, POSITIVE = "cond_or_uncond", 0
"""The transformer option that says which prompt each part of a batch belongs to, and its value for the positive
prompt."""


def apply_concepts(
    model: ModelPatcher,
    concepts: Iterable[WeightedConcept],
    regions_PFHW: Tensor | None = None,
    texts: Sequence[Tensor] = (),
) -> ModelPatcher:
    """Return a copy of the MODEL with the concepts applied; the MODEL itself is unchanged.

    Args:
        regions_PFHW: where each concept acts, as for `live.LiveConcepts`; None applies all concepts everywhere.
        texts: one prompt per region, (N, D), that replaces the sampler's prompt there; the concept's learned tokens
            are placed in it.
    Raises:
        ConceptMismatchError: a concept was made for another base; names both.
        ConfigError: the MODEL already has concepts in regions, or its family does not support regions.
    """
    if regions_PFHW is not None and not family_of(model).regions:
        raise ConfigError(
            f"Concepts cannot act in regions of {model_name(model)}; they can in Wan.",
            hint="Choose add in Compose Concepts, or train one concept on the clips of both.",
        )
    patched = model.clone()
    live, embeddings = [], []
    for given in concepts:
        weighted = replace(given, concept=fitting(given.concept, model))
        embeddings += weighted.embeddings()
        if regions_PFHW is not None or not weighted.steady:
            live.append(weighted)
        elif weighted.at() != WITHOUT:
            patched.add_patches(_patches(weighted, model))
    if live:
        before = patched.get_wrappers(WrappersMP.APPLY_MODEL, KEY)
        if regions_PFHW is not None and any(run.args[0].in_regions for run in before):
            raise ConfigError(
                "The model already has concepts in regions.",
                hint="Connect all of them to one Compose Concepts, with a mask for each if their regions are not "
                "stripes.",
            )
        run = partial(_run_live, LiveConcepts(live, adapted_layers(model), regions_PFHW, texts))
        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, run)
    if embeddings and not texts:
        place = partial(_run_with_embeddings, embeddings)
        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, TOKENS_KEY, place)
    return patched


def _run_with_embeddings(
    embeddings: list[Tensor],
    executor: WrapperExecutor,
    x: Tensor,
    sigma: Tensor,
    c_concat: Tensor | None,
    text: Tensor,
    *args: object,
    **kwargs: object,
) -> Tensor:
    """Run the model with learned tokens placed in the positive prompt, but not in the negative one."""
    asked = _asked(*args, kwargs.get("transformer_options"))
    parts = zip(text.chunk(len(asked)), asked, strict=True)
    placed = [place_embeddings(part, embeddings) if is_asked else part for part, is_asked in parts]
    return executor(x, sigma, c_concat, torch.cat(placed), *args, **kwargs)


def _run_live(
    live: LiveConcepts, executor: WrapperExecutor, x: Tensor, sigma: Tensor, *args: object, **kwargs: object
) -> Tensor:
    """Run the model with the live concepts applied; it may be any copy of the MODEL, such as one on another GPU.

    A model compiled by TorchCompileModel runs uncompiled here, because live concepts work through hooks, and compiled
    code ignores hooks that were added after it was compiled.
    """
    model = cast(BaseModel, executor.class_obj)
    asked = _asked(*args, kwargs.get("transformer_options"))
    transformer = getattr(model.diffusion_model, "_orig_mod", model.diffusion_model)
    times = Times(sampling=model.model_sampling)
    acting = live.running(transformer, times.shift, asked, times.of_sigma(sigma))
    with torch.compiler.set_stance("force_eager"), acting:
        return executor(x, sigma, *args, **kwargs)


def _asked(*arguments: object) -> list[bool]:
    """For each part of a batch, tell from transformer_options whether it belongs to the positive prompt."""
    found = (value[KINDS] for value in arguments if isinstance(value, dict) and KINDS in value)
    return [kind == POSITIVE for kind in next(found, [POSITIVE])]


def fitting(concept: Concept, model: ModelPatcher) -> Concept:
    """Return the concept for a MODEL. From a concept for two experts, take the part for the expert that the MODEL is.

    Raises:
        ConceptMismatchError: the concept was made for another base; names the concept, its base and the model.
    """
    try:
        return expert_for(concept, model_fingerprint(model))
    except ConceptMismatchError as error:
        raise ConceptMismatchError(
            f"The concept '{concept.info.name}' was made for {concept.info.base_name}. It does not fit the connected "
            f"model, {model_name(model)}. {error.message}",
            hint=error.hint,
        ) from error


def base_note(concept: Concept, model: ModelPatcher) -> str:
    """A warning if a MODEL's weights differ a little from those that the concept was made on; otherwise ""."""
    concept = fitting(concept, model)
    apart = distance(concept.info.base, model_fingerprint(model))
    if apart <= ROUNDING_DISTANCE:
        return ""
    times = noise_range(concept.info)
    trained = "" if times == WHOLE_RANGE else f" It was trained on noise levels {times_in_words(times)}."
    return (
        f"'{concept.info.name}' was made on other weights of the same sizes ({apart:.2f} apart, "
        f"{ROUNDING_DISTANCE:g} is possible by rounding): a fine-tuned model, or the other expert of Wan 2.2. It may "
        f"look different here.{trained}"
    )


def _patches(weighted: WeightedConcept, model: ModelPatcher) -> dict[str, object]:
    paths = adapted_layers(model)
    lora: dict[str, Tensor] = {}
    for layer, value in weighted.concept.layers.items():
        up_OR, down_RI = value.factors(weighted.at())
        lora |= {f"{layer}.lora_A.weight": down_RI, f"{layer}.lora_B.weight": up_OR}
    return comfy.lora.load_lora(lora, {layer: f"{PREFIX}{paths[layer]}.weight" for layer in weighted.concept.layers})
