"""Generate a clip from a model, with or without a concept: Euler steps along the velocity, with guidance."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor

from .backbone import Backbone
from .compose import WeightedConcept, added_factors, layer_factors
from .concept import Concept, ConceptLayer
from .fingerprint import check_base
from .flow import sampling_times
from .live import LiveConcepts
from .lora import applied_coefficients
from .prompts import place_embeddings


@torch.no_grad()
def sample_latents(
    backbone: Backbone,
    noise_CFHW: Tensor,
    prompt: str,
    *,
    negative_prompt: str = "",
    embeddings: Sequence[Tensor] = (),
    steps: int = 20,
    guidance: float = 4.0,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Latents (C, F, H, W) that the model makes of noise of that shape.

    Euler's method on dx_t/dt = v from t = 1 to 0; the velocity is pushed away from the negative prompt's by
    classifier-free guidance, v = v_neg + guidance (v_pos - v_neg).

    Args:
        embeddings: learned tokens of the concepts, each (D,), for the prompt; not for the negative one.
        guidance: 1 follows the prompt alone and halves the work.
        progress: called with the steps done and their number.
    """
    text = [place_embeddings(backbone.encode_prompt(prompt).unsqueeze(0), embeddings)[0]]
    if guidance != 1.0:
        text.append(backbone.encode_prompt(negative_prompt))
    text_BND = torch.stack(text)
    times = sampling_times(steps, backbone.shift).to(noise_CFHW.device)
    x_t = noise_CFHW
    for index, (now, after) in enumerate(pairwise(times)):
        batch = x_t.expand(len(text_BND), *x_t.shape)
        velocity = backbone.velocity(batch, now.expand(len(text_BND)), text_BND)
        if guidance != 1.0:
            velocity = velocity[1] + guidance * (velocity[0] - velocity[1])
        x_t = x_t + (after - now) * velocity.reshape(x_t.shape)
        if progress:
            progress(index + 1, steps)
    return x_t


def latent_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Normal noise on the CPU, the same for a seed on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@contextmanager
def applied_concept(
    backbone: Backbone, concept: Concept, *, identity_strength: float = 1.0, motion_strength: float = 1.0
) -> Iterator[None]:
    """Run the backbone with W + A1 (s_id B1 + s_mo B2); exactly itself again afterwards.

    Raises:
        ConceptMismatchError: the concept was made for another base model.
    """
    check_base(concept.info.base, backbone.fingerprint())
    with applied_layers(backbone, concept.layers, identity_strength=identity_strength, motion_strength=motion_strength):
        yield


@contextmanager
def applied_layers(
    backbone: Backbone,
    layers: Mapping[str, ConceptLayer],
    *,
    identity_strength: float = 1.0,
    motion_strength: float = 1.0,
) -> Iterator[None]:
    """As `applied_concept`, for layers that were trained on this very backbone."""
    factors = {name: layer_factors(layer, identity_strength, motion_strength) for name, layer in layers.items()}
    with applied_coefficients(backbone.module, backbone.layers, factors):
        yield


@contextmanager
def applied_concepts(
    backbone: Backbone,
    concepts: Sequence[WeightedConcept],
    regions_PFHW: Tensor | None = None,
    prompts: Sequence[str] = (),
) -> Iterator[None]:
    """Run the backbone with several concepts, or with strengths that change; exactly itself again afterwards.

    Args:
        concepts: one or more.
        regions_PFHW: where each of them acts, of any size, as for `live.LiveConcepts`; None adds them up everywhere.
        prompts: what each region shows, in place of the prompt that is sampled; with the concept's own learned tokens.
    Raises:
        ConceptMismatchError: a concept was made for another base model.
    """
    for each in concepts:
        check_base(each.concept.info.base, backbone.fingerprint())
    if regions_PFHW is None and all(each.steady for each in concepts):
        factors = added_factors([(each.concept.layers, *each.strengths()) for each in concepts])
        with applied_coefficients(backbone.module, backbone.layers, factors):
            yield
    else:
        texts = [backbone.encode_prompt(prompt) for prompt in prompts]
        with LiveConcepts(concepts, backbone.layers, regions_PFHW, texts).running(backbone.module, backbone.shift):
            yield
