"""The command `compose`: several concepts in one video, or in one plain LoRA."""

import re
from argparse import Namespace
from pathlib import Path

from ..clips.video import write_video
from ..compose.add import moving_as
from ..compose.apply import applied_concepts
from ..compose.regions import boxes, check_region_prompts, regions_for
from ..compose.strengths import StrengthSchedule, WeightedConcept
from ..concept import AS_LEARNED, Strengths
from ..concept_file.export import export_sum
from ..concept_file.file import load_concept, save_concept
from ..errors import ConfigError, PromptError
from ..sample import latent_noise
from .commands import check_out, sampling_progress, sampling_size
from .model import load_model


def compose(options: Namespace) -> int:
    """Make a video with several concepts, or a file of them."""
    check_out(options.out, ".mp4", ".gif", ".webm", ".safetensors")
    schedule = StrengthSchedule(
        identity=options.identity_schedule,
        motion=options.motion_schedule,
        negative_strength=options.negative_strength,
    )
    concepts = [weighted_concept(text).times(AS_LEARNED, schedule) for text in options.concept]
    if options.motion_from:
        if len(concepts) != 1:
            raise ConfigError(f"--motion-from needs one --concept, which gives the look; there are {len(concepts)}.")
        concepts = [moving_as(concepts[0], weighted_concept(options.motion_from).times(AS_LEARNED, schedule))]
    if options.out.suffix.lower() == ".safetensors":
        return _write_file(options, concepts)
    return _write_video(options, concepts)


def weighted_concept(text: str) -> WeightedConcept:
    """The concept of FILE, FILE:IDENTITY or FILE:IDENTITY:MOTION, the latter two its strengths.

    Raises:
        ConceptFileError: the file cannot be used.
    """
    number = r"[-+]?(?:\d+\.?\d*|\.\d+)"
    found = re.fullmatch(rf"(.+?)(?::({number}))?(?::({number}))?", text)
    file, identity, motion = found.groups() if found else (text, None, None)
    return WeightedConcept(
        concept=load_concept(Path(file)),
        strengths=Strengths(float(identity or 1.0), float(motion or 1.0)),
    )


def _write_file(options: Namespace, concepts: list[WeightedConcept]) -> int:
    if options.motion_from:
        save_concept(concepts[0].concept, options.out)
        print(f"Made {options.out}: the concept '{concepts[0].concept.info.name}'.")
        return 0
    if options.method != "add" or not all(each.steady for each in concepts):
        raise ConfigError(
            "A plain LoRA acts everywhere, at one strength: only the method 'add' without a schedule can be "
            "written to one.",
            hint="Make a video instead, or leave out --method and the schedules.",
        )
    export_sum(concepts, options.out)
    rank = sum(each.concept.rank for each in concepts)
    print(f"Made {options.out}: a LoRA of rank {rank} for {concepts[0].concept.info.base_name}.")
    return 0


def _write_video(options: Namespace, concepts: list[WeightedConcept]) -> int:
    if options.prompt is None and len(concepts) > 1:
        raise PromptError("There is no prompt. Say with --prompt what is there: it holds the words of every concept.")
    first = concepts[0].concept
    regions = regions_for(options.method, len(concepts), boxes(options.region) if options.region else None)
    prompts = options.region_prompt or []
    check_region_prompts(options.method, len(concepts), len(prompts))
    model = load_model(options)
    backbone = model.backbone
    frames, (height, width) = sampling_size(options, model, first)
    noise = latent_noise(backbone.latent_shape(frames, height, width), options.seed).to(backbone.device)
    with applied_concepts(backbone, concepts, regions, prompts) as applied:
        latents = applied.sample(
            noise,
            options.prompt if options.prompt is not None else first.motion_prompt,
            negative_prompt=options.negative_prompt,
            steps=options.steps,
            guidance=options.guidance,
            progress=sampling_progress(),
        )
    write_video(options.out, backbone.decode_latents(latents), backbone.format.fps)
    names = ", ".join(each.concept.info.name for each in concepts)
    print(f"Made {options.out} with {names}: {frames} frames of {width}x{height}, seed {options.seed}.")
    return 0
