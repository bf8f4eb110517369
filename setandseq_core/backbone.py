"""What the method needs from a video model, and nothing more.

Shape letters: B batch, C latent channels, F frames or latent frames, H, W height and width, N tokens, D text width.
"""

from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from .fingerprint import BaseFingerprint
from .prompts import PriorPrompt


class Backbone(Protocol):
    """A video model: a rectified-flow transformer with its VAE and text encoder."""

    family: str
    """Which models share layer names and shapes of latents, such as "wan"."""
    name: str
    """What people call the model."""
    variant: str
    """What else its answers depend on, such as LoRAs that are on it, as a hash; "" is nothing."""
    layers: dict[str, str]
    """The linear layers to adapt: native name -> name in `module`."""
    fps: float
    size_multiple: int
    """Height and width in pixels must be multiples of this."""
    shift: float
    """How far sampling and training times lean towards the noise (`flow.shift_time`)."""

    @property
    def module(self) -> nn.Module:
        """Where the layers are."""
        ...

    @property
    def device(self) -> torch.device:
        """Where latents and text have to be."""
        ...

    def fingerprint(self) -> BaseFingerprint:
        """What the adapted layers look like, to know the model's concepts again."""
        ...

    def training(self, batch_shape: tuple[int, ...], /) -> AbstractContextManager[None]:
        """Whatever the model needs for gradients to flow through it, for batches of latents (B, C, F, H, W)."""
        ...

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (C, F', H', W') of the latents of that many frames of that many pixels."""
        ...

    def encode_frames(self, frames_FHWC: Tensor) -> Tensor:
        """Latents (C, F', H', W') of frames in [0, 1], normalised as the transformer takes them."""
        ...

    def decode_latents(self, latents_CFHW: Tensor) -> Tensor:
        """Frames (F, H, W, 3) in [0, 1] of such latents."""
        ...

    def known_prompts(self, count: int, seed: int, own: str, /) -> list[PriorPrompt]:
        """Two-part prompts of what the model can show, about `count`, for prior clips.

        Args:
            own: a concept's prompt without its tokens, or "" for several concepts. A model that knows the places of
                its prompts puts other things in that place, or the place alone would tell the concept from the prior.
        """
        ...

    def encode_prompt(self, prompt: str, /) -> Tensor:
        """The prompt's tokens, (N, D); every prompt gives the same N."""
        ...

    def velocity(self, x_t_BCFHW: Tensor, time_B: Tensor, text_BND: Tensor) -> Tensor:
        """The model's velocity at x_t; time in [0, 1], 1 is noise."""
        ...
