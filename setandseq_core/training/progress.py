"""The state that a stage reports after each step, and how to stop it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .validation import Validation


class StopTraining(Exception):
    """A progress callback raises this to stop the training and keep what was learned so far."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Progress:
    """The state of a stage after a step."""

    stage: str
    step: int
    """Steps done, 1 to `steps`."""
    steps: int
    loss: float
    losses: Sequence[float]
    """Losses of all steps so far, including those before a resume."""
    seconds_left: float
    """Estimated time left for this stage, from its pace so far."""
    unsaved: str = ""
    """Reason why the state could not be saved, such as a full disk; "" if it was saved."""
    lowered_at: int | None = None
    """The step before which the learning rate was lowered, because the loss was not finite there."""
    validation: Validation | None = None
    """The stage's validation losses so far, and how to measure another one."""
    saved_more: str = ""
    """The changes made when memory ran out, in words; "" if it never did."""


ProgressCallback = Callable[[Progress], None]
