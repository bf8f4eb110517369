"""The command `prior`: make clips with the model itself, for prior preservation."""

from pathlib import Path

import click

from ..config import EULER, SAMPLERS, SamplingConfig
from .console import counting, say
from .options import COUNT, FILE, NUMBER, SEED, ClipOptions, ModelOptions, clip_options, command, model_options
from .signals import Stopped, stopping_gently


@command(
    "Make clips with the model itself, for prior preservation.",
    "--out prior --prompts prompts.txt",
)
@click.option(
    "--prompts",
    type=FILE,
    metavar="FILE",
    show_default="built-in prompts",
    help="A text file with one two-part prompt per line: 'A brown dog | It is running along a beach'.",
)
@click.option(
    "--clips",
    type=COUNT,
    default=16,
    metavar="N",
    show_default=True,
    help="Number of clips if --prompts is not given.",
)
@click.option(
    "--out",
    type=FILE,
    required=True,
    metavar="FOLDER",
    help="Folder for the clips. Give it to 'train --prior'.",
)
@click.option(
    "--seed",
    type=SEED,
    default=0,
    metavar="N",
    show_default=True,
    help="Random seed: the same seed gives the same clips.",
)
@click.option(
    "--steps",
    type=COUNT,
    default=SamplingConfig().steps,
    metavar="N",
    show_default=True,
    help="Sampling steps per clip. Most step-distilled models need 4.",
)
@click.option(
    "--guidance",
    type=NUMBER,
    default=0.0,
    metavar="X",
    show_default="the model's own",
    help="How strictly a clip follows its prompt. Use 1 (no guidance) for step-distilled models.",
)
@click.option(
    "--sampler",
    type=click.Choice(SAMPLERS),
    default=EULER,
    show_default=True,
    help="Use lcm for models that were distilled for it.",
)
@clip_options("17 embedded, 81 Wan, 121 LTX", "64x64 embedded, 832x480 Wan, 768x512 LTX")
@model_options
def prior(
    prompts: Path | None,
    clips: int,
    out: Path,
    seed: int,
    steps: int,
    guidance: float,
    sampler: str,
    clip: ClipOptions,
    model: ModelOptions,
) -> None:
    """Make prior clips with the model itself.

    Training on them as well keeps the model from forgetting everything else that it can show. Clips that are already
    in the folder are kept.
    """
    from ..clips.prior_prompts import automatic_prompts, read_prompts
    from ..training.prior import make_prior
    from .files import check_folder, read_text
    from .model import clip_shape, load_model
    from .words import tell_unknown_words

    check_folder(out)
    sampling = SamplingConfig(steps=steps, guidance=guidance, sampler=sampler)
    given = read_prompts(read_text(prompts)) if prompts else None
    tell_unknown_words(model.model, [prompt.motion for prompt in given or ()])
    chosen = load_model(model, clip=clip)
    shape = clip_shape(clip, chosen)
    wanted = given or automatic_prompts(chosen.backbone, [], clips, seed)
    show = counting("prior clips")
    with stopping_gently("Stopping after this clip. Press Ctrl-C again to stop at once.") as wish:

        def progress(done: int, count: int) -> None:
            show(done, count)
            if wish.asked:
                raise Stopped(wish.number)

        made = make_prior(
            chosen.backbone,
            wanted,
            shape,
            seed=seed,
            sampling=sampling,
            folder=out,
            progress=progress,
        )
    frames, height, width = shape
    say(f"Made {len(made.prompts)} prior clips of {width}x{height}, {frames} frames, in {out}.")
