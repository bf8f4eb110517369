"""The command `sample`: make a video from a prompt, with or without a concept."""

from pathlib import Path

import click

from .console import say
from .files import VIDEO_SUFFIXES, check_out
from .options import (
    FILE,
    ClipOptions,
    ModelOptions,
    SamplingOptions,
    StrengthOptions,
    clip_options,
    command,
    model_options,
    out_option,
    sampling_options,
    strength_options,
)


@command(
    "Make a video, with or without a concept.",
    "--concept lantern.safetensors --out new.mp4 --motion-strength 1.2",
    "--prompt 'a sks lantern, red paper, in the snow, zub swinging'",
)
@click.option("--concept", type=FILE, metavar="FILE", show_default="none", help="A concept made by 'train'.")
@strength_options
@sampling_options("the concept's motion prompt")
@out_option("The video: an mp4, gif or webm file. An existing file is replaced.")
@clip_options(
    "the concept's; without one 17 embedded, 81 Wan, 121 LTX",
    "the concept's; without one 64x64 embedded, 832x480 Wan, 768x512 LTX",
)
@model_options
def sample(
    concept: Path | None,
    strengths: StrengthOptions,
    sampling: SamplingOptions,
    out: Path,
    clip: ClipOptions,
    model: ModelOptions,
) -> None:
    """Make a video from a prompt, with a concept or with the model alone."""
    from ..compose.apply import applied_concepts
    from ..compose.strengths import WeightedConcept
    from ..concept import Strengths
    from ..concept_file.file import load_concept
    from ..errors import PromptError
    from .model import clip_shape, load_model
    from .video import sample_to_file
    from .words import tell_unknown_words_of_video

    check_out(out, *VIDEO_SUFFIXES)
    loaded = load_concept(concept) if concept else None
    prompt = sampling.prompt if sampling.prompt is not None else loaded and loaded.motion_prompt
    if prompt is None:
        raise PromptError("There is no prompt.", hint="Give one with --prompt, or a concept, which has its own.")
    tell_unknown_words_of_video(model.model, prompt, sampling, [loaded] if loaded else [])
    chosen = load_model(model, clip=clip)
    backbone = chosen.backbone
    shape = clip_shape(clip, chosen, loaded)
    wanted = Strengths(strengths.identity_strength, strengths.motion_strength)
    weighted = [WeightedConcept(concept=loaded, strengths=wanted)] if loaded else []
    with applied_concepts(backbone, weighted) as applied:
        sample_to_file(applied, backbone, shape, prompt, sampling, out)
    frames, height, width = shape
    say(f"Made {out}: {frames} frames of {width}x{height} at {backbone.format.fps:g} fps, seed {sampling.seed}.")
