"""Turn frames into a clip: resampled to the model's frame rate, at a length and size that the model takes.

Shape letters: F frames, H height, W width, C the three channels red, green and blue.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import PromptError, VideoError
from .size import Size, WantedSize, crop, crop_size, fitted_size, nearest_multiple, resize
from .stretch import WHOLE, Stretch

MAX_CLIP_MIB = 8192
"""Largest clip in memory, as float32, in MiB."""


FPS_RANGE = (1.0, 240.0)


MATROSKA_TICK = 0.001
"""Precision of frame times in mkv and webm, in seconds."""


Frame = TypeVar("Frame")


@dataclass(kw_only=True, slots=True, frozen=True)
class Clip:
    """Frames ready for a model: at its frame rate and size, and as many as fill whole latent frames of its VAE."""

    frames_FHWC: Tensor
    """float32 RGB in [0, 1]."""
    fps: float
    choice: str
    """One sentence for the user: what was found and what was chosen."""


@dataclass(kw_only=True, slots=True, frozen=True)
class ClipTarget:
    """Settings of the clip to make, from a file or from frames in memory.

    Raises:
        VideoError: no clip can meet the settings.
    """

    fps: float
    """Frames per second of the clip; motion keeps its speed in real time."""
    multiple: int = 16
    """Height and width become multiples of this."""
    frames: int | None = None
    """Number of frames, 4n+1; None for as many as there are, up to `max_frames`."""
    size: WantedSize | None = None
    max_frames: int = 81
    time_stride: int = 4
    """Frames per latent frame, except the first: a clip has time_stride n + 1 frames."""
    max_pixels: int | None = None
    """Approximate limit of the frame's area if no size is asked for; None keeps the size of the video."""

    def __post_init__(self) -> None:
        check_fps(self.fps)
        if self.multiple < 1:
            raise VideoError(f"multiple is {self.multiple}; it must be 1 or more.", hint="Give one such as 16.")
        if self.max_frames < self.min_frames:
            raise VideoError(
                f"max_frames is {self.max_frames}; it must be {self.min_frames} or more.", hint="Allow more frames."
            )
        if self.frames is not None and (self.frames < self.min_frames or self.frames % self.time_stride != 1):
            raise VideoError(
                f"frames is {self.frames}; it must be {self.time_stride}n+1 and at least {self.min_frames}.",
                hint=f"Ask for {self.most_frames} frames.",
            )
        self._check_size()

    def _check_size(self) -> None:
        asked = self.size or (None, None)
        if all(side is None or (side >= 1 and side % self.multiple == 0) for side in asked):
            return
        nearest = tuple(None if side is None else nearest_multiple(side, self.multiple) for side in asked)
        raise VideoError(
            f"size (height, width) is {asked}; both must be multiples of {self.multiple}.",
            hint=f"Ask for {nearest}.",
        )

    @property
    def min_frames(self) -> int:
        """The shortest clip in which something can move: two latent frames."""
        return self.time_stride + 1

    def _whole_latents(self, frames: int) -> int:
        return (frames - 1) // self.time_stride * self.time_stride + 1

    @property
    def most_frames(self) -> int:
        """Number of frames in the clip if the source is long enough."""
        return self._whole_latents(self.max_frames if self.frames is None else max(self.frames, self.min_frames))

    def output_size(self, source: Size) -> Size:
        """Height and width of the fitted frames.

        Raises:
            VideoError: so many frames of that size need too much memory.
        """
        size = fitted_size(source, self.multiple, self.size, self.max_pixels)
        mib = self.most_frames * size[0] * size[1] * 3 * 4 / 2**20
        if mib > MAX_CLIP_MIB:
            raise VideoError(
                f"{self.most_frames} frames of {size[1]}x{size[0]} need {mib:.0f} MiB of memory; at most "
                f"{MAX_CLIP_MIB} are used.",
                hint="Ask for a smaller size or for fewer frames.",
            )
        return size

    def num_frames(self, found: int, name: str, stretch: Stretch = WHOLE) -> int:
        """Number of frames used out of `found`: rounded down to whole latent frames.

        Raises:
            VideoError: there are too few frames.
        """
        longer = "Use a longer video" if stretch == WHOLE else "Start earlier, take a longer part"
        if found < self.min_frames:
            raise VideoError(
                f"{name} is too short: {found} frames at {self.fps:g} fps; at least {self.min_frames} "
                f"({self.min_frames / self.fps:.2f} s) are needed.",
                hint=f"{longer}.",
            )
        if self.frames is not None and found < self.frames:
            raise VideoError(
                f"{name} has {found} frames at {self.fps:g} fps, but {self.frames} were asked for.",
                hint=f"{longer}, or ask for {self._whole_latents(found)} frames.",
            )
        return self._whole_latents(found)

    def fit(self, source: Size, found: int, name: str, stretch: Stretch = WHOLE) -> "Fit":
        """Describe the clip that a stretch of a video becomes, without its pixels.

        Args:
            source: (height, width) of the video.
            found: number of frames in the stretch, at this frame rate.
            name: name of the video in errors.
            stretch: the part of the video to use.
        Raises:
            VideoError: there are too few frames, or they need too much memory.
        """
        return Fit(
            source=source,
            size=self.output_size(source),
            num_frames=self.num_frames(found, name, stretch),
            fps=self.fps,
            start=stretch.start,
        )


