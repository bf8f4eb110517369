"""The video that a graph gives to Reference Clip: frames in memory, or a video file that is decoded only in part.

ComfyUI's VIDEO is usually a file that is not decoded yet. Its `get_components` would decode the whole file into memory,
at full size and without the times of its frames.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from comfy_api.latest import Input
from torch import Tensor

from ..setandseq_core.clips.clip import Clip, ClipTarget, even_times, fit_stretch, indices_in_time
from ..setandseq_core.clips.containers import VideoSource
from ..setandseq_core.clips.size import Size, crop, resize
from ..setandseq_core.clips.stretch import Stretch
from ..setandseq_core.clips.video import read_info, read_stretch, read_times
from ..setandseq_core.errors import VideoError


class Source(Protocol):
    """A video from the graph, in memory or in a file."""

    def clip(self, target: ClipTarget, stretch: Stretch) -> Clip:
        """Cut out a stretch of the video and fit it to `target`."""
        ...

    def sizes(self) -> tuple[Size, ...]:
        """(height, width) of the video as it is shown, then other sizes that a mask may have."""
        ...

    def times(self, most: int) -> list[float]:
        """Start times in seconds of its first frames, at most `most` of them, then the end time of the last one."""
        ...


@dataclass(kw_only=True, slots=True, frozen=True)
class Frames:
    """Frames in memory."""

    frames_FHWC: Tensor
    fps: float

    def clip(self, target: ClipTarget, stretch: Stretch) -> Clip:
        """See `Source`."""
        return fit_stretch(self.frames_FHWC, self.fps, target, stretch)

    def sizes(self) -> tuple[Size, ...]:
        """See `Source`."""
        return ((self.frames_FHWC.shape[1], self.frames_FHWC.shape[2]),)

    def times(self, most: int) -> list[float]:
        """See `Source`."""
        return even_times(min(most, len(self.frames_FHWC)), self.fps)


@dataclass(kw_only=True, slots=True, frozen=True)
class VideoFile:
    """A video file, on disk or in memory."""

    file: VideoSource
    trim: Stretch
    """The part of the file that the VIDEO shows."""

    def clip(self, target: ClipTarget, stretch: Stretch) -> Clip:
        """See `Source`."""
        return read_stretch(self.file, target, stretch.within(self.trim))

    def sizes(self) -> tuple[Size, ...]:
        """See `Source`."""
        info = read_info(self.file)
        return (info.height, info.width), info.stored

    def times(self, most: int) -> list[float]:
        """See `Source`."""
        return read_times(self.file, self.trim, most)


def source_of(video: "Input.Video | Tensor", image_fps: float) -> Source:
    """Make a source from a VIDEO, or from frames (F, H, W, 3 or 4) in [0, 1], whose transparency is ignored.

    Raises:
        VideoError: there are no frames, or only a single picture.
    """
    if isinstance(video, Tensor):
        if len(video) == 1:
            raise VideoError(
                "The clip is a single picture, so nothing moves in it.",
                hint="Connect a video from Load Video, or at least 5 frames.",
            )
        return Frames(frames_FHWC=video[..., :3], fps=image_fps)
    return _file_of(video) or _frames_of(video)


def _file_of(video: "Input.Video") -> VideoFile | None:
    """The file of a VIDEO; None if it exists only as frames, or if another pack or version crops the file."""
    if type(video).get_stream_source is Input.Video.get_stream_source:  # this would encode the frames
        return None
    file = video.get_stream_source()
    start, length = video.get_active_trim_window()
    found = VideoFile(
        file=Path(file) if isinstance(file, str) else file,
        trim=Stretch(start=start, length=length or None),
    )
    _, stored = found.sizes()
    return found if sorted(stored) == sorted(video.get_dimensions()) else None


def _frames_of(video: "Input.Video") -> Frames:
    components = video.get_components()
    if len(components.images) == 0:
        raise VideoError(
            "The video has no pictures. It may contain only sound.",
            hint="Choose a video with pictures.",
        )
    return Frames(frames_FHWC=components.images[..., :3], fps=float(components.frame_rate))


def fitted_mask(mask_FHW: Tensor, source: Source, clip: Clip, stretch: Stretch) -> Tensor:
    """The mask of a clip's frames, (F, H, W) in [0, 1].

    Args:
        mask_FHW: one picture, or one for each frame of `source`.
        source: the video that `clip` is a stretch of.
        clip: the clip that the mask is for.
        stretch: the part of the video that the clip was cut from.
    Raises:
        VideoError: the size differs from the video's, there is neither one mask nor one per frame, or the mask marks
            nothing.
    """
    sizes = source.sizes()
    _check_size((mask_FHW.shape[1], mask_FHW.shape[2]), sizes)
    length, height, width, _ = clip.frames_FHWC.shape
    seen = _seen(len(mask_FHW), source, clip.fps, stretch)[:length] if len(mask_FHW) != 1 else [0]
    fitted_FHW = torch.stack([_fitted(mask_FHW[index], sizes[0], (height, width)) for index in seen])
    fitted_FHW = fitted_FHW.expand(length, -1, -1)
    if not fitted_FHW.max() > 0.5:
        raise VideoError(
            "The mask is black: it marks no subject.",
            hint="Paint the subject white, or disconnect the mask.",
        )
    return fitted_FHW


def _check_size(size: Size, sizes: tuple[Size, ...]) -> None:
    if size not in sizes:
        raise VideoError(
            f"The mask is {size[1]}x{size[0]}, but the video is {sizes[0][1]}x{sizes[0][0]}.",
            hint="Connect a mask of the same size as the video.",
        )


def _seen(count: int, source: Source, fps: float, stretch: Stretch) -> list[int]:
    """The indices of the masks for the clip's frames, among `count` masks, one for each frame of the video."""
    times = source.times(count + 1)
    if len(times) - 1 != count:
        found = f"{len(times) - 1} frames" if len(times) <= count else f"more than {count} frames"
        raise VideoError(
            f"The mask has {count} pictures, but the video has {found}.",
            hint="Connect one mask, or one per frame.",
        )
    return indices_in_time(times, fps, stretch)


def _fitted(mask_HW: Tensor, shown: Size, size: Size) -> Tensor:
    mask_HW1 = resize(mask_HW.float().clamp(0, 1).unsqueeze(-1), shown)
    return resize(crop(mask_HW1, size), size)[..., 0].clamp(0, 1)
