"""The material of both stages, encoded once: frame sets, frame sequences, stitched and prior clips.

Shape letters: C latent channels, F latent frames, H, W latent height and width, N tokens, D text width, S frames of
the set, K prior clips.
"""

# PyTorch leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbone import Backbone
from ..config import MethodConfig
from ..prompts import Condition, check_prompt, predicted_weights
from .prior_prompts import PriorSet


@dataclass(kw_only=True, slots=True, frozen=True)
class FrameSet:
    """A clip as the set stage sees it, encoded once."""

    latents_SCFHW: Tensor
    """Every frame encoded on its own, as a single frame or a still clip (then F is above 1), in an order that does not
    depend on time."""
    text: Condition
    """The static prompt."""
    weights_S1FHW: Tensor | None = None
    """Loss weight of each position; None weights all equally."""

    def content(self) -> list[Tensor | str]:
        """Everything that a result depends on, for the run's key."""
        weights = [] if self.weights_S1FHW is None else [self.weights_S1FHW]
        return [self.latents_SCFHW, *self.text.content(), *weights]


@dataclass(kw_only=True, slots=True, frozen=True)
class FrameSequence:
    """A clip as the sequence stage sees it, encoded once."""

    latents_CFHW: Tensor
    text: Condition
    """The motion prompt."""
    weights_1FHW: Tensor | None = None
    """Loss weight of each position; None weights all equally."""

    def content(self) -> list[Tensor | str]:
        """Everything that a result depends on, for the run's key."""
        weights = [] if self.weights_1FHW is None else [self.weights_1FHW]
        return [self.latents_CFHW, *self.text.content(), *weights]


Encoded = TypeVar("Encoded", FrameSet, FrameSequence)
"""A clip as one of the stages sees it."""

BACKGROUND_WEIGHT = 0.1
"""Loss weight of the surroundings of a masked subject; the subject has weight 1. Not in the paper."""


def subject_weights(mask_FHW: Tensor, latent_shape_FHW: tuple[int, int, int]) -> Tensor:
    """Loss weights (1, F', H', W') for latents, from a mask in pixels that is 1 on the subject.

    The first latent frame stands for the first frame; each later one stands for an equal share of the others.
    """
    frames, height, width = latent_shape_FHW
    small_FHW = F.interpolate(mask_FHW.unsqueeze(1).float(), (height, width), mode="area").squeeze(1)
    rest_FHW = small_FHW[1:].unflatten(0, (frames - 1, -1)).mean(1) if frames > 1 else small_FHW[1:]
    mask_1FHW = torch.cat([small_FHW[:1], rest_FHW]).unsqueeze(0)
    return BACKGROUND_WEIGHT + (1 - BACKGROUND_WEIGHT) * mask_1FHW


@torch.no_grad()
def encode_frame_set(
    backbone: Backbone,
    frames_FHWC: Tensor,
    static_prompt: str,
    mask_FHW: Tensor | None = None,
    *,
    still_frames: int = 1,
) -> FrameSet:
    """Encode each frame of a clip, in [0, 1], on its own, and encode the static prompt.

    Args:
        mask_FHW: 1 on the subject, 0 elsewhere; the rest gets `BACKGROUND_WEIGHT`.
        still_frames: how often each frame is repeated, 4n+1; at most the length of the clip.
    Raises:
        PromptError: the prompt is empty or too long.
    """
    text = backbone.encode_prompt(check_prompt(static_prompt, "static prompt"))
    # Sorted by their bytes, which do not depend on time: the same frames in any order give the same concept.
    order = sorted(range(len(frames_FHWC)), key=lambda i: frames_FHWC[i].float().cpu().numpy().tobytes())
    times = min(still_frames, len(frames_FHWC))
    latents_SCFHW = torch.stack([backbone.encode_frames(frames_FHWC[i : i + 1].repeat(times, 1, 1, 1)) for i in order])
    if mask_FHW is None:
        return FrameSet(latents_SCFHW=latents_SCFHW, text=text)
    height, width = latents_SCFHW.shape[-2:]
    weights = torch.stack([subject_weights(mask_FHW[i : i + 1], (1, height, width)) for i in order])
    return FrameSet(latents_SCFHW=latents_SCFHW, text=text, weights_S1FHW=weights.to(latents_SCFHW.device))


@torch.no_grad()
def encode_frame_sequence(
    backbone: Backbone,
    frames_FHWC: Tensor,
    motion_prompt: str,
    mask_FHW: Tensor | None = None,
    *,
    first_frame: bool = False,
) -> FrameSequence:
    """Encode a whole clip, in [0, 1], and its motion prompt. See `encode_frame_set` for the rest.

    Args:
        first_frame: whether the model gets the first frame; the loss then leaves out the latents that this gives away.
    """
    text = backbone.encode_prompt(check_prompt(motion_prompt, "motion prompt"))
    text = in_order(backbone, text, frames_FHWC, first_frame=first_frame)
    latents_CFHW = backbone.encode_frames(frames_FHWC)
    weights = None
    if mask_FHW is not None:
        frames, height, width = latents_CFHW.shape[1:]
        weights = subject_weights(mask_FHW, (frames, height, width)).to(latents_CFHW.device)
    weights = predicted_weights(text, latents_CFHW, weights)
    return FrameSequence(latents_CFHW=latents_CFHW, text=text, weights_1FHW=weights)


