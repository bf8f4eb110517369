"""Rectified flow: the straight path from data to noise, its velocity and the loss (Eq. 1 of Abdal et al. 2025).

Time is in [0, 1]: 0 is the data x_0, 1 is the noise. Shape letters: B batch; `...` any further dimensions.
"""

import torch
from torch import Tensor


def _per_sample(time_B: Tensor, like: Tensor) -> Tensor:
    return time_B.to(like.dtype).view(-1, *(1,) * (like.ndim - 1))


def interpolate(x_0: Tensor, noise: Tensor, time_B: Tensor) -> Tensor:
    """Noised sample x_t = (1 - t) x_0 + t e (Eq. 1)."""
    time = _per_sample(time_B, x_0)
    return (1 - time) * x_0 + time * noise


def target_velocity(x_0: Tensor, noise: Tensor) -> Tensor:
    """Velocity of the path, v = dx_t/dt = e - x_0 (Eq. 1)."""
    return noise - x_0


def velocity_from_denoised(x_t: Tensor, denoised: Tensor, time_B: Tensor) -> Tensor:
    """Velocity from a model's estimate of x_0, v = (x_t - x_0) / t; time must be above 0."""
    return (x_t - denoised) / _per_sample(time_B, x_t)


def flow_loss(velocity: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared error of the velocity, a scalar (Eq. 1).

    Args:
        weights: weight of each position, broadcastable to the velocity, with a mean above 0. Not in the paper.
    """
    error = (velocity - target).square()
    return error.mean() if weights is None else (weights * error).mean() / weights.mean()


def shift_time(time: Tensor, shift: float) -> Tensor:
    """Move times towards the noise, s t / (1 + (s - 1) t). Shift 1 changes nothing; Wan uses 3."""
    return shift * time / (1 + (shift - 1) * time)


def unshift_time(time: float, shift: float) -> float:
    """The time that `shift_time` moves to `time`."""
    return time / (shift - (shift - 1) * time)


def random_times(like: Tensor, shift: float, time_range: tuple[float, float]) -> Tensor:
    """Random times (B,) within `time_range` for the batch `like` (B, ...), uniform before the shift."""
    low, high = (unshift_time(time, shift) for time in time_range)
    return shift_time(low + (high - low) * torch.rand(len(like), device=like.device), shift)


def times_within(steps: int, shift: float, time_range: tuple[float, float]) -> Tensor:
    """Times (steps + 1,) for a model trained on `time_range` only: from its highest time down, with 0 for its lowest.

    The last step goes to 0 along the velocity at the second lowest time, which gives the clip that the model predicts.
    """
    low, high = (unshift_time(time, shift) for time in time_range)
    times = shift_time(torch.linspace(high, low, steps + 1), shift)
    times[-1] = 0.0
    return times


def sampling_times(steps: int, shift: float) -> Tensor:
    """Shifted times from 1 to 0, (steps + 1,)."""
    return shift_time(torch.linspace(1, 0, steps + 1), shift)
