"""What the commands of the command line do; their options are in `__main__`."""

import re
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from ..clips.clip import Reference, Words
from ..clips.prior_prompts import automatic_prompts, read_prompts
from ..clips.video import read_clip, read_info, write_video
from ..compose.apply import applied_concepts
from ..compose.strengths import WeightedConcept
from ..concept import Concept, Strengths
from ..concept_file.export import describe, export_lora
from ..concept_file.file import load_concept, save_concept
from ..config import MethodConfig, read_config
from ..embedded.model import EMBEDDED_CONFIG
from ..errors import ConfigError, PromptError
from ..learn import learn_concept
from ..prompts import check_prompt, motion_prompt
from ..sample import latent_noise
from ..training.clock import clock
from ..training.prior import automatic_prior, make_prior, read_prior
from ..training.run import Progress, StopTraining
from .console import EMBEDDED, INTERRUPTED, PROGRAM, ProgressLine, stop_on_interrupt
from .model import Model, Size, load_model

WAN_FRAMES, WAN_SIZE = 81, (480, 832)
"""What Wan was trained for, and so what is sampled when nothing else is known."""


def train(options: Namespace) -> int:
    """Learn a concept from a video file, or several jointly."""
    check_out(options.out, ".safetensors")
    config = _method_config(options)
    words = _words(options)
    masks = _of_each("--mask", options.mask, len(options.video), None)
    for video in options.video:
        read_info(video)  # a bad file is told before a model is loaded, which can take minutes
    model = load_model(options)
    backbone = model.backbone
    references = [_reference(*each, options, model) for each in zip(options.video, masks, words, strict=True)]
    _tell(f"Learning with {backbone.name} on {backbone.device}, rank {config.rank}. Ctrl-C keeps what was learned.")
    folder = options.out.with_name(options.out.name + ".training")
    with stop_on_interrupt("Stopping after this step; Ctrl-C again to stop at once.") as stopped:
        if options.prior:
            prior = read_prior(options.prior, backbone)
        else:
            making = _making_progress(stopped)
            prior = automatic_prior(backbone, references, config, folder=folder, progress=making)
        progress = _training_progress(stopped)
        name = options.name or options.out.stem
        concept = learn_concept(backbone, references, config, name=name, prior=prior, folder=folder, progress=progress)
        save_concept(concept, options.out)
    return _tell_trained(options.out, folder, concept)


def prior(options: Namespace) -> int:
    """Make clips of the model itself."""
    prompts = read_prompts(_read_text(options.prompts)) if options.prompts else None
    model = load_model(options)
    backbone, (height, width) = model.backbone, options.size or model.size or WAN_SIZE
    prompts = prompts or automatic_prompts(backbone, [], options.clips, options.seed)
    size = options.frames or model.frames or WAN_FRAMES, height, width
    _check_size(size[1:], backbone.format.size_multiple)
    with stop_on_interrupt("Stopping after this clip; Ctrl-C again to stop at once.") as stopped:
        common = {"folder": options.out, "progress": _making_progress(stopped)}
        made = make_prior(backbone, prompts, size, seed=options.seed, **common)
    print(f"Made {len(made.prompts)} prior clips of {width}x{height}, {size[0]} frames, in {options.out}.")
    return 0


def sample(options: Namespace) -> int:
    """Make a video, with or without a concept."""
    check_out(options.out, ".mp4", ".gif", ".webm")
    concept = load_concept(options.concept) if options.concept else None
    prompt = _prompt(options, concept)
    model = load_model(options)
    backbone = model.backbone
    frames, (height, width) = sampling_size(options, model, concept)
    noise = latent_noise(backbone.latent_shape(frames, height, width), options.seed).to(backbone.device)
    strengths = Strengths(options.identity_strength, options.motion_strength)
    weighted = [WeightedConcept(concept=concept, strengths=strengths)] if concept else []
    with applied_concepts(backbone, weighted) as applied:
        latents = applied.sample(
            noise,
            prompt,
            negative_prompt=options.negative_prompt,
            steps=options.steps,
            guidance=options.guidance,
            progress=sampling_progress(),
        )
    write_video(options.out, backbone.decode_latents(latents), backbone.format.fps)
    print(
        f"Made {options.out}: {frames} frames of {width}x{height} at {backbone.format.fps:g} fps, seed {options.seed}."
    )
    return 0


