"""Pictures that a network is given besides the prompt: those of the artist's graph, and a clip's own first frame.

The first frame is prepared by ComfyUI's own node for the family. Some networks take it as channels besides the latents
(Wan image to video); others keep it in the latents, without noise and at time 0.

Shape letters: C latent channels, F latent frames, H, W height and width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sampler_helpers import prepare_mask
from comfy.sd import VAE
from torch import Tensor

from ..setandseq_core.backbone import VideoFormat
from ..setandseq_core.errors import ConfigError
from ..setandseq_core.fingerprint import content_key
from ..setandseq_core.prompts import Condition
from .conditions import OF_THE_TEXT, Asking, Known, Values, own, parts_of, told_of, with_given
from .families import first_frame_node, takes_picture

HELD_ELSEWHERE = {
    "control": "a ControlNet",
    "gligen": "boxes of GLIGEN",
    "hooks": "hooks that change the model",
    "area": "an area of the picture",
    "mask": "a mask",
    "start_percent": "a part of the steps",
    "end_percent": "a part of the steps",
    "keyframe_idxs": "guides, whose frames are in the latent",
    "guide_attention_entries": "guides, whose frames are in the latent",
}
"""Keys of a CONDITIONING that have no meaning without a sampler's steps or its latent."""
BESIDE_THE_LATENTS = {"c_concat", "vace_context"}
"""Inputs of networks that must have the length and size of the latents."""


@dataclass(kw_only=True, slots=True, frozen=True)
class OfGraph:
    """Everything that a graph's CONDITIONING holds besides its text."""

    numbers: Values
    """For every prompt, such as a frame rate."""
    pictures: Values
    """For the artist's own clip in order alone, such as a first frame."""


def given_by(conditioning: Sequence[Any] | None) -> OfGraph:
    """Everything that a graph's CONDITIONING holds besides its text.

    Raises:
        ConfigError: it has several entries, or something that only a sampler can use; says what.
    """
    if conditioning is None:
        return OfGraph(numbers={}, pictures={})
    if len(conditioning) != 1:
        raise ConfigError(
            f"The conditioning has {len(conditioning)} entries; training takes one.",
            hint="Connect the conditioning as it is before it is combined with another one.",
        )
    values: Mapping[str, Any] = conditioning[0][1]
    for key, meaning in HELD_ELSEWHERE.items():
        if values.get(key) is not None:
            raise ConfigError(
                f"The conditioning holds {meaning} ({key}), which training cannot use.",
                hint="Connect the conditioning as it is before the node that adds this.",
            )
    given = {name: own(value) for name, value in values.items() if value is not None and name not in OF_THE_TEXT}
    numbers = {name: value for name, value in given.items() if isinstance(value, int | float)}
    return OfGraph(
        numbers=numbers,
        pictures={name: value for name, value in given.items() if name not in numbers},
    )


@dataclass(kw_only=True, slots=True, frozen=True)
class FirstFrame:
    """A first frame as a network takes it."""

    values: Values
    """On the CONDITIONING."""
    known: Known | None
    """In the latents; None for a network that takes it only as an input of its own."""


