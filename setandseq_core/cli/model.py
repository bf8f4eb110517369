"""Load the model that a command works with: the embedded model, or a Wan model from files."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..backbones.kept_text import TextEncoder
from ..backbones.wan import WanBackbone, load_wan, umt5_prompts
from ..concept import Concept
from ..embedded.model import load_embedded
from ..embedded.world.scene import FRAMES, SIZE
from ..errors import BackboneError, ConfigError
from ..training.processes import ALONE, Processes
from ..training.sharding import spread
from .options import EMBEDDED, ClipOptions, ModelOptions, Size

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(kw_only=True, slots=True, frozen=True)
class Model:
    """A backbone, with the length and size of its clips if these are fixed."""

    backbone: WanBackbone
    frames: int | None = None
    size: Size | None = None


def load_model(options: ModelOptions, processes: Processes = ALONE, *, kept_text: Path | None = None) -> Model:
    """Load the model that --model and the options that go with it describe.

    Args:
        processes: the processes that share the work; if they are sharded, the weights are spread over them.
        kept_text: see `backbones.wan.load_wan`.
    Raises:
        BackboneError: the options contradict each other, there is no such device, or the model cannot be loaded.
    """
    device = device_named(options.device)
    if not processes.sharded:
        return _load(options, device, kept_text)
    model = _load(options, "cpu")
    backbone = model.backbone
    backbone.fingerprint()  # computed while the weights are whole
    parts: list[nn.Module] = [backbone.vae]
    parts[0].to(device)
    layers = dict[str, str](backbone.layers)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
    spread(backbone.module, layers, processes, torch.device(device))
    return model


def text_encoder_of(options: ModelOptions) -> tuple[str, Callable[[], TextEncoder]]:
    """The key and the loader of the text encoder; see `backbones.wan.umt5_prompts`."""
    folder = options.text_encoder or Path(options.model)
    return umt5_prompts(folder, torch.device(device_named(options.device)), DTYPES[options.dtype])


def _load(options: ModelOptions, device: str, kept_text: Path | None = None) -> Model:
    if options.model == EMBEDDED:
        return _load_embedded(options, device)
    backbone = load_wan(
        Path(options.model),
        vae=options.vae,
        text_encoder=options.text_encoder,
        device=device,
        dtype=DTYPES[options.dtype],
        kept_text=kept_text,
    )
    return Model(backbone=backbone)


def _load_embedded(options: ModelOptions, device: str) -> Model:
    if options.vae or options.text_encoder or options.dtype != "float32":
        raise BackboneError(
            "The embedded model has a VAE and a text encoder of its own and runs in float32.",
            hint="Choose another model with --model, or leave out --vae, --text-encoder and --dtype.",
        )
    backbone = load_embedded()
    parts: list[nn.Module] = [backbone.module, backbone.vae]
    for part in parts:
        part.to(device)
    return Model(backbone=backbone, frames=FRAMES, size=(SIZE, SIZE))


def device_named(name: str) -> str:
    """The device that --device names; "auto" is CUDA if available, else the CPU.

    Raises:
        BackboneError: there is no CUDA device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise BackboneError(
            "--device cuda: this PyTorch finds no CUDA device.",
            hint="Use --device cpu, or install CUDA.",
        )
    return "cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu")


def clip_shape(options: ClipOptions, model: Model, concept: Concept | None = None) -> tuple[int, int, int]:
    """Frames, height and width to sample: from the options, else the concept's clip, else the model's.

    Raises:
        ConfigError: the model cannot make clips of this size.
    """
    recorded = _recorded_clip(concept)
    frames = options.frames or recorded.frames or model.backbone.format.frames
    height, width = options.size or recorded.size or model.backbone.format.size
    multiple = model.backbone.format.size_multiple
    if any(side < multiple or side % multiple for side in (height, width)):
        raise ConfigError(
            f"The size is {width}x{height}; both must be multiples of {multiple}.",
            hint="Choose a size such as 64x64.",
        )
    return frames, height, width


def _recorded_clip(concept: Concept | None) -> ClipOptions:
    """Frames and size of the clip that a concept was learned from; None for values that make no sense."""
    record = concept.info.training if concept else {}
    frames = record.get("frames")
    resolution = record.get("resolution")
    known = type(frames) is int and 5 <= frames < 1000 and frames % 4 == 1
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", resolution) if isinstance(resolution, str) else None
    return ClipOptions(
        frames=frames if known else None,
        size=(int(match[2]), int(match[1])) if match else None,
    )
