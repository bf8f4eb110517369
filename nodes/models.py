"""Facts about a MODEL: whether concepts can be made for it, its layers, and its identity."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

import torch
from comfy.model_base import WAN21, WAN22
from comfy.model_patcher import ModelPatcher, get_key_weight
from comfy.quant_ops import QuantizedTensor
from comfy.utils import get_attr
from torch import Tensor, nn

from ..setandseq_core.errors import BackboneError
from ..setandseq_core.fingerprint import BaseFingerprint, project, sign_pattern
from ..setandseq_core.training.run import content_key

FAMILY = "wan"
PREFIX = "diffusion_model."
TEXT_TO_VIDEO = (WAN21, WAN22)
"""Exactly these: their subclasses are other models (VACE, Animate, speech, causal ...)."""
EMBEDDED = "256 wide, 6 blocks"
"""The size of the embedded model; no other Wan is that small."""

THIS_SERVER = uuid4().hex
"""Identifies this run of the server."""

_fingerprints: "WeakKeyDictionary[nn.Module, BaseFingerprint]" = WeakKeyDictionary()


def check_video_model(model: ModelPatcher) -> None:
    """Refuse a model that concepts cannot be made for.

    Raises:
        BackboneError: an image model, another family, or a Wan that is not text-to-video; names what was found.
    """
    config, kind = model.model.model_config.unet_config, type(model.model)
    same_channels = config.get("in_dim") == config.get("out_dim")
    if kind in TEXT_TO_VIDEO and config.get("model_type") == "t2v" and same_channels:
        return
    raise BackboneError(
        f"The connected model is {model_name(model)}. Concepts need a Wan text-to-video model: Wan 2.1 T2V, or "
        "either expert of Wan 2.2 T2V.",
        hint="Connect one, or the embedded model of this pack, to the model input.",
    )


def model_name(model: ModelPatcher) -> str:
    """Name of the model for people, such as "Wan 2.1 T2V (1536 wide, 30 blocks)"."""
    base: Any = model.model
    kind, config = type(base), base.model_config.unet_config
    if not isinstance(base, WAN21):
        what = "a video model" if base.latent_format.latent_dimensions == 3 else "an image model"
        return f"{type(base.model_config).__name__} ({what} of another family)"
    channels = config["in_dim"], config["out_dim"]
    size = f"{config['dim']} wide, {config['num_layers']} blocks"
    if size == EMBEDDED:
        return f"the embedded model of Set-and-Sequence ({size})"
    if kind not in TEXT_TO_VIDEO:
        return f"{kind.__name__.replace('_', ' ')} (a variant of Wan, {size})"
    if config["model_type"] != "t2v" or channels[0] != channels[1]:
        return f"Wan image-to-video or control ({size}, {channels[0]} channels in, {channels[1]} out)"
    if kind is WAN22:
        return f"Wan 2.2 TI2V ({size})"
    return f"{'Wan 2.1 or 2.2' if config['dim'] == 5120 else 'Wan 2.1'} T2V ({size})"


def wan_layers(model: ModelPatcher) -> dict[str, str]:
    """The linear layers that concepts change: native name -> path in `model.model.diffusion_model`, here the same.

    ComfyUI's layers of quantised files are not `torch.nn.Linear`; they are known by their two sizes.
    """
    blocks = model.model.diffusion_model.blocks
    return {name: name for name, layer in blocks.named_modules(prefix="blocks") if _is_linear(layer)}


def model_fingerprint(model: ModelPatcher) -> BaseFingerprint:
    """Which base the model is, by its own weights: LoRAs on the wire or already merged in do not count.

    It is kept as long as the model is: nothing but patches, which are left out here, changes its weights. A model of
    another family has no layers for us.
    """
    if model.model not in _fingerprints:
        is_wan = isinstance(model.model, WAN21)
        signs, shapes, projections = sign_pattern(), {}, {}
        for name, path in wan_layers(model).items() if is_wan else ():
            weight_OI = original_weight(model, f"{PREFIX}{path}.weight")
            shapes[name], projections[name] = list(weight_OI.shape), project(weight_OI, signs)
        family = FAMILY if is_wan else type(model.model.model_config).__name__.lower()
        _fingerprints[model.model] = BaseFingerprint(family=family, layers=shapes, projections=projections)
    return _fingerprints[model.model]


def patches_key(model: ModelPatcher) -> str:
    """A hash of everything that changes the answers of a MODEL's transformer: patches, hooks, injections; "" if none.

    Injections are functions, such as core's bypass LoRA. Those that hold adapters are known by them; any other is known
    only as long as the server runs, so that no result of another model is ever taken for one of this.
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


def _patch_parts(key: Any, patch: Any) -> list[str | Tensor]:
    strength, value, model_strength, *rest = patch
    return [f"{key} {strength} {model_strength} {rest[:1]} {type(value).__name__}", *_tensors(value)]


def _injected(injection: Any) -> Iterator[str | Tensor]:
    cells = getattr(injection.inject, "__closure__", None) or ()
    held = [cell.cell_contents for cell in cells if hasattr(cell.cell_contents, "adapters")]
    if not held:
        yield f"{THIS_SERVER} {id(injection.inject)}"
    for manager in held:
        for key, (adapter, strength) in sorted(manager.adapters.items()):
            yield f"{key} {strength} {type(adapter).__name__}"
            yield from _tensors(adapter)


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of a patch, however it holds them."""
    if isinstance(value, Tensor):
        yield value
    for part in value if isinstance(value, list | tuple) else getattr(value, "weights", ()):
        yield from _tensors(part)


def original_weight(model: ModelPatcher, key: str) -> Tensor:
    """The weight `key` of `model.model` without patches, unpacked where it is quantised; never to be written to.

    It is unpacked where the model computes: a processor would take minutes for the weights of a Wan 14B.
    """
    weight, _, convert = get_key_weight(model.model, key)
    if key in model.hook_backup:
        weight = model.hook_backup[key][0]
    elif key in model.backup:
        weight = model.backup[key].weight
    if convert is not None:
        return convert(weight.to(model.load_device) if isinstance(weight, QuantizedTensor) else weight)
    layer = get_attr(model.model, key.removesuffix(".weight"))
    return _unpacked(layer, weight.to(model.load_device)) if hasattr(layer, "get_weight") else weight


def _unpacked(layer: Any, weight: Any) -> Tensor:
    """A weight of GGUF's in full, without the LoRAs that its pack keeps beside it."""
    patches = getattr(weight, "patches", [])
    weight.patches = []
    try:
        return layer.get_weight(weight, torch.float32)
    finally:
        weight.patches = patches


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (hasattr(layer, "in_features") and hasattr(layer, "out_features"))
