"""Load the model that a command works with: the embedded model, or a model of diffusers from files."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..backbone import VideoFormat
from ..backbones.families import family_of
from ..backbones.folders import ModelFiles
from ..backbones.loaded import LoadedBackbone
from ..backbones.text_files import TextSource
from ..concept import Concept
from ..embedded.model import EMBEDDED_FORMAT, load_embedded
from ..embedded.world.scene import FRAMES, SIZE
from ..errors import BackboneError, ConfigError
from ..training.processes import ALONE, Processes
from ..training.sharding import spread
from .options import EMBEDDED, ClipOptions, ModelOptions, Size

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(kw_only=True, slots=True, frozen=True)
class Model:
    """A backbone, with the length and size of its clips if these are fixed."""

    backbone: LoadedBackbone
    frames: int | None = None
    size: Size | None = None


def load_model(
    options: ModelOptions,
    processes: Processes = ALONE,
    *,
    clip: ClipOptions | None = None,
    kept_text: Path | None = None,
) -> Model:
    """Load the model that --model and the options that go with it describe.

    Args:
        processes: the processes that share the work; if they are sharded, the weights are spread over them.
        clip: length and size that the model must be able to make; checked first, because loading can take minutes.
        kept_text: see `backbones.folders.ModelFiles`.
    Raises:
        BackboneError: the options contradict each other, there is no such device, or the model cannot be loaded.
        ConfigError: the model takes no clips of that length or size.
    """
    if clip is not None:
        check_clip(clip, format_of(options))
    device = device_named(options.device)
    if not processes.sharded:
        return _load(options, device, kept_text)
    model = _load(options, "cpu")
    backbone = model.backbone
    backbone.fingerprint()  # computed while the weights are whole
    parts: list[nn.Module] = [backbone.vae]
    parts[0].to(device)
    spread(backbone.module, backbone.layers, processes, torch.device(device))
    return model


def text_encoder_of(options: ModelOptions) -> TextSource:
    """The key and the loader of the text encoder."""
    return family_of(Path(options.model)).text(_files(options, device_named(options.device)))


def _files(options: ModelOptions, device: str, kept_text: Path | None = None) -> ModelFiles:
    return ModelFiles(
        model=Path(options.model),
        vae=options.vae,
        text_folder=options.text_encoder,
        device=device,
        dtype=DTYPES[options.dtype],
        kept_text=kept_text,
    )


def _load(options: ModelOptions, device: str, kept_text: Path | None = None) -> Model:
    if options.model == EMBEDDED:
        return _load_embedded(options, device)
    files = _files(options, device, kept_text)
    return Model(backbone=family_of(files.model).load(files))


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
    format = model.backbone.format
    recorded = _recorded_clip(concept, format)
    frames = options.frames or recorded.frames or format.frames
    height, width = options.size or recorded.size or format.size
    check_clip(ClipOptions(frames=frames, size=(height, width)), format)
    return frames, height, width


def format_of(options: ModelOptions) -> VideoFormat:
    """The format of the clips that the model takes, without loading it.

    Raises:
        BackboneError: the command line does not know such a model.
    """
    return EMBEDDED_FORMAT if options.model == EMBEDDED else family_of(Path(options.model)).format


def check_clip(clip: ClipOptions, format: VideoFormat) -> None:
    """Check a length and a size that were asked for.

    Raises:
        ConfigError: the model takes no clips of that length or size.
    """
    if clip.frames is not None and not _is_length(clip.frames, format):
        nearest = format.whole(max(clip.frames, format.min_frames))
        raise ConfigError(
            f"There are {clip.frames} frames; this model takes {format.time_stride}n+{format.time_offset} and at least "
            f"{format.min_frames}.",
            hint=f"Choose a number such as {nearest}.",
        )
    multiple = format.size_multiple
    if clip.size is not None and any(side < multiple or side % multiple for side in clip.size):
        height, width = clip.size
        raise ConfigError(
            f"The size is {width}x{height}; both must be multiples of {multiple}.",
            hint="Choose a size such as 64x64.",
        )


def _is_length(frames: int, format: VideoFormat) -> bool:
    return frames >= format.min_frames and format.whole(frames) == frames


def _recorded_clip(concept: Concept | None, format: VideoFormat) -> ClipOptions:
    """Frames and size of the clip that a concept was learned from; None for values that make no sense."""
    record = concept.info.training if concept else {}
    frames = record.get("frames")
    resolution = record.get("resolution")
    known = type(frames) is int and frames < 1000 and _is_length(frames, format)
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", resolution) if isinstance(resolution, str) else None
    return ClipOptions(
        frames=frames if known else None,
        size=(int(match[2]), int(match[1])) if match else None,
    )
