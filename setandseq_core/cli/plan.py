"""The command `plan`: estimate a training before it begins."""

import click

from .console import say
from .options import (
    NUMBER,
    ClipOptions,
    MethodOptions,
    ModelOptions,
    clip_options,
    command,
    method_options,
    model_options,
)

GB = 2**30
"""Bytes in a GB, as graphics memory is counted."""


@command(
    "Estimate the memory and time of a training.",
    "--frames 33 --size 832x480 --model wan2.1_t2v_1.3B",
    "--memory 24 --speed 80",
)
@click.option(
    "--memory",
    type=NUMBER,
    metavar="GB",
    show_default="what this device has free",
    help="Memory of the device to plan for.",
)
@click.option(
    "--speed",
    type=NUMBER,
    metavar="TFLOPS",
    show_default="measured on this device",
    help="Speed of the device to plan for, in 10^12 operations a second. Half of its peak is a good guess.",
)
@method_options
@clip_options("17 embedded, 81 Wan, 121 LTX", "64x64 embedded, 832x480 Wan, 768x512 LTX")
@model_options
def plan(
    memory: float | None,
    speed: float | None,
    method: MethodOptions,
    clip: ClipOptions,
    model: ModelOptions,
) -> None:
    """Estimate the memory and time of a training with a clip of this length and size. Nothing is trained.

    The estimate says how the training fits into the memory. If it does not fit or takes over two hours, the estimate
    names the single change that saves most.
    """
    from ..training.plan import plan_training
    from ..training.proposal import duration, plan_in_words, proposal_in_words
    from ..training.speed import speed as measured_speed
    from .model import DTYPES, clip_shape, load_model
    from .references import method_config

    if min(memory or 1, speed or 1) <= 0:
        raise click.UsageError("--memory and --speed must be above 0.", click.get_current_context())
    config = method_config(method, model.model)
    chosen = load_model(model, clip=clip)
    backbone, size = chosen.backbone, clip_shape(clip, chosen)
    text = backbone.encode_prompt("a clip")
    limit = None if memory is None else int(memory * GB)
    rate = speed * 1e12 if speed else measured_speed(backbone.device, DTYPES[model.dtype])
    found = plan_training(backbone, size, config, text=text, limit=limit)
    say(plan_in_words(found, rate))
    for stage, savings in zip(found.stages, found.savings, strict=True):
        took = duration(stage.operations(savings) / rate)
        what = "look" if stage.stage == "set" else "motion"
        say(f"Learning the {what}: {stage.steps} steps of {stage.batch} samples, about {took}.")
    if found.prior:
        say(f"Prior clips: about {duration(found.prior / rate)}, once for each model and size of clip.")
    proposal = proposal_in_words(backbone, size, config, found, rate, text=text)
    if proposal:
        say(proposal)