@dataclass(kw_only=True, slots=True, frozen=True)
class Fit:
    """Everything about the clip that a video becomes, except its pixels."""

    source: Size
    """(height, width) of the video in pixels."""
    size: Size
    """(height, width) of the clip in pixels."""
    num_frames: int
    fps: float
    start: float = 0.0
    """Start of the clip, in seconds from the first frame of the video."""

    @property
    def crop(self) -> Size:
        """(height, width) of the central part of the video that is used, in pixels of the video."""
        return crop_size(self.source, self.size)

    def choice(self, found: str) -> str:
        """The sentence in `Clip.choice`; `found` describes the video."""
        frames = f"{self.num_frames} frames"
        which = f"{frames} from {self.start:g} s on" if self.start else f"the first {frames}"
        seconds = self.num_frames / self.fps
        text = f"{found}; using {which} at {self.fps:g} fps ({seconds:.1f} s), {self.size[1]}x{self.size[0]}"
        if self.crop != self.source:
            text += f", from the central {self.crop[1]}x{self.crop[0]}"
        return text


def check_fps(fps: float) -> None:
    """Raise VideoError unless `fps` is a frame rate, in frames per second."""
    lowest, highest = FPS_RANGE
    if not lowest <= fps <= highest:
        raise VideoError(
            f"The frame rate is {fps}; it must be from {lowest:g} to {highest:g} fps.", hint="Choose one such as 16."
        )


# --- time ---------------------------------------------------------------------------------------------------------


def frames_in_time(timed: Iterable[tuple[float, Frame]], fps: float) -> Iterator[Frame]:
    """Repeat or drop frames so that they come at `fps` and all motion keeps its speed.

    Like ffmpeg's filter `fps`, each frame of the result shows the last source frame that begins before the middle of
    its interval.

    Args:
        timed: start time in seconds and frame, in order. The last entry only says when the frame before it ends. A
            frame that begins before 0 is seen at 0 if no other has begun by then.
    """
    shown: list[Frame] = []
    tick = 0
    for begin, frame in timed:
        # A frame that begins exactly in the middle belongs to the next tick, even if the file rounds its times.
        first_tick = math.floor((begin + MATROSKA_TICK) * fps + 0.5)
        while shown and tick < first_tick:
            yield shown[0]
            tick += 1
        shown = [frame]


def even_times(length: int, fps: float) -> list[float]:
    """Start times of `length` frames in seconds, followed by the end of the last frame."""
    return [index / fps for index in range(length + 1)]


def indices_in_time(times: Sequence[float], fps: float, stretch: Stretch = WHOLE) -> list[int]:
    """Indices of the frames of a video that are seen at `fps` during a stretch of it; see `frames_in_time`.

    Args:
        times: start times of the frames in seconds, and the end of the last one.
        fps: frames per second of the result.
        stretch: the part of the video to use.
    """
    end = min(times[-1], stretch.end)
    inside = [(begin - stretch.start, index) for index, begin in enumerate(times[:-1]) if begin < end]
    return list(frames_in_time([*inside, (end - stretch.start, -1)], fps))


# --- frames in memory ---------------------------------------------------------------------------------------------


