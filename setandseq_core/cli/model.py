"""The model that a command works with: the embedded one, or a Wan from files."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..backbones.wan import WanBackbone, load_wan
from ..embedded.model import load_embedded
from ..embedded.world.scene import FRAMES, SIZE
from ..errors import BackboneError
from .console import EMBEDDED

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Model:
    """A backbone, with the clip it is made for where that is fixed."""

    backbone: WanBackbone
    frames: int | None = None
    size: Size | None = None


def load_model(options: Namespace) -> Model:
    """The model that --model and the options beside it name.

    Raises:
        BackboneError: options that do not go together, no such device, or a model that cannot be loaded.
    """
    device = device_named(options.device)
    if options.model != EMBEDDED:
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[options.dtype]
        files = {"vae": options.vae, "text_encoder": options.text_encoder}
        return Model(backbone=load_wan(Path(options.model), **files, device=device, dtype=dtype))
    if options.vae or options.text_encoder or options.dtype != "float32":
        raise BackboneError(
            "The embedded model has a VAE and a text encoder of its own and runs in float32.",
            hint="Give another model with --model, or leave out --vae, --text-encoder and --dtype.",
        )
    backbone = load_embedded()
    parts: tuple[Any, ...] = (backbone.module, backbone.vae)
    for part in parts:
        part.to(device)
    return Model(backbone=backbone, frames=FRAMES, size=(SIZE, SIZE))


def device_named(name: str) -> str:
    """The device that --device names; "auto" is CUDA where there is one.

    Raises:
        BackboneError: there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise BackboneError(
            "--device cuda: this PyTorch finds no CUDA device.",
            hint="Use --device cpu, or install CUDA.",
        )
    return "cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu")
