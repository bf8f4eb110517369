"""The validation loss: the same clip at the same times with the same noise, so that its values compare between steps.

Shape letters: B batch, C latent channels, F latent frames, H, W latent height and width.
"""

import torch
from torch import Tensor

from ..backbone import Backbone
from ..condition import Condition
from ..flow import flow_loss, interpolate, shift_time, target_velocity, unshift_time
from ..sample import latent_noise

QUANTILES = (0.2, 0.5, 0.8)
"""Of the times that are trained on."""


@torch.no_grad()
def validation_loss(
    backbone: Backbone, x_0_BCFHW: Tensor, text: Condition, time_range: tuple[float, float] = (0.0, 1.0)
) -> float:
    """Mean flow-matching loss (Eq. 1) at fixed times of the range with fixed noise, nothing dropped and nothing masked.

    One sample at a time, so that it takes less memory than any training step; the global random state stays as it is.

    Args:
        x_0_BCFHW: samples, taken in turn.
        text: the prompt of all.
    """
    low, high = (unshift_time(time, backbone.shift) for time in time_range)
    losses = []
    for index, quantile in enumerate(QUANTILES):
        x_0 = x_0_BCFHW[index % len(x_0_BCFHW)].unsqueeze(0)
        noise = latent_noise(tuple(x_0.shape), index).to(x_0)
        time_B = shift_time(x_0.new_tensor([low + quantile * (high - low)]), backbone.shift)
        with backbone.running(tuple(x_0.shape)):
            velocity = backbone.velocity(interpolate(x_0, noise, time_B), time_B, [text])
        losses.append(flow_loss(velocity, target_velocity(x_0, noise)).item())
    return sum(losses) / len(losses)
