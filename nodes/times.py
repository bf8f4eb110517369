"""Converts between the noise levels (sigmas) of a MODEL and the times of a rectified flow.

Shape letters: B batch, C latent channels, F, H, W latent frames, height and width.
"""

from dataclasses import dataclass
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import CONST, COSMOS_RFLOW, EPS, IMG_TO_IMG_FLOW, V_PREDICTION_DDPM, X0
from torch import Tensor

SMALLEST_TIME = 1e-4
"""Below this time, the velocity cannot be computed from the denoised latents."""
LARGEST_TIME = 1 - 1e-4
"""Limit for models that measure noise by its ratio to the data, which is infinite at time 1."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Times:
    """Converts between times in [0, 1], where 1 is noise, and a model's sigma.

    On the straight path x_t = (1 - t) x_0 + t e, a flow model's sigma is t. With any other model, the sampler's latents
    are x_0 + sigma e, which equals x_t / (1 - t) with sigma = t / (1 - t).
    """

    sampling: Any
    """ComfyUI's `model_sampling`."""

    @property
    def known(self) -> bool:
        """Whether its denoised latents can be turned into a velocity."""
        makes_pictures_of_pictures = isinstance(self.sampling, X0 | IMG_TO_IMG_FLOW)
        kinds = CONST | COSMOS_RFLOW | EPS | V_PREDICTION_DDPM
        return isinstance(self.sampling, kinds) and not makes_pictures_of_pictures

    @property
    def is_flow(self) -> bool:
        """Whether sigma is the time itself."""
        return isinstance(self.sampling, CONST)

    @property
    def shift(self) -> float:
        """The model's time shift, as `flow.shift_time` takes it: the odds of the time halfway through sampling."""
        middle = float(self.sampling.percent_to_sigma(0.5))
        return round(middle / (1 - middle) if self.is_flow else middle, 6)

    def bounded(self, time_B: Tensor) -> Tensor:
        """Clamp times to the range in which the model can be run."""
        return time_B.clamp(SMALLEST_TIME, 1.0 if self.is_flow else LARGEST_TIME)

    def as_sampled(self, x_t: Tensor, time_B: Tensor) -> tuple[Tensor, Tensor]:
        """Convert x_t and bounded times to the sampler's latents and sigma (B,)."""
        if self.is_flow:
            return x_t, time_B
        time = time_B.view(-1, *[1] * (x_t.ndim - 1))
        x = x_t / (1 - time)
        if isinstance(self.sampling, V_PREDICTION_DDPM):  # the only kind that expects a scaled input
            x = x / (1 + (time / (1 - time)).square()).sqrt()
        return x, time_B / (1 - time_B)

    def of_sigma(self, sigma: Tensor) -> float:
        """The time of a batch, which is that of its largest sigma."""
        largest = float(sigma.max())
        return largest if self.is_flow else largest / (1 + largest)


def times_of(model: ModelPatcher) -> Times:
    """The `Times` of a MODEL, with any sampling that nodes have set on it."""
    return Times(sampling=model.get_model_object("model_sampling"))