def inspect(options: Namespace) -> int:
    """Print what a concept file says about itself."""
    print(describe(load_concept(options.file)))
    return 0


def export(options: Namespace) -> int:
    """Write a concept as a plain LoRA."""
    check_out(options.out, ".safetensors")
    if options.out.resolve() == options.file.resolve():
        raise ConfigError(
            f"--out is the concept itself, {options.file}.",
            hint="Give the LoRA another name.",
        )
    concept = load_concept(options.file)
    export_lora(concept, options.out, Strengths(options.identity_strength, options.motion_strength))
    shown = f"identity {options.identity_strength:g}, motion {options.motion_strength:g}"
    print(f"Made {options.out}: a LoRA of rank {concept.rank} for {concept.info.base_name}, strengths {shown}.")
    return 0


def demo(options: Namespace) -> int:
    """See everything work."""
    from ..embedded.demo import run_demo

    run_demo(options.out, lambda line: print(line, flush=True))
    return 0


COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "train": train,
    "prior": prior,
    "sample": sample,
    "inspect": inspect,
    "export": export,
    "demo": demo,
}


def _of_each(option: str, given: list | None, count: int, default: Any) -> list:
    """What was given for each video; nothing at all is the default for each."""
    if given and len(given) != count:
        raise ConfigError(
            f"{option} is there {len(given)} times and --video {count} times.",
            hint="Give it once for each video.",
        )
    return given or [default] * count


def _words(options: Namespace) -> list[Words]:
    count = len(options.video)
    motion_option = "--motion-prompt" if options.motion_prompt else "--dynamic-prompt"
    motion = _of_each(motion_option, options.motion_prompt or options.dynamic_prompt, count, "")
    static = _of_each("--static-prompt", options.static_prompt, count, "")
    tokens = [
        _of_each("--identity-token", options.identity_token, count, ""),
        _of_each("--motion-token", options.motion_token, count, ""),
    ]
    found = []
    for static_text, motion_text, identity_token, motion_token in zip(static, motion, *tokens, strict=True):
        static_text = check_prompt(static_text, "static prompt")
        if options.motion_prompt is None:
            motion_text = motion_prompt(static_text, check_prompt(motion_text, "dynamic prompt"))
        found.append(
            Words(
                static_prompt=static_text,
                motion_prompt=check_prompt(motion_text, "motion prompt"),
                identity_token=identity_token,
                motion_token=motion_token,
            )
        )
    return found


def _reference(video: Path, mask: Path | None, words: Words, options: Namespace, model: Model) -> Reference:
    """The clip of a video file as the model takes it, and its mask."""
    backbone = model.backbone
    frames, size = options.frames or model.frames, options.size or model.size
    fitted: dict[str, Any] = {"fps": backbone.format.fps, "multiple": backbone.format.size_multiple}
    clip = read_clip(video, frames=frames, size=size, **fitted)
    _tell(f"{video}: {clip.choice}.")
    if mask is None:
        return Reference(clip=clip, words=words)
    length, height, width = clip.frames_FHWC.shape[:3]
    shown = read_clip(mask, frames=length, size=(height, width), **fitted)
    return Reference(clip=clip, words=words, mask_FHW=shown.frames_FHWC.mean(-1))


def _prompt(options: Namespace, concept: Concept | None) -> str:
    if options.prompt is not None:
        return options.prompt
    if concept is None:
        raise PromptError(
            "There is no prompt.",
            hint="Give one with --prompt, or a concept, whose own is then taken.",
        )
    return concept.motion_prompt


