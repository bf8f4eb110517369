"""Measure the detectors' accuracy on rendered clips whose captions are known."""

from collections import defaultdict
from collections.abc import Iterator
from random import Random

import torch
from torch import Tensor
from torch.nn import functional

from setandseq_core.embedded.probes.detectors import detect, score
from setandseq_core.embedded.world.scene import Caption, random_caption, render, scene_of


def accuracy(count: int, seed: int, degrade: bool = False) -> dict[str, float]:
    """Share of rendered clips, half with one sprite and half with two, in which each attribute is read correctly.

    Sprite attributes are counted per sprite, separately for scenes with one ("colour") and two ("pair colour").

    Args:
        count: number of clips.
        seed: seed of the clips.
        degrade: whether to degrade the clips first; see `degraded`.
    Returns:
        Accuracy in [0, 1] by attribute.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for caption, frames_FHWC in truth(count, seed, degrade=degrade):
        pair = "pair " if len(caption.sprites) == 2 else ""
        for name, value in score(detect(frames_FHWC), caption).items():
            words = name.split()
            right[pair + words[-1] if words[0] == "sprite" else name].append(value)
    return {name: sum(values) / len(values) for name, values in sorted(right.items())}


def truth(count: int, seed: int, *, degrade: bool = False) -> Iterator[tuple[Caption, Tensor]]:
    """Captions with their clips, alternating between one sprite and two."""
    rng, noise = Random(seed), torch.Generator().manual_seed(seed)
    for index in range(count):
        caption = random_caption(rng, sprites=1 + index % 2)
        frames_FHWC = render(scene_of(caption, rng))
        yield caption, degraded(frames_FHWC, noise) if degrade else frames_FHWC


def degraded(frames_FHWC: Tensor, generator: torch.Generator) -> Tensor:
    """A clip degraded as by a lossy model, to about 22 to 26 dB.

    It is scaled to half the resolution and back, blurred by a Gaussian of 1 pixel, shifted in each colour channel
    (deviation 0.02), and noised in each pixel (deviation 0.03).
    """
    frames_FCHW = frames_FHWC.movedim(-1, 1)
    size = frames_FCHW.shape[-2:]
    small = functional.interpolate(frames_FCHW, scale_factor=0.5, mode="area")
    frames_FCHW = functional.interpolate(small, size=size, mode="bilinear", align_corners=False)
    kernel = torch.exp(-torch.arange(-3.0, 4.0).square() / 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 7)
    padded = functional.pad(frames_FCHW, (3, 3, 3, 3), mode="replicate")
    blurred = functional.conv2d(functional.conv2d(padded, kernel, groups=3), kernel.movedim(-1, -2), groups=3)
    shift = 0.02 * torch.randn(3, 1, 1, generator=generator)
    noise = 0.03 * torch.randn(blurred.shape, generator=generator)
    return (blurred + shift + noise).clamp(0, 1).movedim(1, -1)
