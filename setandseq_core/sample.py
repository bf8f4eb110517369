"""Generate a clip from a model, with or without a concept: steps along the velocity, with guidance."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from .backbone import Backbone
from .config import EULER, LCM, SamplingConfig
from .errors import BackboneError
from .flow import sampling_times
from .prompts import Condition, with_embeddings


@torch.no_grad()
def sample_latents(
    backbone: Backbone,
    noise_CFHW: Tensor,
    prompt: str,
    *,
    negative_prompt: str = "",
    embeddings: Sequence[Tensor] = (),
    given: Callable[[Condition], Condition] | None = None,
    steps: int = 20,
    guidance: float | None = None,
    sampler: str = EULER,
    times: Tensor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Latents (C, F, H, W) that the model generates from noise of the same shape.

    Uses Euler's method on dx_t/dt = v from t = 1 to 0. Classifier-free guidance pushes the velocity away from the
    negative prompt's, v = v_neg + guidance (v_pos - v_neg). With "lcm", every step jumps to the clip that the
    velocity points to and adds new noise: x_t' = (1 - t') (x_t - t v) + t' e (Luo et al. 2023).

    Args:
        embeddings: learned tokens of the concepts, each (D,), put into the prompt but not the negative prompt.
        given: adds the model's other inputs, such as a first frame, to both prompts.
        guidance: guidance scale; 1 follows the prompt alone and halves the work, and None takes the model's own.
        sampler: "euler" or "lcm".
        times: falling times (steps + 1,); `noise_CFHW` must be a clip noised to the first. If None, they go from 1
            to 0.
        progress: called with the steps done and the number of all steps.
    Raises:
        BackboneError: the model gives numbers that are not finite.
    """
    guidance = backbone.guidance if guidance is None else guidance
    texts = with_embeddings([backbone.encode_prompt(prompt)], embeddings)
    if guidance != 1.0:
        texts.append(backbone.encode_prompt(negative_prompt))
    if given:
        texts = [given(text) for text in texts]
    times = (sampling_times(steps, backbone.shift) if times is None else times).to(noise_CFHW.device)
    x_t = noise_CFHW
    with backbone.running((len(texts), *noise_CFHW.shape)):
        for index, (now, after) in enumerate(pairwise(times)):
            batch = x_t.expand(len(texts), *x_t.shape)
            velocity = backbone.velocity(batch, now.expand(len(texts)), texts)
            if guidance != 1.0:
                velocity = velocity[1] + guidance * (velocity[0] - velocity[1])
            velocity = velocity.reshape(x_t.shape)
            if sampler == LCM:
                x_0 = x_t - now * velocity
                x_t = (1 - after) * x_0 + after * _new_noise(noise_CFHW, index)
            else:
                x_t = x_t + (after - now) * velocity
            if progress:
                progress(index + 1, steps)
    if not x_t.isfinite().all():
        raise BackboneError(
            "The model gives numbers that are not finite, so there is no video.",
            hint="Lower the strength of the concepts, or raise the precision of the model.",
        )
    return x_t


def sampled_as(backbone: Backbone, config: SamplingConfig) -> SamplingConfig:
    """The settings, with the model's own guidance if they set none."""
    return replace(config, guidance=config.guidance or backbone.guidance)


def _new_noise(first_CFHW: Tensor, index: int) -> Tensor:
    """Noise to add after step `index`; it depends on the index and the first noise only, on every machine."""
    seed = int(first_CFHW.flatten()[0].float().cpu().view(torch.int32)) & 0x7FFFFFFF
    generator = torch.Generator().manual_seed(seed + index)
    return torch.randn(first_CFHW.shape, generator=generator).to(first_CFHW)


def latent_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Normal noise from the CPU generator, the same on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
