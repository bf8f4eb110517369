"""Turns a CONDITIONING into a network's inputs, and runs the network as a sampler does.

Shape letters: B batch, C latent channels, F, H, W latent frames, height and width; N tokens, D text width.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy.conds import CONDRegular
from comfy.model_patcher import ModelPatcher, create_model_options_clone
from comfy.patcher_extension import merge_nested_dicts
from comfy.sampler_helpers import convert_cond
from comfy.samplers import calc_cond_batch, process_conds
from torch import Tensor

from ..setandseq_core.fingerprint import content_key
from ..setandseq_core.prompts import Condition, stacked_tokens
from .attention import differentiable_attention

Values = dict[str, Any]
"""Everything on a CONDITIONING except the tokens."""
OF_THE_TEXT = ("pooled_output", "attention_mask", "conditioning_byt5small", "unprocessed_ltxav_embeds")
"""Keys that text encoders write; in training, their values come from the training's own prompts."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Known:
    """Latents that a network is given in place of noise, as a sampler does it with a noise mask."""

    latents_1CFHW: Tensor
    """As the network takes them, without noise."""
    mask_1CFHW: Tensor
    """1 where the network predicts, 0 where it is given `latents_1CFHW`."""

    @property
    def frames(self) -> int:
        """Latent frames, from the first, in which nothing is predicted."""
        predicted_F = self.mask_1CFHW.amax((0, 1, 3, 4)) > 0
        return int(predicted_F.cumsum(0).eq(0).sum())

    def put_into(self, latents_BCFHW: Tensor) -> Tensor:
        """Latents with the given ones in their places."""
        return latents_BCFHW * self.mask_1CFHW + self.latents_1CFHW * (1 - self.mask_1CFHW)


@dataclass(kw_only=True, slots=True, frozen=True)
class Told:
    """A network's inputs other than the latents and the tokens of a prompt."""

    said: Values
    """Values from the text encoder, for this prompt."""
    given: Values
    """Numbers of the graph; for clips in order also pictures, of the graph or of the clip itself."""
    known: Known | None = None


NOTHING = Told(said={}, given={})


def condition_of(conditioning: Sequence[Any], device: torch.device, given: Values) -> Condition:
    """Convert the first entry of a CONDITIONING; its tensors are copied out of inference mode.

    Args:
        given: numbers that the artist's graph puts on the conditioning besides the text.
    """
    tokens_1ND, found = conditioning[0][:2]
    said = {name: own(value) for name, value in found.items() if value is not None}
    tokens_ND = tokens_1ND[0].to(device, torch.float32, copy=True)
    return Condition(tokens_ND=tokens_ND, rest=Told(said=said, given=given), key=key_of(given | said))


def with_given(text: Condition, given: Values, known: Known | None = None) -> Condition:
    """A prompt with more inputs of the network."""
    told = told_of(text)
    parts: list[Tensor | str] = [text.key, key_of(given)]
    if known:
        parts += [known.latents_1CFHW, known.mask_1CFHW]
    return replace(
        text,
        rest=replace(told, given=told.given | given, known=known or told.known),
        key=content_key(*parts),
        known=known.frames if known else text.known,
    )


def own(value: Any) -> Any:
    """A tensor out of inference mode; anything else as it is."""
    return value.clone() if isinstance(value, Tensor) else value


def key_of(values: Values) -> str:
    """A hash of values on a CONDITIONING; "" where there are none."""
    parts: list[Tensor | str] = []
    for name, value in sorted(values.items()):
        parts += [name, *parts_of(value)]
    return content_key(*parts) if parts else ""


def parts_of(value: Any) -> list[Tensor | str]:
    """Collect the tensors and plain values inside anything that nodes put on a CONDITIONING."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, str | int | float | bool | None):
        return [json.dumps(value)]
    if isinstance(value, Mapping):
        return [part for name, held in sorted(value.items()) for part in (str(name), *parts_of(held))]
    if isinstance(value, Sequence):
        return [part for held in value for part in parts_of(held)]
    return [type(value).__name__, *parts_of(vars(value))] if hasattr(value, "__dict__") else [type(value).__name__]


def same_condition(texts: Sequence[Condition], *, together: bool) -> list[slice]:
    """Group neighbouring texts that fit into one batch: those of the same length and with the same other inputs."""
    starts = [
        index for index, text in enumerate(texts) if index == 0 or not together or not _alike(text, texts[index - 1])
    ]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(texts)], strict=True)]


def _alike(one: Condition, two: Condition) -> bool:
    return one.key == two.key and one.tokens_ND.shape == two.tokens_ND.shape


def told_of(text: Condition) -> Told:
    """The network's inputs that come with a prompt besides its tokens."""
    return text.rest if isinstance(text.rest, Told) else NOTHING


class Asking:
    """Calls a MODEL as ComfyUI's sampler does, with everything that nodes have applied to it."""

    def __init__(self, model: ModelPatcher):
        self._model = model
        self._options = create_model_options_clone(model.model_options)
        options = self._options.setdefault("transformer_options", {})
        for kind, found in (("wrappers", model.wrappers), ("callbacks", model.callbacks)):
            options[kind] = merge_nested_dicts(options.get(kind, {}), found)
        options["optimized_attention_override"] = differentiable_attention

    def denoised(self, x: Tensor, sigma_B: Tensor, texts: Sequence[Condition], values: Mapping[str, Any]) -> Tensor:
        """Denoised latents (B, C, F, H, W).

        Args:
            x: noisy latents at these sigmas, scaled as in the sampler.
            texts: all of one length, with the same inputs besides the tokens.
            values: these override the values on the conditioning.
        """
        known = told_of(texts[0]).known
        x = known.put_into(x) if known else x
        conds = self.prepared(x, texts, values)
        options = create_model_options_clone(self._options)
        options["transformer_options"]["sample_sigmas"] = torch.stack((sigma_B[0], sigma_B[0]))
        denoised = calc_cond_batch(self._model.model, [conds], x, sigma_B, options)[0]
        return known.put_into(denoised) if known else denoised

    def prepared(self, x: Tensor, texts: Sequence[Condition], values: Mapping[str, Any]) -> list[Values]:
        """Prepare a CONDITIONING as a sampler does before its first step. Arguments follow `denoised`."""
        told = told_of(texts[0])
        values = {"pooled_output": None, **told.given, **told.said, **values}
        tokens_BND, known = stacked_tokens(texts), told.known
        found = {"positive": convert_cond([[tokens_BND, values]])}
        process_conds(
            self._model.model,
            x,
            found,
            self._model.load_device,
            known.latents_1CFHW.expand_as(x) if known else torch.zeros_like(x),
            known.mask_1CFHW.expand_as(x) if known else None,
            seed=0,
            latent_shapes=[x.shape],
        )
        for cond in found["positive"]:
            cond["model_conds"] = {name: _differentiable(value) for name, value in cond["model_conds"].items()}
        return found["positive"]


def _differentiable(cond: CONDRegular) -> CONDRegular:
    """Copy the tensors that were made in inference mode, which no backward pass can use."""
    value = cond.cond
    return cond._copy_with(value.clone()) if isinstance(value, Tensor) and value.is_inference() else cond
