"""What the commands of the command line do; their options are in `__main__`."""

import re
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile

import torch

from .backbones.wan import WanBackbone, load_wan
from .concept import Concept, load_concept, save_concept
from .concept_export import describe, export_lora
from .config import MethodConfig, read_config
from .console import EMBEDDED, INTERRUPTED, PROGRAM, ProgressLine, clock, stop_on_interrupt
from .errors import BackboneError, ConfigError, PromptError
from .new_concept import new_concept
from .prompts import check_prompt, motion_prompt
from .runs import Progress, StopTraining
from .sample import applied_concept, latent_noise, sample_latents
from .toy.model import EMBEDDED_CONFIG, load_embedded
from .toy.world import FRAMES, SIZE
from .train import Trained, encode_reference, train_concept
from .video import read_clip, read_info, write_video

Size = tuple[int, int]
"""(height, width) in pixels."""
WAN_FRAMES, WAN_SIZE = 81, (480, 832)
"""What Wan was trained for, and so what is sampled when nothing else is known."""


def train(options: Namespace) -> int:
    """Learn a concept from a video file."""
    _check_out(options.out, ".safetensors")
    config = _method_config(options)
    static_text = check_prompt(options.static_prompt, "static prompt")
    motion_text = options.motion_prompt
    if motion_text is None:
        motion_text = motion_prompt(static_text, check_prompt(options.dynamic_prompt, "dynamic prompt"))
    motion_text = check_prompt(motion_text, "motion prompt")
    read_info(options.video)  # a bad file is told before a model is loaded, which can take minutes
    model = load_model(options)
    frames, size = options.frames or model.frames, options.size or model.size
    backbone = model.backbone
    clip = read_clip(options.video, fps=backbone.fps, multiple=backbone.size_multiple, frames=frames, size=size)
    _tell(f"{options.video}: {clip.choice}.")
    _tell(f"Learning with {backbone.name} on {backbone.device}, rank {config.rank}. Ctrl-C keeps what was learned.")
    folder = options.out.with_name(options.out.name + ".training")
    reference = encode_reference(backbone, clip.frames_FHWC, static_text, motion_text)
    with stop_on_interrupt("Stopping after this step; Ctrl-C again to stop at once.") as stopped:
        progress = _training_progress(stopped)
        trained = train_concept(backbone, [reference], config, folder=folder, progress=progress)
        name = options.name or options.out.stem
        prompts = {"static_prompt": static_text, "motion_prompt": motion_text}
        concept = new_concept(backbone, clip, config, trained, name=name, **prompts)
        save_concept(concept, options.out)
    return _tell_trained(options.out, folder, concept, trained)


def sample(options: Namespace) -> int:
    """Make a video, with or without a concept."""
    _check_out(options.out, ".mp4", ".gif", ".webm")
    concept = load_concept(options.concept) if options.concept else None
    prompt = options.prompt if options.prompt is not None else concept and concept.motion_prompt
    if prompt is None:
        raise PromptError("There is no prompt. Give one with --prompt, or a concept, whose own is then taken.")
    model = load_model(options)
    backbone = model.backbone
    frames, (height, width) = _sample_size(options, model, concept)
    noise = latent_noise(backbone.latent_shape(frames, height, width), options.seed).to(backbone.device)
    strengths = {"identity_strength": options.identity_strength, "motion_strength": options.motion_strength}
    with applied_concept(backbone, concept, **strengths) if concept else nullcontext():
        latents = sample_latents(
            backbone,
            noise,
            prompt,
            negative_prompt=options.negative_prompt,
            steps=options.steps,
            guidance=options.guidance,
            progress=_sampling_progress(),
        )
    write_video(options.out, backbone.decode_latents(latents), backbone.fps)
    print(f"Made {options.out}: {frames} frames of {width}x{height} at {backbone.fps:g} fps, seed {options.seed}.")
    return 0


def inspect(options: Namespace) -> int:
    """Print what a concept file says about itself."""
    print(describe(load_concept(options.file)))
    return 0


def export(options: Namespace) -> int:
    """Write a concept as a plain LoRA."""
    _check_out(options.out, ".safetensors")
    if options.out.resolve() == options.file.resolve():
        raise ConfigError(f"--out is the concept itself, {options.file}. Give the LoRA another name.")
    concept = load_concept(options.file)
    strengths = {"identity_strength": options.identity_strength, "motion_strength": options.motion_strength}
    export_lora(concept, options.out, **strengths)
    shown = f"identity {options.identity_strength:g}, motion {options.motion_strength:g}"
    print(f"Made {options.out}: a LoRA of rank {concept.rank} for {concept.info.base_name}, strengths {shown}.")
    return 0