def first_frames(backbone: Backbone) -> tuple[bool, ...]:
    """Whether training gives the model the first frame of an ordered clip, used in turn; see `Pictures`."""
    return backbone.given.first_frames if backbone.given else (False,)


def in_order(backbone: Backbone, text: Condition, frames_FHWC: Tensor, *, first_frame: bool) -> Condition:
    """The condition of the artist's ordered clip, with everything that the model gets besides the prompt.

    Single frames get no pictures: a frame must not be its own condition, and another frame of the clip would show most
    of the look, so that little of it would have to be learned.
    """
    if backbone.given is None:
        return text
    text = backbone.given.of_graph(text)
    return backbone.given.with_first_frame(text, frames_FHWC[:1], len(frames_FHWC)) if first_frame else text


@dataclass(kw_only=True, slots=True, frozen=True)
class EncodedPrior:
    """Clips from the base model as a stage sees them: whole clips or single frames."""

    latents_KCFHW: Tensor
    texts: Sequence[Condition]
    """The prompt of each clip or frame."""
    empty: Sequence[Condition]
    """The empty prompt for each clip or frame."""

    def content(self) -> list[Tensor | str]:
        """Everything that a result depends on, for the run's key."""
        texts = [part for text in (*self.texts, *dict.fromkeys(self.empty)) for part in text.content()]
        return [self.latents_KCFHW, *texts]

    def weights_B1FHW(self, chosen: Tensor) -> Tensor | None:
        """Loss weights of the chosen clips; None if the model predicts all positions of all of them."""
        weights = [predicted_weights(self.texts[k], self.latents_KCFHW[k]) for k in chosen.tolist()]
        if all(each is None for each in weights):
            return None
        whole_1F11 = self.latents_KCFHW.new_ones(1, self.latents_KCFHW.shape[2], 1, 1)
        return torch.stack([whole_1F11 if each is None else each for each in weights])


@torch.no_grad()
def encode_prior_frames(backbone: Backbone, prior: PriorSet) -> EncodedPrior:
    """Prior clips as the set stage sees them: single frames, with the appearance of their clip as the prompt."""
    frames_KCFHW = prior.frames_KSCFHW.flatten(0, 1)
    texts = [backbone.encode_prompt(prompt.appearance) for prompt in prior.prompts]
    frames_of_each = prior.frames_KSCFHW.shape[1]
    return EncodedPrior(
        latents_KCFHW=frames_KCFHW,
        texts=[text for text in texts for _ in range(frames_of_each)],
        empty=[backbone.encode_prompt("")] * len(frames_KCFHW),
    )


@torch.no_grad()
def encode_prior_clips(backbone: Backbone, prior: PriorSet) -> EncodedPrior:
    """Prior clips as the sequence stage sees them: whole clips, each with the prompt it was made from.

    The model gets their first frames as it gets those of the artist's clip, but no pictures of the artist's graph.
    """
    texts = [backbone.encode_prompt(prompt.motion) for prompt in prior.prompts]
    empty = [backbone.encode_prompt("")] * len(texts)
    ways = first_frames(backbone)
    for number, latents_CFHW in enumerate(prior.latents_KCFHW):
        if backbone.given and ways[number % len(ways)]:
            first_1HWC = backbone.decode_latents(latents_CFHW[:, :1])[:1]
            length = backbone.format.length(latents_CFHW.shape[1])
            texts[number] = backbone.given.with_first_frame(texts[number], first_1HWC, length)
            empty[number] = backbone.given.with_first_frame(empty[number], first_1HWC, length)
    return EncodedPrior(latents_KCFHW=prior.latents_KCFHW, texts=texts, empty=empty)


@dataclass(kw_only=True, slots=True, frozen=True)
class Material(Generic[Encoded]):
    """Everything that a stage trains on."""

    clips: Sequence[Encoded]
    """Clips of the concept, used in turn."""
    stitched: Sequence[Encoded] = field(default_factory=list)  # pyright: ignore[reportUnknownVariableType]
    """Pairs of different concepts side by side, used in a share of the steps."""
    prior: EncodedPrior | None = None

    def of_step(self, step: int, config: MethodConfig) -> Encoded:
        """The clip for step number `step`; stitched clips are spread evenly over the steps."""
        share = config.stitched_share if self.stitched else 0.0
        taken = int(step * share)
        if int((step + 1) * share) > taken:
            return self.stitched[taken % len(self.stitched)]
        return self.clips[(step - taken) % len(self.clips)]

    def prior_samples(self, step: int, batch: int, config: MethodConfig) -> int:
        """Number of prior samples in a step. With small batches, some steps have none."""
        share = config.prior.share * batch if self.prior else 0.0
        return min(int((step + 1) * share) - int(step * share), batch)

    def content(self) -> list[Tensor | str]:
        """Everything that a result depends on, for the run's key."""
        parts = [*self.clips, *self.stitched, *([self.prior] if self.prior else [])]
        return [value for part in parts for value in part.content()]
