"""The embedded model as a backbone: a small Wan with its own text encoder and its weights in `weights/`."""

import torch
from torch import Tensor

from ..backbones.wan import WanBackbone
from ..backbones.wan_files import load_transformer, load_vae
from .files import TRANSFORMER_FILE, VAE_FILE
from .prior_prompts import world_prompts
from .settings import EMBEDDED_CONFIG, EMBEDDED_FORMAT, EMBEDDED_GUIDANCE
from .text import encode_prompt
from .vae import decode_clip, encode_moments
from .world.scene import FRAMES, SIZE

__all__ = ["EMBEDDED_CONFIG", "EMBEDDED_FORMAT", "NAME", "load_embedded"]

NAME = "Set-and-Sequence embedded model"
MOST_PIXELS = 16 * FRAMES * SIZE * SIZE
"""Largest clip, in pixels of all frames, that the VAE takes whole instead of in diffusers' chunks, which need less
memory."""
PIXELS_PER_LATENT = 4 * 8 * 8


class EmbeddedBackbone(WanBackbone):
    """The embedded model, whose VAE takes small clips whole: three times as fast, with the same result."""

    guidance = EMBEDDED_GUIDANCE

    def _latents(self, pixels_BCFHW: Tensor) -> Tensor:
        if pixels_BCFHW[0, 0].numel() > MOST_PIXELS:
            return super()._latents(pixels_BCFHW)
        return encode_moments(self.vae, pixels_BCFHW)[0]

    def _pixels(self, latents_BCFHW: Tensor) -> Tensor:
        if latents_BCFHW[0, 0].numel() * PIXELS_PER_LATENT > MOST_PIXELS:
            return super()._pixels(latents_BCFHW)
        return decode_clip(self.vae, latents_BCFHW)


def load_embedded() -> EmbeddedBackbone:
    """Load the embedded model on the CPU in float32."""
    transformer = load_transformer(TRANSFORMER_FILE, torch.float32)
    return EmbeddedBackbone(
        transformer,
        load_vae(VAE_FILE, torch.float32),
        encode_prompt,
        NAME,
        format=EMBEDDED_FORMAT,
        known_prompts=world_prompts,
    )
