"""How good the embedded model is: its VAE, and how far it follows prompts it never trained on."""

from collections import defaultdict
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from setandseq_core.backbone import Backbone
from setandseq_core.embedded.probes.detectors import detect, score
from setandseq_core.embedded.world.scene import FRAMES, SIZE, Caption, random_caption, render, scene_of
from setandseq_core.sample import latent_noise, sample_latents


def held_out_captions(count: int, seed: int = 0) -> list[Caption]:
    """Captions the base never trained on, one sprite and two in turn."""
    rng = Random(f"held out {seed}")
    return [random_caption(rng, sprites=1 + index % 2, held_out=True) for index in range(count)]


def vae_psnr(backbone: Backbone, count: int = 40) -> float:
    """Mean PSNR in dB of encoding and decoding clips of held-out captions."""
    values = []
    for index, caption in enumerate(held_out_captions(count)):
        frames = render(scene_of(caption, Random(index)))
        with torch.no_grad():
            decoded = backbone.decode_latents(backbone.encode_frames(frames))
        values.append(-10 * (decoded - frames).square().mean().log10().item())
    return sum(values) / len(values)


def generate(backbone: Backbone, prompt: str, seed: int) -> Tensor:
    """A clip of the embedded size, (F, H, W, 3) in [0, 1]."""
    noise = latent_noise(backbone.latent_shape(FRAMES, SIZE, SIZE), seed)
    return backbone.decode_latents(sample_latents(backbone, noise, prompt))


def prompt_following(backbone: Backbone, count: int, progress: Callable[[int], None] | None = None) -> dict[str, float]:
    """Share of generated clips of held-out captions that show what the caption says, by attribute.

    Scenes of two sprites are counted apart ("pair ..."); "pair both objects" is colour, shape and motion of both.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for seed, caption in enumerate(held_out_captions(count)):
        seen = score(detect(generate(backbone, str(caption), seed)), caption)
        pair = "pair " if len(caption.sprites) == 2 else ""
        for name, value in seen.items():
            right[pair + name.removeprefix("sprite 1 ").removeprefix("sprite 2 ")].append(value)
        if pair:
            right["pair both objects"].append(seen["sprite 1 object"] and seen["sprite 2 object"])
        if progress:
            progress(seed + 1)
    return {name: sum(values) / len(values) for name, values in sorted(right.items())}
