"""The command `train`: learn a concept from a video, or one concept of several subjects from several videos."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..training.clock import clock
from .console import PROGRAM, ProgressLine, counting, pasteable, say, tell, warn
from .files import CONCEPT_SUFFIX, check_out
from .launched import launched_processes
from .options import (
    FILE,
    NUMBER,
    ClipOptions,
    MethodOptions,
    ModelOptions,
    StretchOptions,
    WordsOptions,
    clip_options,
    command,
    float32_option,
    method_options,
    model_options,
    out_option,
    together,
)
from .signals import Stopped, Wish, stopping_gently

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..backbone import Backbone, Savings
    from ..clips.clip import Reference, Words
    from ..concept import Concept
    from ..config import MethodConfig
    from ..train import Trained
    from ..training.processes import Processes
    from ..training.progress import Progress
    from .model import Model

STAGES = {"set": "look", "sequence": "motion"}
"""The part of a concept that each stage learns, as people read it."""

words_options = together(
    "words",
    WordsOptions,
    click.option(
        "--static-prompt",
        multiple=True,
        required=True,
        metavar="TEXT",
        help="Describes the look, with a rare word as its name: 'a sks lantern, red paper'.",
    ),
    click.option(
        "--motion-prompt",
        multiple=True,
        metavar="TEXT",
        help="Describes look and motion, with a rare word for each: 'a sks lantern, red paper, zub swinging'.",
    ),
    click.option(
        "--dynamic-prompt",
        multiple=True,
        metavar="TEXT",
        help="Instead of --motion-prompt: only the part that follows the static prompt, such as 'zub swinging'.",
    ),
    click.option(
        "--identity-token",
        multiple=True,
        metavar="WORD",
        help="The rare word for the look ('sks' above). The concept stores it as its trigger word.",
    ),
    click.option(
        "--motion-token",
        multiple=True,
        metavar="WORD",
        help="The rare word for the motion ('zub' above).",
    ),
)
stretch_options = together(
    "stretch",
    StretchOptions,
    click.option(
        "--start",
        type=NUMBER,
        multiple=True,
        metavar="SECONDS",
        show_default="0",
        help="Where the clip begins in the video.",
    ),
    click.option(
        "--length",
        type=NUMBER,
        multiple=True,
        metavar="SECONDS",
        show_default="as many as the frames last",
        help="Maximum length of the clip.",
    ),
)


@command(
    "Learn a concept from a video.",
    "--video lantern.mp4 --out lantern.safetensors",
    "--static-prompt 'a sks lantern, red paper' --dynamic-prompt 'zub swinging'",
)
@click.option(
    "--video",
    type=FILE,
    multiple=True,
    required=True,
    metavar="FILE",
    help="An mp4, mov, webm, mkv or gif file. Repeat the option to learn several clips jointly.",
)
@stretch_options
@words_options
@click.option(
    "--mask",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="A video that is white on the subject and black elsewhere. Training nearly ignores the black parts.",
)
@click.option(
    "--prior",
    type=FILE,
    metavar="FOLDER",
    show_default="some are made automatically",
    help="A folder of clips made by the command 'prior'.",
)
@click.option(
    "--identity-lora",
    type=FILE,
    metavar="FILE",
    help="A LoRA of the look, made by any program. Only the motion is then trained.",
)
@click.option(
    "--leave-out",
    is_flag=True,
    help="With --identity-lora: leave out the tensors that a concept cannot hold.",
)
@out_option("The concept: a .safetensors file. An existing file is replaced when training is finished.")
@float32_option
@click.option("--name", metavar="TEXT", show_default="the name of the file", help="Title of the concept.")
@method_options
@clip_options(
    "17 embedded, else as many as the video has, up to 81 (LTX: 121)", "64x64 embedded, else near the video's"
)
@model_options
def train(
    video: tuple[Path, ...],
    stretch: StretchOptions,
    words: WordsOptions,
    mask: tuple[Path, ...],
    prior: Path | None,
    identity_lora: Path | None,
    leave_out: bool,
    out: Path,
    float32: bool,
    name: str | None,
    method: MethodOptions,
    clip: ClipOptions,
    model: ModelOptions,
) -> None:
    """Learn a concept from a video: first how it looks, from single frames, then how it moves.

    Ctrl-C keeps the progress; run the same command again to resume. To learn several subjects as one concept, repeat
    --video and the options of its clip for each of them.
    """
    from ..learn import learn_concept
    from ..prompts import check_prompt
    from ..training.prior import read_prior
    from .model import device_named, load_model
    from .references import check_videos, each, method_config, read_reference, stretches_of, words_of
    from .words import tell_unknown_words

    _check_motion(words)
    processes = click.get_current_context().with_resource(launched_processes(device_named(model.device)))
    title = check_prompt(name or out.stem, "name")
    said = words_of(words, len(video))
    stretches = stretches_of(stretch, len(video))
    masks = each("--mask", mask, len(video), None)
    config = method_config(method, model.model)
    check_out(out, CONCEPT_SUFFIX)
    check_videos(*video, *masks)
    prompts = [prompt for part in said for prompt in (part.static_prompt, part.motion_prompt)]
    tell_unknown_words(model.model, prompts, words.tokens)
    chosen = load_model(model, processes, clip=clip)
    backbone = chosen.backbone
    references = [
        read_reference(file, mask_file, said_of_it, part, clip, chosen)
        for file, mask_file, said_of_it, part in zip(video, masks, said, stretches, strict=True)
    ]
    savings = _savings(chosen, references, config, model, processes)
    look = None if identity_lora is None else _look(identity_lora, backbone, said[0], method.rank or 0, leave_out)
    rank = config.rank if look is None else look.rank
    tell(f"Learning with {backbone.name} on {backbone.device}, rank {rank}. Ctrl-C keeps the steps so far.")
    folder = out.with_name(f"{out.name}.training")
    with stopping_gently("Stopping after this step. Press Ctrl-C again to stop at once.") as wish:
        concept = learn_concept(
            backbone,
            references,
            config,
            name=title,
            identity=None if look is None else replace(look, info=replace(look.info, name=title)),
            prior=read_prior(prior, backbone) if prior else None,
            savings=savings,
            folder=folder,
            progress=_training_progress(wish),
            prior_progress=_making_progress(wish),
            trained=_tell_end,
            processes=processes,
        )
        _save(concept, out, folder, wish, processes, float32=float32)


def _savings(
    chosen: "Model",
    references: "Sequence[Reference]",
    config: "MethodConfig",
    options: ModelOptions,
    processes: "Processes",
) -> "Savings":
    """Print what the training needs, and choose the savings that make it fit."""
    from ..backbone import Savings
    from ..training.plan import plan_training
    from ..training.processes import share_of
    from ..training.proposal import plan_in_words
    from ..training.savings import EVERY_BLOCK
    from ..training.speed import speed
    from .model import DTYPES

    backbone, first = chosen.backbone, references[0]
    if processes.sharded:
        tell(f"The model's weights are spread over {processes.count} processes. To save memory, its blocks run again.")
        return Savings(recomputed=EVERY_BLOCK)
    frames, height, width = first.clip.frames_FHWC.shape[:3]
    text = backbone.encode_prompt(first.words.motion_prompt)
    plan = plan_training(backbone, (frames, height, width), share_of(config, processes), text=text)
    tell(plan_in_words(plan, speed(backbone.device, DTYPES[options.dtype])))
    return plan.strongest


def _check_motion(words: WordsOptions) -> None:
    if bool(words.motion_prompt) == bool(words.dynamic_prompt):
        found = "both are there" if words.motion_prompt else "neither is there"
        raise click.UsageError(
            f"Either --motion-prompt or --dynamic-prompt is needed; {found}.",
            click.get_current_context(),
        )


def _look(path: Path, backbone: "Backbone", words: "Words", rank: int, leave_out: bool) -> "Concept":
    """Take the look of a LoRA, at its own rank if `rank` is 0, and print how much of it is kept."""
    from ..concept_file.from_lora import identity_from_lora

    said = replace(words, motion_prompt=words.static_prompt, motion_token="")
    base = backbone.fingerprint()
    taken = identity_from_lora(
        path,
        base,
        backbone.name,
        said,
        in_diffusers=backbone.layers.get,
        rank=rank,
        leave_out=leave_out,
    )
    tell(f"{path}: {taken.summary()}")
    return taken.identity


def _making_progress(wish: Wish) -> Callable[[int, int], None]:
    show = counting("prior clips")

    def progress(done: int, count: int) -> None:
        show(done, count)
        if wish.asked:
            tell("The prior clips made so far are kept, and the same command resumes there.")
            raise Stopped(wish.number)

    return progress


def _training_progress(wish: Wish) -> "Callable[[Progress], None]":
    from ..training.progress import StopTraining

    line = ProgressLine()

    def progress(now: "Progress") -> None:
        line.show(f"learning the {STAGES[now.stage]}", now.step, now.steps, now.seconds_left, now.loss)
        if wish.asked:
            raise StopTraining

    return progress


def _tell_end(stage: "Trained") -> None:
    """Warn if anything went wrong in a finished stage."""
    from ..training.validation import complaint

    for text in (complaint(stage.validation, stage.taken_from), stage.unsaved):
        if text:
            warn(text)


def _save(concept: "Concept", out: Path, folder: Path, wish: Wish, processes: "Processes", *, float32: bool) -> None:
    """Let the first process write the concept (to `out` only if it is finished), and print where it is.

    Raises:
        click.exceptions.Exit: the concept is not finished.
    """
    from ..concept_file.file import save_concept, stored_type

    unfinished = out.with_name(f"{out.stem}.unfinished{CONCEPT_SUFFIX}")
    finished = concept.info.training["finished"]
    target = out if finished else unfinished
    if processes.number == 0:
        save_concept(concept, target, dtype=stored_type(float32=float32))
    about = f"{target}: concept {concept.info.name!r}, rank {concept.rank}; {_steps(concept)}."
    if not finished:
        say(f"Unfinished {about} The same command resumes there, with the steps kept in {folder}.")
        raise click.exceptions.Exit(wish.status)
    if processes.number == 0:
        unfinished.unlink(missing_ok=True)
    say(f"Made {about}")
    say(f"Try: {PROGRAM} sample --concept {pasteable(out)} --out {pasteable(Path(out.name).with_suffix('.mp4'))}")
    say(f"Give more steps to learn on from here. That uses {folder}; delete it to free the disk.")


def _steps(concept: "Concept") -> str:
    record = concept.info.training
    done = [
        f"{part} {record[stage]['steps']} steps in {clock(record[stage]['seconds'])}"
        for stage, part in STAGES.items()
        if stage in record
    ]
    return ", ".join(done)
