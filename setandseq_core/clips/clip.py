"""Frames in memory made into a clip: in real time at the model's frame rate, 4n+1 of them, at the model's size.

Shape letters: F frames, H height, W width, C the three channels red, green and blue.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import PromptError, VideoError

MIN_FRAMES = 5
"""The shortest clip: 4n+1 frames with n = 1, two latent frames."""


MAX_CLIP_MIB = 8192
"""Largest clip in memory, as float32, in MiB."""


FPS_RANGE = (1.0, 240.0)


@dataclass(kw_only=True, slots=True, frozen=True)
class Clip:
    """Frames ready for a model: 4n+1 of them, at the model's frame rate and size."""

    frames_FHWC: Tensor
    """float32 RGB in [0, 1]."""
    fps: float
    choice: str
    """One sentence for the user: what was found and what was chosen."""


@dataclass(kw_only=True, slots=True, frozen=True)
class ClipTarget:
    """What a clip should become; the same for a file and for frames in memory. See `fit_clip` for the fields."""

    fps: float
    multiple: int
    frames: int | None
    size: tuple[int, int] | None
    max_frames: int

    def __post_init__(self) -> None:
        check_fps(self.fps)
        if self.multiple < 1:
            raise VideoError(f"multiple is {self.multiple}; it must be 1 or more, such as 16.")
        if self.max_frames < MIN_FRAMES:
            raise VideoError(f"max_frames is {self.max_frames}; it must be {MIN_FRAMES} or more.")
        if self.frames is not None and (self.frames < MIN_FRAMES or self.frames % 4 != 1):
            raise VideoError(
                f"frames is {self.frames}; it must be 4n+1 and at least {MIN_FRAMES}, such as {self.most_frames}."
            )
        if self.size is not None and any(side < 1 or side % self.multiple for side in self.size):
            nearest = tuple(_nearest_multiple(side, self.multiple) for side in self.size)
            raise VideoError(
                f"size (height, width) is {self.size}; both must be multiples of {self.multiple}, such as {nearest}."
            )

    @property
    def most_frames(self) -> int:
        """How many frames a source that is long enough gives."""
        return _whole_latents(self.max_frames if self.frames is None else max(self.frames, MIN_FRAMES))

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the fitted frames."""
        size = self.size or (_nearest_multiple(height, self.multiple), _nearest_multiple(width, self.multiple))
        mib = self.most_frames * size[0] * size[1] * 3 * 4 / 2**20
        if mib > MAX_CLIP_MIB:
            raise VideoError(
                f"{self.most_frames} frames of {size[1]}x{size[0]} need {mib:.0f} MiB of memory; at most "
                f"{MAX_CLIP_MIB} are used.",
                hint="Ask for a smaller size or for fewer frames.",
            )
        return size

    def num_frames(self, found: int, name: str) -> int:
        """How many of `found` frames are used: the most that is 4n+1."""
        if found < MIN_FRAMES:
            raise VideoError(
                f"{name} is too short: {found} frames at {self.fps:g} fps; at least {MIN_FRAMES} "
                f"({MIN_FRAMES / self.fps:.2f} s) are needed.",
                hint="Use a longer video.",
            )
        if self.frames is not None and found < self.frames:
            raise VideoError(
                f"{name} has {found} frames at {self.fps:g} fps, but {self.frames} were asked for.",
                hint=f"Use a longer video, or ask for {_whole_latents(found)} frames.",
            )
        return _whole_latents(found)

    def choice(self, found: str, num_frames: int, source: tuple[int, int], size: tuple[int, int]) -> str:
        """The sentence in `Clip.choice`; sizes are (height, width)."""
        (height, width), (crop_height, crop_width) = size, _crop_size(*source, *size)
        seconds = num_frames / self.fps
        text = f"{found}; using the first {num_frames} frames at {self.fps:g} fps ({seconds:.1f} s), {width}x{height}"
        if (crop_height, crop_width) != source:
            text += f", from the central {crop_width}x{crop_height}"
        return text


def check_fps(fps: float) -> None:
    """Raise VideoError unless `fps` is a frame rate, in frames per second."""
    lowest, highest = FPS_RANGE
    if not lowest <= fps <= highest:
        raise VideoError(f"The frame rate is {fps}; it must be from {lowest:g} to {highest:g} fps, such as 16.")


def _whole_latents(frames: int) -> int:
    return (frames - 1) // 4 * 4 + 1


def _nearest_multiple(side: int, multiple: int) -> int:
    return max(1, math.floor(side / multiple + 0.5)) * multiple


def fit_clip(
    frames_FHWC: Tensor,
    source_fps: float,
    *,
    fps: float,
    multiple: int = 16,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    max_frames: int = 81,
) -> Clip:
    """Make a clip out of frames in memory: resample in real time, cut to 4n+1, resize to cover, crop the centre.

    Args:
        frames_FHWC: RGB in [0, 1], any number and size.
        source_fps: frames per second of `frames_FHWC`.
        fps: frames per second of the clip; the speed of the motion in seconds stays as it is.
        multiple: what height and width must be multiples of.
        frames: how many frames, 4n+1; None for the most there are, up to `max_frames`.
        size: (height, width); None for the nearest multiples of `multiple`.
        max_frames: the most frames when `frames` is None.
    Returns:
        The clip, on the device of `frames_FHWC`.
    Raises:
        VideoError: frames or settings that cannot be used.
    """
    target = ClipTarget(fps=fps, multiple=multiple, frames=frames, size=size, max_frames=max_frames)
    check_fps(source_fps)
    check_frames(frames_FHWC)
    length, source_height, source_width, _ = frames_FHWC.shape
    height, width = target.output_size(source_height, source_width)
    indices = _indices_in_time(length, source_fps, fps)[: target.most_frames]
    num_frames = target.num_frames(len(indices), "The clip")
    fitted = [resize(crop(frames_FHWC[i].float(), height, width), height, width) for i in indices[:num_frames]]
    found = f"read {length / source_fps:.1f} s of {source_width}x{source_height} at {source_fps:g} fps"
    choice = target.choice(found, num_frames, (source_height, source_width), (height, width))
    return Clip(frames_FHWC=torch.stack(fitted).clamp(0, 1), fps=fps, choice=choice)


def _indices_in_time(length: int, source_fps: float, fps: float) -> list[int]:
    """Which source frame is seen in each frame of the result: the last to begin before its middle, as in ffmpeg."""
    count = math.floor(length * fps / source_fps + 0.5)
    return [min(length, math.ceil((k + 0.5) * source_fps / fps - 1e-6)) - 1 for k in range(count)]


def check_frames(frames_FHWC: Tensor) -> None:
    """Raise VideoError unless these are RGB frames with finite values in about [0, 1]."""
    shape = tuple(frames_FHWC.shape)
    if len(shape) != 4 or shape[3] != 3:
        raise VideoError(f"The frames have shape {shape}; (frames, height, width, 3) is needed.")
    if frames_FHWC.numel() == 0:
        raise VideoError(f"There is nothing in the frames, their shape is {shape}; give at least one frame.")
    if not frames_FHWC.is_floating_point():
        raise VideoError(f"The frames are {frames_FHWC.dtype}; floats in [0, 1] are needed: divide bytes by 255.")
    if not frames_FHWC.isfinite().all():
        bad = int((~frames_FHWC.isfinite()).sum())
        raise VideoError(f"{bad} values of the frames are not finite (nan or inf); look at the step that made them.")
    low, high = float(frames_FHWC.min()), float(frames_FHWC.max())
    if low < -0.5 or high > 1.5:  # a decoder may overshoot a little; another range would be a wrong picture
        raise VideoError(f"The values of the frames go from {low:g} to {high:g}; they must be in [0, 1]: rescale them.")


def _crop_size(source_height: int, source_width: int, height: int, width: int) -> tuple[int, int]:
    """The largest (height, width) inside the source with the shape of the result."""
    return (
        max(1, min(source_height, round(source_width * height / width))),
        max(1, min(source_width, round(source_height * width / height))),
    )


def crop(frame_HWC: Tensor, height: int, width: int) -> Tensor:
    """The centre of a frame, of any dtype and channels: the largest part with the shape of (height, width)."""
    source_height, source_width, _ = frame_HWC.shape
    crop_height, crop_width = _crop_size(source_height, source_width, height, width)
    top, left = (source_height - crop_height) // 2, (source_width - crop_width) // 2
    return frame_HWC[top : top + crop_height, left : left + crop_width]


def resize(frame_HWC: Tensor, height: int, width: int) -> Tensor:
    """A frame at another size, antialiased; floats may overshoot a little."""
    if frame_HWC.shape[:2] == (height, width):
        return frame_HWC
    image = frame_HWC.permute(2, 0, 1)[None]
    return F.interpolate(image, (height, width), mode="bicubic", antialias=True)[0].permute(1, 2, 0)


@dataclass(kw_only=True, slots=True, frozen=True)
class Words:
    """What the artist says of a clip.

    Raises:
        PromptError: a prompt does not hold its token.
    """

    static_prompt: str
    """The appearance; holds the identity token [v]."""
    motion_prompt: str
    """The appearance and the movement (Eq. 7); holds both tokens."""
    identity_token: str = ""
    """[v], "" when there is none."""
    motion_token: str = ""
    """[u], "" when there is none."""

    def __post_init__(self) -> None:
        held = [("identity", self.identity_token, "static", self.static_prompt)]
        held += [("identity", self.identity_token, "motion", self.motion_prompt)]
        held += [("motion", self.motion_token, "motion", self.motion_prompt)]
        for kind, token, which, prompt in held:
            if token not in prompt:
                raise PromptError(
                    f"The {kind} token is '{token}', but the {which} prompt does not hold it: '{prompt}'.",
                    hint="Put the token where the prompt names the concept, or leave it out.",
                )


@dataclass(kw_only=True, slots=True, frozen=True)
class Reference:
    """One clip to learn from, and what is said of it."""

    clip: Clip
    words: Words
    mask_FHW: Tensor | None = None
    """Of the clip's frames, 1 on the subject; the rest then counts little. None is all alike."""
