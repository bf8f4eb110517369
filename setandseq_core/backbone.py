"""Everything that the method needs from a video model.

Shape letters: B batch, C latent channels, F frames or latent frames, H, W height and width, N tokens, D text width.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from .fingerprint import BaseFingerprint
from .prompts import Condition, PriorPrompt

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(kw_only=True, slots=True)
class Savings:
    """Ways to train in less memory with the same result; each of them costs time.

    A training that runs out of memory changes them and continues, so they are read again in every step.
    """

    recomputed: int = 0
    """Number of blocks, from the first, that keep only their inputs and run again in the backward pass."""
    in_main_memory: bool = False
    """Whether the inputs of these blocks wait in main memory until the backward pass."""
    samples_at_once: int = 0
    """Samples in one forward and backward pass; a step sums their gradients. 0 takes the whole batch at once."""
    memory: int = 0
    """Bytes that training takes on the device besides the model's weights; 0 if unknown."""


@dataclass(kw_only=True, slots=True, frozen=True)
class VideoFormat:
    """Frame rate, lengths and sizes of the clips that a model takes."""

    fps: float
    """Frames per second of the videos that the model was trained on."""
    frames: int
    """Default length, which is the longest that the model was trained on."""
    size: Size
    """Default size; its area is the largest that the model was trained on."""
    size_multiple: int
    """Height and width in pixels must be multiples of this."""
    patch: int = 2
    """Side of one token of the transformer, in latents."""
    time_stride: int = 4
    """Frames that each latent frame stands for, except the first one."""
    time_offset: int = 1
    """Frames that the first latent frame stands for."""

    @property
    def min_frames(self) -> int:
        """The shortest clip in which something can move: two latent frames."""
        return self.time_offset + self.time_stride

    def whole(self, frames: int) -> int:
        """Rounds `frames` down to whole latent frames: n = stride k + offset."""
        return (frames - self.time_offset) // self.time_stride * self.time_stride + self.time_offset

    def length(self, latent_frames: int) -> int:
        """Number of frames that this many latent frames stand for."""
        return (latent_frames - 1) * self.time_stride + self.time_offset


class GivenPictures(Protocol):
    """Pictures that a model gets besides the prompt of an ordered clip, such as its first frame."""

    first_frames: tuple[bool, ...]
    """Whether training gives the model a clip's first frame, used in turn: (True,) for a model that needs it, (False,
    True) for a model that works with and without it, (False,) if pictures come only from the artist's graph."""

    def of_graph(self, text: Condition, /) -> Condition:
        """The condition of the artist's own clip, with the pictures of the artist's graph if there are any."""
        ...

    def with_first_frame(self, text: Condition, first_1HWC: Tensor, length: int, /) -> Condition:
        """The condition of a clip with its first frame. Pictures of the graph that say the same are kept.

        Args:
            first_1HWC: the first frame, in [0, 1], in the size of the clip.
            length: number of frames of the clip.
        """
        ...


class Backbone(Protocol):
    """A video model: a rectified-flow transformer with its VAE and text encoder."""

    name: str
    """Name of the model for people."""
    base_label: str
    """Civitai's label of the model, for LoRA managers; "" if the shapes tell it when the file is written."""
    variant: str
    """Hash of everything except the model's own weights that changes its output, such as added LoRAs; "" if nothing
    does."""
    layers: dict[str, str]
    """The linear layers to adapt: native name -> name in `module`."""
    format: VideoFormat
    guidance: float
    """Classifier-free guidance that suits the model's clips; 1 if the model has guidance built in."""
    shift: float
    """Time shift of sampling and training (`flow.shift_time`); above 1 favours high noise."""
    reads_padding: bool
    """Whether the network reads the padding of a prompt, which is where learned tokens are placed."""
    takes_regions: bool
    """Whether concepts can act in regions, which needs tokens of 2x2 latents and the text as a separate argument."""
    given: GivenPictures | None
    """Pictures that the model gets besides prompts; None for text-to-video models."""

    @property
    def module(self) -> nn.Module:
        """The transformer that holds the layers."""
        ...

    @property
    def device(self) -> torch.device:
        """The device for latents and text."""
        ...

    def fingerprint(self) -> BaseFingerprint:
        """Shapes and projections of the layers, by which a concept recognises its base model."""
        ...

    def running(
        self, batch_shape: tuple[int, ...], /, savings: Savings | None = None, *, load: bool = True
    ) -> AbstractContextManager[None]:
        """A context in which `velocity` may be called, with or without gradients; it may be entered more than once.

        Training, sampling and validation all enter it, so a model may load its weights here and free them afterwards.

        Args:
            batch_shape: largest batch of latents (B, C, F, H, W) that the model will be given.
            savings: the blocks that a training recomputes, and the memory that it takes.
            load: whether to load the weights onto the device; False for a run on fake tensors.
        """
        ...

    def step(self) -> AbstractContextManager[object]:
        """A context around one training step: its forward and backward pass."""
        ...

    def memory_limit(self) -> int:
        """Bytes of device memory that a model and its training may take together."""
        ...

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (C, F', H', W') of the latents of a clip of this size."""
        ...

    def encode_frames(self, frames_FHWC: Tensor) -> Tensor:
        """Encode frames in [0, 1] into latents (C, F', H', W'), normalised for the transformer."""
        ...

    def decode_latents(self, latents_CFHW: Tensor) -> Tensor:
        """Decode normalised latents (C, F', H', W') into frames (F, H, W, 3) in [0, 1]."""
        ...

    def known_prompts(self, count: int, seed: int, own: str, /) -> list[PriorPrompt]:
        """About `count` two-part prompts of scenes that the model can show, for prior clips.

        Args:
            own: a concept's prompt without its tokens, or "" for several concepts. Some prompts show other things in
                the place that it names; otherwise the place alone would tell the concept's clip from prior clips.
        """
        ...

    def encode_prompt(self, prompt: str, /) -> Condition:
        """Encode the prompt for the model. Prompts of different lengths may give different numbers of tokens."""
        ...

    def velocity(self, x_t_BCFHW: Tensor, time_B: Tensor, texts: Sequence[Condition]) -> Tensor:
        """The model's velocity at x_t; time in [0, 1], 1 is noise.

        Args:
            texts: one for each of the B samples, from `encode_prompt`; only their tokens may have been changed.
        """
        ...
