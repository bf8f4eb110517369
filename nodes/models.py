"""Facts about a MODEL: whether concepts can be made for it, which layers it has, and which model it is."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast
from uuid import uuid4
from weakref import WeakKeyDictionary

import torch
from comfy.model_patcher import ModelPatcher, get_key_weight
from comfy.patcher_extension import PatcherInjection
from comfy.quant_ops import QuantizedTensor
from comfy.utils import get_attr
from torch import Tensor, nn

from ..setandseq_core.backbone import VideoFormat
from ..setandseq_core.errors import BackboneError
from ..setandseq_core.fingerprint import BaseFingerprint, content_key, project, sign_pattern
from .families import MODULATION, family_of, makes_pictures, takes_picture

SECONDS = 5.0
"""Length of a clip, unless the artist asks for another one."""
PREFIX = "diffusion_model."
EMBEDDED = "256 wide, 10 blocks"
"""The size of the embedded model; no other model is that small."""

THIS_SERVER = uuid4().hex
"""Identifies this run of the server."""

_fingerprints: "WeakKeyDictionary[nn.Module, BaseFingerprint]" = WeakKeyDictionary()


def check_video_model(model: ModelPatcher) -> None:
    """Refuse a model that concepts cannot be made for.

    Raises:
        BackboneError: it makes no video from a prompt, or cannot be trained; the message names the model.
    """
    if refusal := family_of(model).refusal:
        raise BackboneError(
            f"The connected model is {model_name(model)}. {refusal}.",
            hint="Connect a model that makes videos from a prompt, such as Wan 2.1 T2V, or the embedded model of this "
            "pack, to the model input.",
        )


def model_name(model: ModelPatcher) -> str:
    """The model's name in messages, such as "Wan 2.1 T2V (1536 wide, 30 blocks)"."""
    family, config = family_of(model), model.model.model_config
    kind = type(config).__name__
    if makes_pictures(model):
        return f"{family.kinds[kind]} (an image model)"
    layers = adapted_layers(model)
    if not layers:
        return family.kinds[kind]
    width = getattr(model.model.diffusion_model.get_submodule(next(iter(layers.values()))), "in_features", 0)
    title = family.title(kind, width, takes_picture=takes_picture(model))
    blocks = len({tuple(name.split(".")[:2]) for name in layers})
    size = f"{width} wide, {blocks} blocks"
    return f"the embedded model of Set-and-Sequence ({size})" if size == EMBEDDED else f"{title} ({size})"


def _own_lists(network: nn.Module) -> list[str]:
    """The network's own lists of blocks.

    Other lists are left out: those inside its other parts refine text, sound or conditions, and those of embedders have
    parts without a linear layer.
    """
    found = []
    for name, child in network.named_children():
        parts = _parts(child)
        if parts and all(any(_is_linear(layer) for layer in part.modules()) for part in parts):
            found.append(name)
    return found


def _parts(child: nn.Module) -> list[nn.Module]:
    if isinstance(child, nn.ModuleDict):
        return list(child.values())
    return list(child) if isinstance(child, nn.ModuleList) else []


def adapted_layers(model: ModelPatcher) -> dict[str, str]:
    """The linear layers that concepts change: native name -> path in `model.model.diffusion_model`. The two
    are the same here.

    These are all linear layers of the blocks except those whose only input is the time. ComfyUI's layers of quantised
    files are not `torch.nn.Linear`; they are recognised by having two sizes.
    """
    network = model.model.diffusion_model
    left_out = (*MODULATION, *family_of(model).skip)
    return {
        name: name
        for part in _own_lists(network)
        for name, layer in network.get_submodule(part).named_modules(prefix=part)
        if _is_linear(layer) and not any(word in name for word in left_out)
    }


def family_format(model: ModelPatcher) -> VideoFormat:
    """The format of the clips that the model takes: five seconds long, unless the artist asks for another length."""
    family, latents = family_of(model), model.model.latent_format
    network = model.model.diffusion_model
    patch = getattr(network, "patch_size", None) or getattr(network, "patch_spatial", 1)
    side = patch if isinstance(patch, int) else patch[-1]
    found = VideoFormat(
        fps=family.fps,
        frames=round(SECONDS * family.fps) + 1,
        size=family.size,
        size_multiple=side * latents.spacial_downscale_ratio,
        patch=side,
        time_stride=latents.temporal_downscale_ratio,
    )
    return replace(found, frames=found.whole(found.frames))


