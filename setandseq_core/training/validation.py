"""The validation loss: the same clip at the same times with the same noise, so that steps can be compared.

Shape letters: B batch, C latent channels, F latent frames, H, W latent height and width.
"""

import json
import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..flow import flow_loss, interpolate, shift_time, target_velocity, unshift_time
from ..prompts import Condition, predicted_weights
from ..sample import latent_noise

QUANTILES = (0.2, 0.5, 0.8)
"""Quantiles of the training times at which a clip is validated."""
CHECKS = (0.0, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
"""Shares of a stage's steps after which it is validated. They are fixed, so that an interrupted training keeps the same
best state as an uninterrupted one."""
WORSE = 1.01
"""A stage got worse if its last validation loss is above this many times the first; a smaller rise may be chance."""
BEST = "best."
"""Prefix of the best state's tensors in a saved state."""


@dataclass(kw_only=True, slots=True)
class Validation:
    """The validation losses of a stage during training, and its best state so far."""

    measure: Callable[[], float]
    """Computes the validation loss of the current parameters."""
    losses: dict[int, float] = field(default_factory=dict[int, float])
    """Loss by the number of steps done; 0 is before the first step."""
    best: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Parameters by name after `best_step`, on the CPU."""
    best_step: int = 0
    """The validated step with the lowest loss, not counting the start; 0 if there is none yet."""

    def check(self, step: int, steps: int, parameters: Mapping[str, Tensor], *, ends: bool = False) -> bool:
        """Validate after a step, if it is due, and keep the parameters if they are the best so far.

        Args:
            step: number of steps done.
            steps: number of steps that the stage has.
            parameters: trainable parameters by name.
            ends: validate even if no check is due, because the stage ends.
        Returns:
            False if the loss is not finite.
        """
        due = ends or step in {round(share * steps) for share in CHECKS}
        if not due or step in self.losses:
            return True
        loss = self.measure()
        if not math.isfinite(loss):
            return False
        self.losses[step] = loss
        if step and (not self.best or loss < self.losses[self.best_step]):
            self.best_step = step
            self.best = _copied(parameters)
        return True

    def record(self) -> dict[str, str]:
        """The losses as text, for a saved state."""
        return {"validation": json.dumps(self.losses), "best_step": str(self.best_step)}

    def tensors(self, step: int) -> dict[str, Tensor]:
        """The best state, to be saved with the state after `step`; empty if they are the same."""
        return {} if step == self.best_step else {BEST + name: value for name, value in self.best.items()}

    def restore(
        self, record: Mapping[str, str], best: Mapping[str, Tensor], parameters: Mapping[str, Tensor] | None = None
    ) -> None:
        """Load losses and best state from a saved state. If it has none, keep only the loss before the first step.

        Args:
            record: made by `record`.
            best: made by `tensors`.
            parameters: parameters of the saved state, which is the best one itself if `best` is empty.
        """
        start = {step: loss for step, loss in self.losses.items() if step == 0}
        self.losses = start | {int(step): loss for step, loss in json.loads(record.get("validation", "{}")).items()}
        self.best_step = int(record.get("best_step", "0"))
        self.best = dict(best)
        if self.best_step and parameters and not best:
            self.best = _copied(parameters)

    @property
    def is_worse(self) -> bool:
        """Whether the last loss is clearly higher than the loss before the first step."""
        return 0 in self.losses and self.losses[max(self.losses)] > WORSE * self.losses[0]


def _copied(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in parameters.items()}


def complaint(losses: Mapping[int, float], taken_from: int | None) -> str:
    """A warning if a stage ended worse than it began, else "".

    Args:
        losses: validation loss by the number of steps done.
        taken_from: the step whose state is the result; None for the last step.
    """
    if taken_from is None:
        return ""
    before = losses[0]
    best = losses[taken_from]
    text = f"Training made it worse: the validation loss rose from {before:.3f} to {losses[max(losses)]:.3f}. "
    if best < before:
        text += f"The result is the best state, of step {taken_from} ({best:.3f})."
    else:
        text += f"No state is better than none; the result is the one of step {taken_from} ({best:.3f})."
    return f"{text} Lower the learning rate and train again."


@contextmanager
def evaluating(module: nn.Module) -> Generator[None]:
    """Put the module in evaluation mode, which switches coefficient dropout off, and back in training mode on exit."""
    module.eval()
    try:
        yield
    finally:
        module.train()


@torch.no_grad()
def validation_loss(
    backbone: Backbone, x_0_BCFHW: Tensor, text: Condition, time_range: tuple[float, float] = (0.0, 1.0)
) -> float:
    """Mean flow-matching loss (Eq. 1) at fixed times in `time_range` with fixed noise and no token masking.

    Takes one sample at a time, so it needs less memory than any training step. The global random state is unchanged.

    Args:
        x_0_BCFHW: clean samples, used in turn.
        text: the prompt of all samples.
    """
    low, high = (unshift_time(time, backbone.shift) for time in time_range)
    losses: list[float] = []
    for index, quantile in enumerate(QUANTILES):
        x_0 = x_0_BCFHW[index % len(x_0_BCFHW)].unsqueeze(0)
        noise = latent_noise(tuple(x_0.shape), index).to(x_0)
        time_B = shift_time(x_0.new_tensor([low + quantile * (high - low)]), backbone.shift)
        with backbone.running(tuple(x_0.shape)):
            velocity = backbone.velocity(interpolate(x_0, noise, time_B), time_B, [text])
        losses.append(flow_loss(velocity, target_velocity(x_0, noise), predicted_weights(text, x_0[0])).item())
    return sum(losses) / len(losses)