class ComfyPictures:
    """The core's `GivenPictures` for a MODEL.

    Args:
        node: ComfyUI's node for the first frame, as module:class; "" where the MODEL takes none.
        of_graph: pictures on the artist's CONDITIONING.
    """

    def __init__(self, model: ModelPatcher, vae: VAE, node: str, of_graph: Values):
        self._model, self._vae, self._node, self._of_graph = model, vae, node, of_graph
        self.first_frames = _ways(model, node)
        self._made: dict[str, FirstFrame] = {}

    def of_graph(self, text: Condition, /) -> Condition:
        return with_given(text, self._of_graph) if self._of_graph else text

    def with_first_frame(self, text: Condition, first_1HWC: Tensor, length: int, /) -> Condition:
        """Each first frame is encoded only once: sample videos reuse it in the middle of a training."""
        key = content_key(first_1HWC, str(length))
        if key not in self._made:
            self._made[key] = self._make(first_1HWC, length)
        made = self._made[key]
        if told_of(text).given.keys() & made.values.keys():
            return text
        return with_given(text, made.values, made.known)

    def _make(self, first_1HWC: Tensor, length: int) -> FirstFrame:
        with torch.inference_mode():
            values, latent = _prepared_by(self._node, self._vae, first_1HWC, length)
            mask = latent.get("noise_mask")
            known = None if mask is None else self._known(latent["samples"], mask)
        if known is not None:
            known = Known(latents_1CFHW=known[0].clone(), mask_1CFHW=known[1].clone())
        return FirstFrame(values={name: own(value) for name, value in values.items()}, known=known)

    def _known(self, samples: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        device = self._model.load_device
        latents = self._model.model.process_latent_in(samples).to(device, torch.float32)
        return latents, prepare_mask(mask, latents.shape, device).float()


def pictures_for(model: ModelPatcher, vae: VAE, of_graph: Values) -> ComfyPictures | None:
    """None for a MODEL that makes videos of prompts alone, with no pictures in the graph."""
    node = first_frame_node(model)
    return ComfyPictures(model, vae, node, of_graph) if node or of_graph else None


def _ways(model: ModelPatcher, node: str) -> tuple[bool, ...]:
    """See `GivenPictures.first_frames`. A network with channels for a picture was never trained without one."""
    if not node:
        return (False,)
    return (True,) if takes_picture(model) else (False, True)


def _prepared_by(node: str, vae: VAE, first_1HWC: Tensor, length: int) -> tuple[Values, Mapping[str, Any]]:
    """Run a node of ComfyUI and return what it puts on a CONDITIONING, and its LATENT."""
    module, name = node.split(":")
    execute: Callable[..., Any] = getattr(import_module(f"comfy_extras.{module}"), name).execute
    inputs: Values = {
        "positive": [[torch.zeros(1, 1, 1), {}]],
        "negative": [[torch.zeros(1, 1, 1), {}]],
        "vae": vae,
        "width": first_1HWC.shape[2],
        "height": first_1HWC.shape[1],
        "length": length,
        "batch_size": 1,
        "start_image": first_1HWC,
        "image": first_1HWC,
        "strength": 1.0,
    }
    output = execute(**{name: inputs[name] for name in signature(execute).parameters if name in inputs}).args
    conditioning = next((part for part in output if isinstance(part, list)), inputs["positive"])
    return conditioning[0][1], next(part for part in output if isinstance(part, dict))


def check_fits(asking: Asking, text: Condition, latents_1CFHW: Tensor, format: VideoFormat, pixels: int) -> None:
    """Refuse a condition whose pictures ComfyUI cannot bring to the length and size of a clip.

    Args:
        latents_1CFHW: of the shape of the clip's.
        pixels: to each side of a latent.
    Raises:
        ConfigError: names both lengths and sizes.
    """
    try:
        conds = asking.prepared(latents_1CFHW, [text], {})
        fits = all(
            cond["model_conds"][name].cond.shape[-3:] == latents_1CFHW.shape[-3:]
            for cond in conds
            for name in BESIDE_THE_LATENTS & cond["model_conds"].keys()
        )
    except RuntimeError:  # of tensors that do not fit each other
        fits = False
    if fits:
        return
    length, height, width = _in_pixels(latents_1CFHW, format, pixels)
    raise ConfigError(
        f"The conditioning is made for {_found(text, format, pixels)}; the clip that is trained has {length} frames of "
        f"{width}x{height}.",
        hint=f"Set length to {length}, width to {width} and height to {height} on the node that makes the "
        "conditioning, such as WanImageToVideo.",
    )


def _found(text: Condition, format: VideoFormat, pixels: int) -> str:
    """The clip that the first latents with time in a condition are made for."""
    for name, value in told_of(text).given.items():
        for part in parts_of(value):
            if isinstance(part, Tensor) and part.ndim == 5:
                length, height, width = _in_pixels(part, format, pixels)
                return f"{length} frames of {width}x{height} ({name})"
    return "another clip"


def _in_pixels(latents: Tensor, format: VideoFormat, pixels: int) -> tuple[int, int, int]:
    frames, height, width = latents.shape[-3:]
    return format.length(frames), height * pixels, width * pixels