def _method_config(options: Namespace) -> MethodConfig:
    config = EMBEDDED_CONFIG if options.model == EMBEDDED else MethodConfig()
    if options.config:
        config = read_config(options.config, config)
    given = {"seed": options.seed, "rank": options.rank}
    return replace(config, **{name: value for name, value in given.items() if value is not None})


def check_out(path: Path, *suffixes: str) -> None:
    """Refuse a result that could not be written, before the work and not after it."""
    if path.suffix.lower() not in suffixes:
        raise ConfigError(f"--out is {path}; it must end in {' or '.join(suffixes)}.")
    if path.is_dir():
        raise ConfigError(
            f"--out is {path}, which is a folder.",
            hint="Give the name of a file.",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"--out is {path}, but its folder cannot be written to ({error.strerror}).",
            hint="Choose another folder.",
        ) from error


def _training_progress(stopped: Callable[[], bool]) -> Callable[[Progress], None]:
    line = ProgressLine()

    def show(now: Progress) -> None:
        line.show(f"{now.stage} stage", now.step, now.steps, now.seconds_left, now.loss)
        if stopped():
            raise StopTraining

    return show


def _making_progress(stopped: Callable[[], bool]) -> Callable[[int, int], None]:
    line, begun = ProgressLine(), time.monotonic()

    def show(done: int, clips: int) -> None:
        line.show("prior clips", done, clips, (time.monotonic() - begun) / done * (clips - done))
        if stopped():
            raise KeyboardInterrupt

    return show


def sampling_progress() -> Callable[[int, int], None]:
    """Shows the steps of sampling as they are done."""
    line, begun = ProgressLine(), time.monotonic()

    def show(step: int, steps: int) -> None:
        line.show("sampling", step, steps, (time.monotonic() - begun) / step * (steps - step))

    return show


def _tell_trained(out: Path, folder: Path, concept: Concept) -> int:
    record = concept.info.training
    stages = [
        f"{stage} stage {record[stage]['steps']} steps in {clock(record[stage]['seconds'])}"
        for stage in ("set", "sequence")
        if stage in record
    ]
    what = f"{out}: concept {concept.info.name!r}, rank {concept.rank}; {', '.join(stages)}."
    if not record["finished"]:
        print(f"Unfinished {what} The same command goes on; what it needs for that is in {folder}.")
        return INTERRUPTED
    _remove_states(folder)
    print(f"Made {what}\nTry: {PROGRAM} sample --concept {out} --out {out.with_suffix('.mp4').name}")
    return 0


def _remove_states(folder: Path) -> None:
    """Remove what training kept there, and nothing that is not ours."""
    for kind in ("set", "sequence", "prior"):
        for state in folder.glob(f"{kind}_*.safetensors"):
            state.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def sampling_size(options: Namespace, model: Model, concept: Concept | None) -> tuple[int, Size]:
    """Frames and size: as asked for, else the concept's clip, else what the model is made for."""
    recorded_frames, recorded_size = _recorded_clip(concept) if concept else (None, None)
    frames = options.frames or recorded_frames or model.frames or WAN_FRAMES
    size = options.size or recorded_size or model.size or WAN_SIZE
    _check_size(size, model.backbone.format.size_multiple)
    return frames, size


def _check_size(size: Size, multiple: int) -> None:
    if any(side < multiple or side % multiple for side in size):
        raise ConfigError(f"The size is {size[1]}x{size[0]}; both must be multiples of {multiple}, such as 64x64.")


def _recorded_clip(concept: Concept) -> tuple[int | None, Size | None]:
    """Frames and size of a concept's clip; its record may hold anything, so only what can be right is taken."""
    frames, resolution = (concept.info.training.get(key) for key in ("frames", "resolution"))
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", resolution) if isinstance(resolution, str) else None
    known = type(frames) is int and 5 <= frames < 1000 and frames % 4 == 1
    return frames if known else None, (int(match[2]), int(match[1])) if match else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The file {path} cannot be read: {error}. It must be a text file.") from error


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