def model_fingerprint(model: ModelPatcher) -> BaseFingerprint:
    """Fingerprint of the base model, from its own weights.

    It ignores LoRAs, whether they are on the wire or already merged by ComfyUI. It is cached as long as the model
    exists, because only patches change weights, and it ignores patches.
    """
    if model.model not in _fingerprints:
        family, signs, shapes, projections = family_of(model), sign_pattern(), {}, {}
        for name, path in adapted_layers(model).items():
            weight_OI = original_weight(model, f"{PREFIX}{path}.weight")
            shapes[name], projections[name] = list(weight_OI.shape), project(weight_OI, signs)
        found = BaseFingerprint(family=family.name, layers=shapes, projections=projections)
        _fingerprints[model.model] = found
    return _fingerprints[model.model]


def files_of(patcher: ModelPatcher) -> list[Path]:
    """The files that a model was loaded from. Only ComfyUI's own loaders record them; otherwise the list is empty."""
    made_by = patcher.cached_patcher_init
    files = made_by[1][0] if made_by else []
    return [Path(name) for name in ([files] if isinstance(files, str) else files)]


def patches_key(model: ModelPatcher) -> str:
    """A hash of everything that changes the output of a MODEL's transformer: patches, hooks, injections; "" if none.

    Injections are functions, such as ComfyUI's bypass LoRA. Those with adapters are identified by these. All others
    count as new after each start of the server, so that a result of another model is never reused.
    """
    parts: list[str | Tensor] = []
    for key, patches in sorted(model.patches.items(), key=lambda item: str(item[0])):
        for patch in patches:
            parts += _patch_parts(key, patch)
    for hook, hooked in model.hook_patches.items():
        for key, patches in sorted(hooked.items(), key=lambda item: str(item[0])):
            for patch in patches:
                parts += [type(hook).__name__, *_patch_parts(key, patch)]
    for name, injections in sorted(model.injections.items()):
        for injection in injections:
            parts += [name, *_injected(injection)]
    return content_key(*parts) if parts else ""


def _patch_parts(key: object, patch: Sequence[object]) -> list[str | Tensor]:
    strength, value, model_strength, *rest = patch
    return [f"{key} {strength} {model_strength} {rest[:1]} {type(value).__name__}", *_tensors(value)]


def _injected(injection: PatcherInjection) -> Iterator[str | Tensor]:
    cells = getattr(injection.inject, "__closure__", None) or ()
    held = [cell.cell_contents for cell in cells if hasattr(cell.cell_contents, "adapters")]
    if not held:
        yield f"{THIS_SERVER} {id(injection.inject)}"
    for manager in held:
        for key, (adapter, strength) in sorted(manager.adapters.items()):
            yield f"{key} {strength} {type(adapter).__name__}"
            yield from _tensors(adapter)


def _tensors(value: object) -> Iterator[Tensor]:
    """All tensors of a patch, whatever structure holds them."""
    if isinstance(value, Tensor):
        yield value
    for part in value if isinstance(value, list | tuple) else getattr(value, "weights", ()):
        yield from _tensors(part)


def original_weight(model: ModelPatcher, key: str) -> Tensor:
    """The weight `key` of `model.model` without patches, unpacked if it is quantised. Never write to it. Unpacking
    happens on the model's device, because a CPU would take minutes for the weights of Wan 14B.
    """
    weight, _, convert = get_key_weight(model.model, key)
    if key in model.hook_backup:
        weight = model.hook_backup[key][0]
    elif key in model.backup:
        weight = model.backup[key].weight
    if convert is not None:
        return convert(weight.to(model.load_device) if isinstance(weight, QuantizedTensor) else weight)
    layer = get_attr(model.model, key.removesuffix(".weight"))
    if not hasattr(layer, "get_weight"):
        return weight
    return _unpacked(layer, cast(_PackedTensor, weight.to(model.load_device)))


class _PackedTensor(Protocol):
    """A weight of the GGUF pack."""

    patches: Sequence[object]


class _PackedLayer(Protocol):
    """A layer of the GGUF pack."""

    def get_weight(self, weight: _PackedTensor, dtype: torch.dtype) -> Tensor: ...


def _unpacked(layer: _PackedLayer, weight: _PackedTensor) -> Tensor:
    """A GGUF weight, unpacked, without the LoRAs that the GGUF pack stores with it."""
    patches = getattr(weight, "patches", [])
    weight.patches = []
    try:
        return layer.get_weight(weight, torch.float32)
    finally:
        weight.patches = patches


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (hasattr(layer, "in_features") and hasattr(layer, "out_features"))
