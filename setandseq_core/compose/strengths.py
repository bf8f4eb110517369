"""Strengths that change while a clip is sampled: the first steps decide layout and motion, the last ones appearance.

Progress is the share of the sampling that is done, in [0, 1]: 1 minus the time before `flow.shift_time`. With evenly
spaced steps it is the share of steps done. ComfyUI calls it percent.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace

from torch import Tensor

from ..concept import AS_LEARNED, Concept, Strengths, expert_for, scaled_embeddings
from ..errors import ConfigError
from ..fingerprint import BaseFingerprint
from ..flow import unshift_time

Points = tuple[tuple[float, float], ...]
"""Pairs (progress, strength), ordered by rising progress."""


ALWAYS: Points = ((0.0, 1.0),)


def progress_at(time: float, shift: float) -> float:
    """Sampling progress in [0, 1] at a time in [0, 1], for a model that samples with `shift`."""
    return 1 - unshift_time(time, shift)


def strength_at(points: Points, progress: float) -> float:
    """The strength interpolated linearly between the points; constant before the first and after the last."""
    after = bisect_right([place for place, _ in points], progress)
    if after in (0, len(points)):
        return points[min(after, len(points) - 1)][1]
    (left, low), (right, high) = points[after - 1], points[after]
    return low + (high - low) * (progress - left) / (right - left)


@dataclass(kw_only=True, slots=True, frozen=True)
class StrengthSchedule:
    """Factors for identity and motion strength over the progress of sampling.

    Raises:
        ConfigError: there are no points, or their progress does not rise within [0, 1].
    """

    identity: Points = ALWAYS
    motion: Points = ALWAYS
    negative_strength: float = 1.0
    """Factor for both strengths in the negative prompt's prediction; below 1 shows more of the concept."""

    def __post_init__(self) -> None:
        for part, points in (("identity", self.identity), ("motion", self.motion)):
            places = [place for place, _ in points]
            if not points or places[0] < 0 or places[-1] > 1 or sorted(set(places)) != places:
                raise ConfigError(
                    f"The schedule of the {part} strength has points at {places}; it needs at least one, each later "
                    "than the one before.",
                    hint="Give points in order, from 0 (the first step) to 1 (the end).",
                )

    @property
    def constant(self) -> bool:
        """Whether the strengths never change and are the same for the negative prompt."""
        return self.negative_strength == 1 and all(
            len({strength for _, strength in points}) == 1 for points in (self.identity, self.motion)
        )

    def at(self, progress: float) -> Strengths:
        """Factors for both strengths at this progress."""
        return Strengths(strength_at(self.identity, progress), strength_at(self.motion, progress))


@dataclass(kw_only=True, slots=True, frozen=True, eq=False)
class WeightedConcept:
    """A concept with its strengths."""

    concept: Concept
    strengths: Strengths = AS_LEARNED
    schedules: tuple[StrengthSchedule, ...] = ()
    """Schedules whose factors all multiply the strengths."""

    @property
    def steady(self) -> bool:
        """Whether its strengths stay constant during sampling."""
        return all(schedule.constant for schedule in self.schedules)

    def at(self, progress: float = 0.0) -> Strengths:
        """The concept's strengths at this progress of the sampling, in [0, 1]."""
        found = self.strengths
        for schedule in self.schedules:
            found = found.times(schedule.at(progress))
        return found

    @property
    def negative_strength(self) -> float:
        """Factor for the strengths in the negative prompt's prediction."""
        return math.prod(schedule.negative_strength for schedule in self.schedules)

    def embeddings(self) -> list[Tensor]:
        """Its learned tokens at its strengths before the schedules, each (D,)."""
        return scaled_embeddings(self.concept.embeddings, self.strengths)

    def for_model(self, model: BaseFingerprint) -> "WeightedConcept":
        """The part of the concept for this model, which may be one expert of its base.

        Raises:
            ConceptMismatchError: the model is not the concept's base; see `experts.expert_for`.
        """
        return replace(self, concept=expert_for(self.concept, model))

    def times(self, strengths: Strengths, schedule: StrengthSchedule | None = None) -> "WeightedConcept":
        schedules = self.schedules if schedule is None else (*self.schedules, schedule)
        return replace(self, strengths=self.strengths.times(strengths), schedules=schedules)