def demo(options: Namespace) -> int:
    """See everything work."""
    from .demo import run_demo

    run_demo(options.out, lambda line: print(line, flush=True))
    return 0


COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "train": train,
    "sample": sample,
    "inspect": inspect,
    "export": export,
    "demo": demo,
}


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
    device = _device(options.device)
    if options.model != EMBEDDED:
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[options.dtype]
        files = {"vae": options.vae, "text_encoder": options.text_encoder}
        return Model(backbone=load_wan(Path(options.model), **files, device=device, dtype=dtype))
    if options.vae or options.text_encoder or options.dtype != "float32":
        raise BackboneError(
            "The embedded model has a VAE and a text encoder of its own and runs in float32. Give another model with "
            "--model, or leave out --vae, --text-encoder and --dtype."
        )
    backbone = load_embedded()
    backbone.module.to(device)
    backbone.vae.to(device)
    return Model(backbone=backbone, frames=FRAMES, size=(SIZE, SIZE))


def _device(name: str) -> str:
    if name == "cuda" and not torch.cuda.is_available():
        raise BackboneError("--device cuda: this PyTorch finds no CUDA device. Use --device cpu, or install CUDA.")
    return "cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu")


def _method_config(options: Namespace) -> MethodConfig:
    config = EMBEDDED_CONFIG if options.model == EMBEDDED else MethodConfig()
    if options.config:
        config = read_config(options.config, config)
    given = {"seed": options.seed, "rank": options.rank}
    return replace(config, **{name: value for name, value in given.items() if value is not None})


def _check_out(path: Path, *suffixes: str) -> None:
    """Refuse a result that could not be written, before the work and not after it."""
    if path.suffix.lower() not in suffixes:
        raise ConfigError(f"--out is {path}; it must end in {' or '.join(suffixes)}.")
    if path.is_dir():
        raise ConfigError(f"--out is {path}, which is a folder. Give the name of a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"--out is {path}, but its folder cannot be written to ({error.strerror}). Choose another folder."
        ) from error


def _training_progress(stopped: Callable[[], bool]) -> Callable[[Progress], None]:
    line = ProgressLine()

    def show(now: Progress) -> None:
        line.show(f"{now.stage} stage", now.step, now.steps, now.seconds_left, now.loss)
        if stopped():
            raise StopTraining

    return show


def _sampling_progress() -> Callable[[int, int], None]:
    line, begun = ProgressLine(), time.monotonic()

    def show(step: int, steps: int) -> None:
        line.show("sampling", step, steps, (time.monotonic() - begun) / step * (steps - step))

    return show


def _tell_trained(out: Path, folder: Path, concept: Concept, trained: Trained) -> int:
    stages = [
        f"{stage} stage {record['steps']} steps in {clock(record['seconds'])}"
        for stage, record in trained.record.items()
    ]
    what = f"{out}: concept {concept.info.name!r}, rank {concept.rank}; {', '.join(stages)}."
    if not trained.finished:
        print(f"Unfinished {what} The same command goes on; what it needs for that is in {folder}.")
        return INTERRUPTED
    _remove_states(folder)
    print(f"Made {what}\nTry: {PROGRAM} sample --concept {out} --out {out.with_suffix('.mp4').name}")
    return 0


def _remove_states(folder: Path) -> None:
    """Remove what training kept there, and nothing that is not ours."""
    for state in [*folder.glob("set_*.safetensors"), *folder.glob("sequence_*.safetensors")]:
        state.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _sample_size(options: Namespace, model: Model, concept: Concept | None) -> tuple[int, Size]:
    """Frames and size: as asked for, else the concept's clip, else what the model is made for."""
    recorded_frames, recorded_size = _recorded_clip(concept) if concept else (None, None)
    frames = options.frames or recorded_frames or model.frames or WAN_FRAMES
    size = options.size or recorded_size or model.size or WAN_SIZE
    multiple = model.backbone.size_multiple
    if any(side < multiple or side % multiple for side in size):
        raise ConfigError(f"The size is {size[1]}x{size[0]}; both must be multiples of {multiple}, such as 64x64.")
    return frames, size


def _recorded_clip(concept: Concept) -> tuple[int | None, Size | None]:
    """Frames and size of a concept's clip; its record may hold anything, so only what can be right is taken."""
    frames, resolution = (concept.info.training.get(key) for key in ("frames", "resolution"))
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", resolution) if isinstance(resolution, str) else None
    known = type(frames) is int and 5 <= frames < 1000 and frames % 4 == 1
    return frames if known else None, (int(match[2]), int(match[1])) if match else None


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