def fit_clip(
    frames_FHWC: Tensor,
    source_fps: float,
    *,
    fps: float,
    multiple: int = 16,
    frames: int | None = None,
    size: WantedSize | None = None,
    max_frames: int = 81,
    max_pixels: int | None = None,
    stretch: Stretch = WHOLE,
) -> Clip:
    """Make a clip out of frames in memory: resample in real time, cut to 4n+1, resize to cover, crop the centre.

    Args:
        frames_FHWC: RGB in [0, 1], any number and size.
        source_fps: frames per second of `frames_FHWC`.
        fps, multiple, frames, size, max_frames, max_pixels: see `ClipTarget`.
        stretch: the part of the frames to use.
    Returns:
        The clip, on the device of `frames_FHWC`.
    Raises:
        VideoError: the frames or the settings cannot be used.
    """
    target = ClipTarget(
        fps=fps, multiple=multiple, frames=frames, size=size, max_frames=max_frames, max_pixels=max_pixels
    )
    return fit_stretch(frames_FHWC, source_fps, target, stretch)


def fit_stretch(frames_FHWC: Tensor, source_fps: float, target: ClipTarget, stretch: Stretch) -> Clip:
    """Make the clip that `target` describes from a stretch of frames in memory; see `fit_clip`."""
    check_fps(source_fps)
    check_frames(frames_FHWC)
    length, height, width, _ = frames_FHWC.shape
    seen = indices_in_time(even_times(length, source_fps), target.fps, stretch)[: target.most_frames]
    fit = target.fit((height, width), len(seen), "The clip", stretch)
    fitted_FHWC = torch.empty(fit.num_frames, *fit.size, 3, device=frames_FHWC.device)
    for number, index in enumerate(seen[: fit.num_frames]):
        fitted_FHWC[number] = resize(crop(frames_FHWC[index].float(), fit.size), fit.size).clamp(0, 1)
    found = f"read {length / source_fps:.1f} s of {width}x{height} at {source_fps:g} fps"
    return Clip(frames_FHWC=fitted_FHWC, fps=target.fps, choice=fit.choice(found))


def check_frames(frames_FHWC: Tensor) -> None:
    """Raise VideoError unless these are RGB frames with finite values in about [0, 1]."""
    shape = tuple(frames_FHWC.shape)
    if len(shape) != 4 or shape[3] != 3:
        raise VideoError(
            f"The frames have shape {shape}; (frames, height, width, 3) is needed.",
            hint="Give RGB frames, channels last.",
        )
    if frames_FHWC.numel() == 0:
        raise VideoError(f"There is nothing in the frames, their shape is {shape}.", hint="Give at least one frame.")
    if not frames_FHWC.is_floating_point():
        raise VideoError(
            f"The frames are {frames_FHWC.dtype}; floats in [0, 1] are needed.", hint="Divide bytes by 255."
        )
    if not frames_FHWC.isfinite().all():
        bad = int((~frames_FHWC.isfinite()).sum())
        raise VideoError(
            f"{bad} values of the frames are not finite (nan or inf).", hint="Check the step that made them."
        )
    low = float(frames_FHWC.min())
    high = float(frames_FHWC.max())
    if low < -0.5 or high > 1.5:  # a decoder may overshoot a little; a larger range means another scale
        raise VideoError(
            f"The values of the frames go from {low:g} to {high:g}; they must be in [0, 1].", hint="Rescale them."
        )


@dataclass(kw_only=True, slots=True, frozen=True)
class Words:
    """The artist's prompts and tokens for a clip.

    Raises:
        PromptError: a prompt does not contain its token.
    """

    static_prompt: str
    """Describes the appearance; contains the identity token [v]."""
    motion_prompt: str
    """Describes the appearance and the motion (Eq. 7); contains both tokens."""
    identity_token: str = ""
    """The token [v]; "" if there is none."""
    motion_token: str = ""
    """The token [u]; "" if there is none."""

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
    """One clip to learn from, with its prompts."""

    clip: Clip
    words: Words
    mask_FHW: Tensor | None = None
    """A mask for each frame, 1 on the subject. The rest has a low loss weight; None weights all positions equally."""
    pictures: "tuple[Reference, ...]" = ()
    """References that the set stage sees in turn in place of this clip, one for each picture; its frames are all
    pictures of that size. Three pictures of one size and one of another make four references, so every picture counts
    the same. Empty if the clip itself shows the look; see `pictures`."""

    @property
    def look(self) -> Words:
        """Prompts and tokens for the look; they come from the pictures if there are any."""
        return self.pictures[0].words if self.pictures else self.words
