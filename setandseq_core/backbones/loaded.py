"""The base class of all families that diffusers runs: a `Backbone` without its velocity.

Shape letters: B batch, C latent channels, F frames or latent frames, H, W height and width.
"""

# diffusers leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone import GivenPictures, Savings, VideoFormat
from ..clips.prior_prompts import real_world_prompts
from ..fingerprint import BaseFingerprint, fingerprint
from ..prompts import Condition, PriorPrompt
from ..training.savings import free_memory, recomputed
from .kept_text import TextEncoder

KnownPrompts = Callable[[int, int, str], list[PriorPrompt]]


class LoadedBackbone(ABC):
    """A transformer and a VAE of diffusers with a text encoder. A family adds its numbers and its velocity.

    Args:
        blocks: name of the transformer's list of blocks.
        native_name: maps the name of a layer in diffusers to its native one.
        skip: words in the names of layers that are not adapted.
        latents_C: mean and standard deviation of each channel of the VAE's latents.
    """

    family: str
    """Its name in concept files, the same word as in nodes/families.py."""
    shift: float
    guidance: float
    variant = ""
    base_label = ""
    given: GivenPictures | None = None
    reads_padding = True
    takes_regions = False

    def __init__(
        self,
        transformer: Any,
        vae: Any,
        text_encoder: TextEncoder,
        name: str,
        *,
        format: VideoFormat,
        known_prompts: KnownPrompts = real_world_prompts,
        blocks: str,
        native_name: Callable[[str], str],
        skip: tuple[str, ...] = (),
        latents_C: tuple[Tensor, Tensor],
    ):
        self.module = transformer.requires_grad_(False).eval()
        self._dtype: torch.dtype = transformer.dtype  # read once, because diffusers searches all layers for it
        self.vae = vae.requires_grad_(False).eval()
        self._encode_text = text_encoder
        self.name = name
        self._fingerprint: BaseFingerprint | None = None
        self.format = format
        self.known_prompts = known_prompts
        self._blocks: nn.ModuleList = getattr(transformer, blocks)
        self.layers: dict[str, str] = {
            native_name(path): path
            for path, layer in self._blocks.named_modules(prefix=blocks)
            if isinstance(layer, nn.Linear) and not any(word in path for word in skip)
        }
        mean_C, std_C = (each_C.detach().float().cpu() for each_C in latents_C)
        self._mean = mean_C.view(-1, 1, 1, 1)
        self._std = std_C.view(-1, 1, 1, 1)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def fingerprint(self) -> BaseFingerprint:
        if self._fingerprint is None:  # computed once, because later the weights may be spread over processes
            self._fingerprint = self._computed_fingerprint()
        return self._fingerprint

    def _computed_fingerprint(self) -> BaseFingerprint:
        weights = {name: self.module.get_parameter(f"{path}.weight").detach() for name, path in self.layers.items()}
        return fingerprint(self.family, weights)

    def running(
        self, _batch_shape: tuple[int, ...], /, savings: Savings | None = None, *, load: bool = True
    ) -> AbstractContextManager[None]:
        """Recompute blocks as the savings say. The whole model stays where it was loaded, so `load` is ignored."""
        return recomputed(self._blocks if savings else (), savings or Savings())

    def memory_limit(self) -> int:
        """Free bytes on the device plus the bytes that the model occupies."""
        weights = sum(weight.nbytes for weight in self.module.parameters())
        return free_memory(self.device) + weights

    def step(self) -> AbstractContextManager[None]:
        """Does nothing: in diffusers, no block of these families overwrites a tensor that its backward pass needs."""
        return nullcontext()

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (C, F', H', W') of the latents of a clip of this size."""
        side = self.format.size_multiple // self.format.patch
        latent_frames = (frames - self.format.time_offset) // self.format.time_stride + 1
        return len(self._mean), latent_frames, height // side, width // side

    def encode_frames(self, frames_FHWC: Tensor) -> Tensor:
        """Normalised latents (C, F', H', W') of frames in [0, 1]: the mean of the VAE's distribution."""
        pixels = frames_FHWC.permute(3, 0, 1, 2).unsqueeze(0).to(self.vae.device, self.vae.dtype) * 2 - 1
        latents = self._latents(pixels)[0].float().cpu()
        return ((latents - self._mean) / self._std).to(self.device)

    def _latents(self, pixels_BCFHW: Tensor) -> Tensor:
        """The VAE's own output, (B, C, F', H', W'), for pixels in [-1, 1]."""
        encoded: Any = self.vae.encode(pixels_BCFHW)
        return encoded.latent_dist.mode()

    @torch.no_grad()
    def decode_latents(self, latents_CFHW: Tensor) -> Tensor:
        """Frames (F, H, W, 3) in [0, 1]."""
        latents = latents_CFHW.float().cpu() * self._std + self._mean
        pixels = self._pixels(latents.unsqueeze(0).to(self.vae.device, self.vae.dtype))[0]
        return ((pixels.float().cpu() + 1) / 2).clamp(0, 1).permute(1, 2, 3, 0)

    def _pixels(self, latents_BCFHW: Tensor) -> Tensor:
        """The VAE's own output, (B, 3, F, H, W) in [-1, 1]."""
        return self.vae.decode(latents_BCFHW, return_dict=False)[0]

    def encode_prompt(self, prompt: str, /) -> Condition:
        """Tokens of the prompt, as many as the family's text encoder gives."""
        return Condition(tokens_ND=self._encode_text(prompt).to(self.device))

    @abstractmethod
    def velocity(self, x_t_BCFHW: Tensor, time_B: Tensor, texts: Sequence[Condition]) -> Tensor:
        """v at x_t, in float32; time 1 is noise."""
