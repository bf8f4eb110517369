"""Put the plan of a training into words, and find the one change that would save most."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..backbone import Backbone
from ..config import MethodConfig
from ..prompts import Condition
from .plan import Size, TrainingPlan, plan_training
from .savings import in_words as savings_in_words

LONG_SECONDS = 2 * 60 * 60
"""A plan longer than this comes with a proposal to shorten it."""
GB = 2**30
"""Bytes in a GB, as graphics memory is counted."""
SMALLER = 0.75
"""Factor for the height and width of a clip in a proposal."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Change:
    """A single change to the settings of a training, and the plan with it."""

    words: str
    plan: TrainingPlan


def plan_in_words(plan: TrainingPlan, operations_a_second: float) -> str:
    """For example "Wan 2.1 14B fp8, 14,040 tokens a clip: 19.1 of 24.0 GB with checkpointing, about 35 min"."""
    savings = next((words for each in plan.savings if (words := savings_in_words(each))), "")
    tokens = max(stage.tokens for stage in plan.stages)
    parts = [f"{_gb(plan.memory)} of {_gb(plan.limit)} GB {savings}".strip()]
    if plan.memory > plan.limit:
        parts = [f"{_gb(plan.training_memory)} of {_gb(plan.limit)} GB {savings}".strip()]
        parts.append("part of the model waits in main memory" if plan.fits else "which is too much")
    parts.append(f"about {duration(plan.operations / operations_a_second)}")
    return f"{plan.name}, {tokens:,} tokens a sample: {', '.join(parts)}."


def proposal_in_words(
    backbone: Backbone,
    size: Size,
    config: MethodConfig,
    plan: TrainingPlan,
    operations_a_second: float,
    *,
    text: Condition,
) -> str:
    """The change that saves most if a training does not fit or takes over two hours; otherwise ""."""
    if plan.fits and plan.operations / operations_a_second <= LONG_SECONDS:
        return ""
    if plan.fits:
        best = min(changes(backbone, size, config, plan, text), key=lambda change: change.plan.operations)
        return f"What saves most: {best.words}, about {duration(best.plan.operations / operations_a_second)}."
    best = min(changes(backbone, size, config, plan, text), key=lambda change: change.plan.training_memory)
    return f"What saves most: {best.words}, {_gb(best.plan.training_memory)} GB."


def changes(
    backbone: Backbone, size: Size, config: MethodConfig, plan: TrainingPlan, text: Condition
) -> Iterator[Change]:
    """Single changes that make a training smaller, each with the resulting plan."""
    frames, height, width = size
    stages = tuple(stage.stage for stage in plan.stages)

    def planned(size: Size, config: MethodConfig) -> TrainingPlan:
        clips = None if plan.prior else 0  # the prior clips are already made
        return plan_training(
            backbone,
            size,
            config,
            text=text,
            stages=stages,
            limit=plan.limit,
            prior_clips=clips,
        )

    fewer = backbone.format.whole(max(backbone.format.min_frames, frames // 2 + 1))
    if fewer < frames:
        yield Change(words=f"{fewer} frames for {frames}", plan=planned((fewer, height, width), config))
    multiple = backbone.format.size_multiple
    low, narrow = (max(multiple, int(SMALLER * side) // multiple * multiple) for side in (height, width))
    if (low, narrow) != (height, width):
        smaller = planned((frames, low, narrow), config)
        yield Change(words=f"{narrow}x{low} pixels for {width}x{height}", plan=smaller)
    for words, changed in (
        ("half the batch", _halved(config, "batch")),
        ("half the steps", _halved(config, "steps")),
    ):
        yield Change(words=words, plan=planned(size, changed))


def duration(seconds: float) -> str:
    """A duration in words, such as "35 min" or "2 h 10 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def _halved(config: MethodConfig, setting: str) -> MethodConfig:
    def half(number: int) -> int:
        return max(1, number // 2)

    one, two = config.set_stage, config.sequence_stage
    if setting == "batch":
        return replace(
            config, set_stage=replace(one, batch=half(one.batch)), sequence_stage=replace(two, batch=half(two.batch))
        )
    return replace(
        config, set_stage=replace(one, steps=half(one.steps)), sequence_stage=replace(two, steps=half(two.steps))
    )


def _gb(count: int) -> str:
    number = count / GB
    return f"{number:.1f}" if number >= 1 else f"{number:.2f}"
