"""Turns a CONDITIONING into a network's inputs, and runs the network as a sampler does.

Shape letters: B batch, C latent channels, F, H, W latent frames, height and width; N tokens, D text width.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.conds import CONDRegular
from comfy.model_patcher import ModelPatcher, create_model_options_clone
from comfy.patcher_extension import merge_nested_dicts
from comfy.sampler_helpers import convert_cond
from comfy.samplers import calc_cond_batch, process_conds
from torch import Tensor

from ..setandseq_core.condition import Condition, stacked_tokens
from ..setandseq_core.fingerprint import content_key
from .attention import differentiable_attention

Values = dict[str, Any]
"""Everything on a CONDITIONING except the tokens."""
OF_THE_TEXT = ("pooled_output", "attention_mask", "conditioning_byt5small", "unprocessed_ltxav_embeds")
"""Keys that text encoders write; in training, their values come from the training's own prompts."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Told:
    """A network's inputs other than the latents and the tokens of a prompt."""

    said: Values
    """Values from the text encoder, for this prompt."""
    given: Values
    """Values from the graph, for every prompt."""

    def of_clips(self, latent_frames: int) -> Values:
        """The inputs that apply to latents of that many frames.

        A single frame gets none of the graph's pictures: it must not be its own condition, and another frame of the
        clip would reveal the motion.
        """
        if latent_frames > 1:
            return self.given | self.said
        return {name: value for name, value in self.given.items() if isinstance(value, int | float)} | self.said


NOTHING = Told(said={}, given={})


def condition_of(conditioning: Sequence[Any], device: torch.device, given: Values) -> Condition:
    """Convert the first entry of a CONDITIONING; its tensors are copied out of inference mode.

    Args:
        given: everything that the artist's graph adds to the conditioning besides the text.
    """
    tokens_1ND, found = conditioning[0][:2]
    said = {name: _own(value) for name, value in found.items() if value is not None}
    tokens_ND = tokens_1ND[0].to(device, torch.float32, copy=True)
    return Condition(tokens_ND=tokens_ND, rest=Told(said=said, given=given), key=_key(given | said))


def given_by(conditioning: Sequence[Any] | None) -> Values:
    """Everything that a graph's CONDITIONING holds besides its text."""
    values = conditioning[0][1] if conditioning else {}
    return {name: _own(value) for name, value in values.items() if value is not None and name not in OF_THE_TEXT}


def _own(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _key(values: Values) -> str:
    parts: list[Tensor | str] = []
    for name, value in sorted(values.items()):
        parts += [name, *_parts(value)]
    return content_key(*parts) if parts else ""


def _parts(value: Any) -> list[Tensor | str]:
    """Collect the tensors and plain values inside anything that nodes put on a CONDITIONING."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, str | int | float | bool | None):
        return [json.dumps(value)]
    if isinstance(value, Mapping):
        return [part for name, held in sorted(value.items()) for part in (str(name), *_parts(held))]
    if isinstance(value, Sequence):
        return [part for held in value for part in _parts(held)]
    return [type(value).__name__, *_parts(vars(value))] if hasattr(value, "__dict__") else [type(value).__name__]


def same_condition(texts: Sequence[Condition], *, together: bool) -> list[slice]:
    """Group neighbouring texts that fit into one batch: those of the same length and with the same other inputs."""
    starts = [
        index for index, text in enumerate(texts) if index == 0 or not together or not _alike(text, texts[index - 1])
    ]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(texts)], strict=True)]


def _alike(one: Condition, two: Condition) -> bool:
    same = one.rest is two.rest or not (_told(one).said or _told(two).said)
    return same and one.tokens_ND.shape == two.tokens_ND.shape


def _told(text: Condition) -> Told:
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
        told = _told(texts[0]).of_clips(x.shape[2])
        conds = self._prepared(x, stacked_tokens(texts), {"pooled_output": None, **told, **values})
        options = create_model_options_clone(self._options)
        options["transformer_options"]["sample_sigmas"] = torch.stack((sigma_B[0], sigma_B[0]))
        return calc_cond_batch(self._model.model, [conds], x, sigma_B, options)[0]

    def _prepared(self, x: Tensor, tokens_BND: Tensor, values: Values) -> list[Values]:
        """Prepare a CONDITIONING as a sampler does before its first step."""
        found = {"positive": convert_cond([[tokens_BND, values]])}
        process_conds(
            self._model.model,
            x,
            found,
            self._model.load_device,
            torch.zeros_like(x),
            None,
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
