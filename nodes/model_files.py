"""Facts about a model's file, without loading it: for what the interface shows before anything runs."""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy import model_detection
from comfy.model_patcher import ModelPatcher
from comfy.utils import state_dict_prefix_replace
from safetensors import SafetensorError, safe_open

from ..setandseq_core.backbone import VideoFormat
from ..setandseq_core.fingerprint import PROJECTED_ENTRIES, BaseFingerprint, project, sign_pattern
from .embedded import embedded_base, format_of_base
from .folders import SUFFIX, file_stamp
from .models import check_video_model, family_format

MODEL_FOLDERS = ("diffusion_models", "checkpoints")
PREFIXES = ("", "model.diffusion_model.", "diffusion_model.")
"""Possible prefixes of the layers' names in model files."""
MOST_KEPT = 16
"""Number of files whose formats are remembered."""


def model_path(model: str) -> Path | None:
    """The file of a model by its name in the lists of diffusion models and checkpoints; None if there is none."""
    if not model.endswith(SUFFIX):
        return None
    for folder in MODEL_FOLDERS:
        if model in folder_paths.get_filename_list(folder):
            found = folder_paths.get_full_path(folder, model)
            return Path(found) if found else None
    return None


def file_format(path: Path) -> VideoFormat | None:
    """Clips that a model's file takes, as `model_format` says of the loaded MODEL; None if that cannot be told.

    Raises:
        BackboneError: concepts cannot be made for such a model.
    """
    return _file_format(path, file_stamp(path))


@lru_cache(maxsize=MOST_KEPT)
def _file_format(path: Path, _: str) -> VideoFormat | None:
    base = file_fingerprint(path, embedded_base())
    if base is not None and (found := format_of_base(base)):
        return found
    model = _without_weights(path)
    if model is None:
        return None
    check_video_model(model)
    return family_format(model)


def _without_weights(path: Path) -> ModelPatcher | None:
    """The MODEL of a file, whose weights have shapes and no content; None if ComfyUI does not know it."""
    try:
        with safe_open(path, framework="pt") as opened:
            weights = {
                name: torch.empty(opened.get_slice(name).get_shape(), device="meta") for name in list(opened.keys())
            }
            metadata = opened.metadata()
    except (SafetensorError, OSError):
        return None
    prefix = model_detection.unet_prefix_from_state_dict(weights)
    weights = state_dict_prefix_replace(weights, {prefix: ""}, filter_keys=True) or weights
    config = model_detection.detect_unet_config(weights, "", metadata=metadata)
    known = None if config is None else model_detection.model_config_from_unet_config(config, weights)
    if known is None:
        return None
    known.set_inference_dtype(torch.float32, None)
    meta, cpu = torch.device("meta"), torch.device("cpu")
    return ModelPatcher(known.get_model(weights, "", device=meta), load_device=cpu, offload_device=cpu)


def file_fingerprint(path: Path, base: BaseFingerprint) -> BaseFingerprint | None:
    """Fingerprint the layers of `base` that a native model file has, from their first rows alone.

    None if the file has none of them, or if its weights are packed and only ComfyUI's loader can read them.
    """
    signs, shapes, projections = sign_pattern(), {}, {}
    try:
        with safe_open(path, framework="pt") as opened:
            keys = set(opened.keys())
            for layer in base.layers:
                name = next((name for prefix in PREFIXES if f"{(name := prefix + layer)}.weight" in keys), None)
                if name is None:
                    continue
                weight = opened.get_slice(f"{name}.weight")
                shapes[layer] = list(weight.get_shape())
                rows = weight[: -(-PROJECTED_ENTRIES // max(shapes[layer][-1], 1))]
                if not rows.is_floating_point() or _scaled_in_blocks(opened, f"{name}.weight_scale", keys):
                    return None
                projections[layer] = project(rows.to(torch.float32), signs)
    except (SafetensorError, OSError):
        return None
    return BaseFingerprint(family=base.family, layers=shapes, projections=projections) if shapes else None


def _scaled_in_blocks(opened: Any, scale: str, keys: set[str]) -> bool:
    return scale in keys and math.prod(opened.get_slice(scale).get_shape()) > 1
