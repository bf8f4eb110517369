"""The command `compose`: put several concepts into one video, or into one plain LoRA."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from .console import say
from .files import CONCEPT_SUFFIX, VIDEO_SUFFIXES, check_out
from .options import (
    BOX,
    NUMBER,
    POINTS,
    Box,
    ClipOptions,
    ModelOptions,
    Points,
    SamplingOptions,
    clip_options,
    command,
    float32_option,
    model_options,
    out_option,
    sampling_options,
    together,
)

if TYPE_CHECKING:
    from ..compose.strengths import StrengthSchedule, WeightedConcept

ALWAYS: Points = ((0.0, 1.0),)
"""A schedule that changes nothing."""


@dataclass(kw_only=True, slots=True, frozen=True)
class PlacementOptions:
    """Options for several concepts in one video."""

    method: Literal["add", "regions"]
    region: tuple[Box, ...]
    region_prompt: tuple[str, ...]


placement_options = together(
    "placement",
    PlacementOptions,
    click.option(
        "--method",
        type=click.Choice(("add", "regions")),
        default="add",
        show_default=True,
        help="add: every concept acts everywhere; regions: each acts in its own part of the picture.",
    ),
    click.option(
        "--region",
        type=BOX,
        multiple=True,
        metavar="LEFT,TOP,RIGHT,BOTTOM",
        show_default="stripes, left to right",
        help="With regions: the part of the frame where a concept acts, in shares from 0 to 1. Give one per concept.",
    ),
    click.option(
        "--region-prompt",
        multiple=True,
        metavar="TEXT",
        show_default="the prompt",
        help="With regions: the prompt of a concept's region. Give one per concept.",
    ),
)


@dataclass(kw_only=True, slots=True, frozen=True)
class ScheduleOptions:
    """Strengths that change while a video is sampled."""

    identity_schedule: Points
    motion_schedule: Points
    negative_strength: float

    def schedule(self) -> "StrengthSchedule":
        """The schedule that the options describe.

        Raises:
            ConfigError: the progress of its points does not rise within [0, 1].
        """
        from ..compose.strengths import StrengthSchedule

        return StrengthSchedule(
            identity=self.identity_schedule,
            motion=self.motion_schedule,
            negative_strength=self.negative_strength,
        )


schedule_options = together(
    "schedules",
    ScheduleOptions,
    *(
        click.option(
            f"--{part}-schedule",
            type=POINTS,
            default=ALWAYS,
            metavar="X:X,...",
            show_default="always 1",
            help=f"Factor of the {part} strengths over the sampling, as share:factor pairs such as 0:0,0.3:1.",
        )
        for part in ("identity", "motion")
    ),
    click.option(
        "--negative-strength",
        type=NUMBER,
        default=1.0,
        metavar="X",
        show_default=True,
        help="Factor of both strengths for the negative prompt. Below 1 shows more of the concepts.",
    ),
)


@command(
    "Make a video with several concepts.",
    "--concept lantern.safetensors --concept cat.safetensors:1:0.8 --out both.mp4",
    "--method regions --prompt 'a sks lantern, zub swinging, and a skz cat, at night'",
    "--region-prompt 'a sks lantern, zub swinging, at night' --region-prompt 'a skz cat, at night'",
)
@click.option(
    "--concept",
    multiple=True,
    required=True,
    metavar="FILE[:X[:X]]",
    help="A concept, with its identity and motion strength if they are not 1. Repeat the option for each concept.",
)
@click.option(
    "--motion-from",
    metavar="FILE[:X[:X]]",
    help="The concept whose motion to use. Both concepts must have been trained from the same look.",
)
@placement_options
@schedule_options
@sampling_options("the concept's motion prompt, if there is only one concept")
@out_option("The result: an mp4, gif, webm or .safetensors file. An existing file is replaced.")
@float32_option
@clip_options("the first concept's", "the first concept's")
@model_options
def compose(
    concept: tuple[str, ...],
    motion_from: str | None,
    placement: PlacementOptions,
    schedules: ScheduleOptions,
    sampling: SamplingOptions,
    out: Path,
    float32: bool,
    clip: ClipOptions,
    model: ModelOptions,
) -> None:
    """Make a video with several concepts that were trained separately.

    If --out ends in .safetensors, the result is not a video but a plain LoRA of all concepts or, with --motion-from, a
    concept.
    """
    check_out(out, *VIDEO_SUFFIXES, CONCEPT_SUFFIX)
    concepts = _concepts(concept, motion_from, schedules.schedule())
    if out.suffix.lower() != CONCEPT_SUFFIX:
        _write_video(concepts, placement, sampling, out, clip, model)
    elif motion_from:
        _write_concept(concepts[0], out, float32=float32)
    else:
        _write_lora(concepts, placement.method, out)


def _concepts(texts: tuple[str, ...], motion_from: str | None, schedule: "StrengthSchedule") -> list["WeightedConcept"]:
    from ..compose.add import moving_as
    from ..concept import AS_LEARNED
    from ..errors import ConfigError

    concepts = [_weighted(text).times(AS_LEARNED, schedule) for text in texts]
    if motion_from is None:
        return concepts
    if len(concepts) != 1:
        raise ConfigError(
            f"--motion-from needs one --concept, which gives the look; there are {len(concepts)}.",
            hint="Give one --concept.",
        )
    return [moving_as(concepts[0], _weighted(motion_from).times(AS_LEARNED, schedule))]


def _weighted(text: str) -> "WeightedConcept":
    """Load the concept that FILE, FILE:IDENTITY or FILE:IDENTITY:MOTION names, at the given strengths."""
    from ..compose.strengths import WeightedConcept
    from ..concept import Strengths
    from ..concept_file.file import load_concept

    number = r"[-+]?(?:\d+\.?\d*|\.\d+)"
    found = re.fullmatch(rf"(.+?)(?::({number}))?(?::({number}))?", text, re.DOTALL)
    file, identity, motion = found.groups() if found else (text, None, None)
    return WeightedConcept(
        concept=load_concept(Path(file)),
        strengths=Strengths(float(identity or 1.0), float(motion or 1.0)),
    )


def _write_concept(weighted: "WeightedConcept", out: Path, *, float32: bool) -> None:
    from ..concept_file.file import save_concept, stored_type

    save_concept(weighted.concept, out, dtype=stored_type(float32=float32))
    say(f"Made {out}: the concept '{weighted.concept.info.name}'.")


def _write_lora(concepts: list["WeightedConcept"], method: Literal["add", "regions"], out: Path) -> None:
    from ..concept_file.export import export_sum, missing_tokens
    from ..errors import ConfigError

    if method != "add" or not all(each.steady for each in concepts):
        raise ConfigError(
            "A plain LoRA acts everywhere, at one strength: only the method 'add' without a schedule can be written "
            "to one.",
            hint="Make a video instead, or leave out --method and the schedules.",
        )
    made = export_sum(concepts, out)
    rank = sum(each.concept.rank for each in concepts)
    for path in made.paths:
        say(f"Made {path}: a LoRA of rank {rank} for {concepts[0].concept.info.base_name}.")
    if missing := missing_tokens(made.missing):
        say(missing)


def _write_video(
    concepts: list["WeightedConcept"],
    placement: PlacementOptions,
    sampling: SamplingOptions,
    out: Path,
    clip: ClipOptions,
    model: ModelOptions,
) -> None:
    from ..compose.apply import applied_concepts
    from ..compose.regions import boxes, check_region_prompts, regions_for
    from .model import clip_shape, load_model
    from .video import sample_to_file
    from .words import tell_unknown_words_of_video

    first = concepts[0].concept
    prompt = _prompt(sampling, concepts)
    areas = boxes(list(placement.region)) if placement.region else None
    regions = regions_for(placement.method, len(concepts), areas)
    prompts = list(placement.region_prompt)
    check_region_prompts(placement.method, len(concepts), len(prompts))
    tell_unknown_words_of_video(model.model, prompt, sampling, [each.concept for each in concepts], prompts)
    chosen = load_model(model, clip=clip)
    shape = clip_shape(clip, chosen, first)
    with applied_concepts(chosen.backbone, concepts, regions, prompts) as applied:
        sample_to_file(applied, chosen.backbone, shape, prompt, sampling, out)
    frames, height, width = shape
    names = ", ".join(each.concept.info.name for each in concepts)
    say(f"Made {out} with {names}: {frames} frames of {width}x{height}, seed {sampling.seed}.")


def _prompt(sampling: SamplingOptions, concepts: list["WeightedConcept"]) -> str:
    from ..errors import PromptError

    if sampling.prompt is not None:
        return sampling.prompt
    if len(concepts) > 1:
        raise PromptError(
            "There is no prompt, and several concepts have none in common.",
            hint="Give one with --prompt that holds the words of every concept.",
        )
    return concepts[0].concept.motion_prompt
