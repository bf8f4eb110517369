"""Read and write video files: `read_clip` reads a stretch of a file as a clip, `write_video` writes frames to a file.

Shape letters: F frames, H height, W width, C the three channels red, green and blue.
"""

import math
from contextlib import closing
from dataclasses import dataclass
from itertools import dropwhile, islice
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import torch
from torch import Tensor

from ..atomic import replaced
from ..errors import VideoError
from .clip import MATROSKA_TICK, Clip, ClipTarget, Fit, check_fps, check_frames, frames_in_time
from .containers import VideoSource, source_name
from .decode import OpenVideo, Picture, Scaler, open_video
from .size import Size, WantedSize
from .stretch import WHOLE, Stretch
from .tone import Transfer, to_sdr

GIF_MAX_FPS = 50
"""A gif counts in hundredths of a second, and players slow down frames shorter than two of them."""


_BT709 = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]


_YUV = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", *_BT709]


_PALETTE = "split[a][b];[a]palettegen=reserve_transparent=0[p];[b][p]paletteuse"


_WRITERS: dict[str, dict[str, Any]] = {
    ".mp4": {"quality": 7, "output_params": [*_YUV, "-movflags", "+faststart"]},
    ".webm": {"codec": "libvpx-vp9", "quality": None, "output_params": [*_YUV, "-crf", "20", "-cpu-used", "4"]},
    ".gif": {"codec": "gif", "quality": None, "pix_fmt_out": "pal8", "output_params": ["-vf", _PALETTE, "-loop", "0"]},
}


@dataclass(kw_only=True, slots=True, frozen=True)
class VideoInfo:
    """Properties stored in a video file."""

    width: int
    """Width in pixels as a player shows it: upright, with square pixels."""
    height: int
    fps: float
    """Mean frames per second; 0 when the file does not say."""
    seconds: float
    """Length of the file, sound included; 0 when the file does not say."""
    codec: str
    stored: Size
    """(height, width) upright, in pixels as the file stores them and ComfyUI decodes them; they need not be square."""


def read_info(source: VideoSource | str) -> VideoInfo:
    """Read the properties of a video file, and refuse a file that cannot become a clip.

    Raises:
        VideoError: the file is missing, not a video, cut off, a single picture, sound only or too large.
    """
    with open_video(_source(source)) as video:
        return _info(video)


def _source(source: VideoSource | str) -> VideoSource:
    return Path(source) if isinstance(source, str) else source


def _info(video: OpenVideo) -> VideoInfo:
    first_two = [frame for _, frame in islice(video.timed_frames(WHOLE), 2)]
    if not first_two:
        raise VideoError(
            f"{video.name} holds no frame that can be decoded.",
            hint="Export the video again.",
        )
    # A single frame comes twice; the second entry only says when it ends.
    if first_two[0] is first_two[1]:
        raise VideoError(
            f"{video.name} holds one frame, so it is a picture; a video with motion is needed.",
            hint="Choose a video.",
        )
    height, width = video.upright_size(first_two[0])
    return VideoInfo(
        width=width,
        height=height,
        fps=video.fps,
        seconds=video.seconds,
        codec=video.stream.codec_context.codec.canonical_name,
        stored=video.stored_size(first_two[0]),
    )


def read_clip(
    source: VideoSource | str,
    *,
    fps: float,
    multiple: int = 16,
    frames: int | None = None,
    size: WantedSize | None = None,
    max_frames: int = 81,
    max_pixels: int | None = None,
    stretch: Stretch = WHOLE,
) -> Clip:
    """Read a stretch of a video file as a clip; `fit_clip` does the same with frames in memory.

    The frames are upright, with square pixels and in SDR; transparent parts are on black. Only the needed part of the
    file is decoded, and each frame is scaled as it is decoded, so that memory holds little besides the clip.

    Args:
        source: an mp4, mov, webm, mkv or gif file.
        fps, multiple, frames, size, max_frames, max_pixels: see `ClipTarget`.
        stretch: the part of the video to use.
    Returns:
        The clip, on the CPU.
    Raises:
        VideoError: the file or the settings cannot be used; the message says what to do.
    """
    target = ClipTarget(
        fps=fps, multiple=multiple, frames=frames, size=size, max_frames=max_frames, max_pixels=max_pixels
    )
    return read_stretch(_source(source), target, stretch)


def read_stretch(source: VideoSource, target: ClipTarget, stretch: Stretch) -> Clip:
    """Read a stretch of a video file as the clip that `target` describes; see `read_clip`."""
    info = read_info(source)
    size = target.output_size((info.height, info.width))
    with open_video(source) as video:
        shown = frames_in_time(video.timed_frames(stretch), target.fps)
        scaler = Scaler(video, size)
        pictures = [scaler.picture(frame) for frame in islice(shown, target.most_frames)]
        read = _Read(pictures=pictures, transfer=video.transfer)
    fit = target.fit((info.height, info.width), len(read.pictures), source_name(source), stretch)
    choice = fit.choice(_found(info)) + read.remark()
    return Clip(frames_FHWC=read.frames(fit.num_frames), fps=target.fps, choice=choice)


def read_fit(source: VideoSource, target: ClipTarget, stretch: Stretch) -> Fit:
    """Describe the clip that `read_stretch` makes from a video file. Frames are decoded and counted but not kept.

    Raises:
        VideoError: see `read_clip`.
    """
    info = read_info(source)
    target.output_size((info.height, info.width))  # refuses a clip that is too large before anything is decoded
    with open_video(source) as video:
        shown = frames_in_time(video.timed_frames(stretch), target.fps)
        found = sum(1 for _ in islice(shown, target.most_frames))
    return target.fit((info.height, info.width), found, source_name(source), stretch)


def read_times(source: VideoSource, stretch: Stretch, most: int) -> list[float]:
    """Start times of the first frames of a stretch, in seconds from its start, and the end of the last one.

    Frames are neither scaled nor kept.

    Args:
        source: an mp4, mov, webm, mkv or gif file.
        stretch: the part of the video to use; a frame that begins before it is left out.
        most: maximum number of frames, so that a long file is not decoded to its end.
    """
    with open_video(source) as video:
        times = (begin for begin, _ in video.timed_frames(stretch))
        return list(islice(dropwhile(lambda time: time < -MATROSKA_TICK, times), most + 1))


@dataclass(kw_only=True, slots=True, frozen=True)
class _Read:
    """Pictures as decoded, which take a quarter of their size as floats, or half if they are HDR."""

    pictures: list[Picture]
    transfer: Transfer | None

    def frames(self, num_frames: int) -> Tensor:
        """The first `num_frames` pictures as (F, H, W, 3), float32 in [0, 1]."""
        height, width, _ = self.pictures[0].shape
        frames_FHWC = torch.empty(num_frames, height, width, 3)
        for number in range(num_frames):
            frames_FHWC[number] = self._frame(self.pictures[number][..., :3])
        return frames_FHWC

    def _frame(self, picture: Picture) -> Tensor:
        # ffmpeg turns 8 bits into 16 by a shift, so white is not 65535.
        white = 255 if picture.dtype == np.uint8 else 255 * 256
        signal_HWC = torch.as_tensor(picture.astype(np.float32)).div_(white).clamp_(0, 1)
        return signal_HWC if self.transfer is None else to_sdr(signal_HWC, self.transfer)

    def remark(self) -> str:
        """Changes to the pictures that the user should know about."""
        if self.transfer is not None:
            return f", {self.transfer.name} mapped to SDR"
        transparent = any(picture.shape[2] == 4 and picture[..., 3].min() < 255 for picture in self.pictures)
        return ", transparent parts on black" * transparent


def _found(info: VideoInfo) -> str:
    length = f"{info.seconds:.1f} s of " if info.seconds else ""
    rate = f" at {info.fps:g} fps" if info.fps else ""
    return f"read {length}{info.width}x{info.height}{rate}"


def write_video(path: Path | str, frames_FHWC: Tensor, fps: float) -> None:
    """Write frames as an mp4 (h264), webm (vp9) or gif, by suffix; the file appears only when it is complete.

    mp4 and webm are yuv420p so that every player shows them; if a side is odd, its last row or column is repeated.

    Args:
        path: the file to write; missing folders are created, and an existing file is replaced.
        frames_FHWC: RGB in [0, 1]; a small overshoot is clamped.
        fps: frames per second; a gif has at most 50.
    Raises:
        VideoError: the suffix is not supported, or the frames or their rate cannot be written.
        StorageError: the file cannot be written there.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        found = f"ends in {suffix!r}" if suffix else "has no suffix"
        raise VideoError(
            f"{path} {found}; {', '.join(_WRITERS)} can be written.",
            hint="Rename the file.",
        )
    check_fps(fps)
    check_frames(frames_FHWC)
    with replaced(path) as partial:
        _write(partial, suffix, frames_FHWC if suffix == ".gif" else _even_sides(frames_FHWC), fps)


def _even_sides(frames_FHWC: Tensor) -> Tensor:
    height, width = frames_FHWC.shape[1:3]
    rows = torch.arange(height + height % 2).clamp(max=height - 1)
    columns = torch.arange(width + width % 2).clamp(max=width - 1)
    return frames_FHWC[:, rows][:, :, columns] if (height | width) % 2 else frames_FHWC


def _write(path: Path, suffix: str, frames_FHWC: Tensor, fps: float) -> None:
    height, width = frames_FHWC.shape[1:3]
    settings = dict(_WRITERS[suffix])
    if suffix == ".gif" and fps > GIF_MAX_FPS:
        settings["output_params"] = ["-vf", f"fps={GIF_MAX_FPS},{_PALETTE}", "-loop", "0"]
    settings["fps"] = float(fps)
    settings["output_params"] = [*settings["output_params"], "-f", suffix[1:]]  # because the partial path has no suffix
    writer = imageio_ffmpeg.write_frames(
        str(path.absolute()),
        (width, height),
        macro_block_size=1,
        ffmpeg_log_level="error",
        **settings,
    )
    with closing(writer):
        writer.send(None)
        for frame_HWC in frames_FHWC:
            bytes_HWC = (frame_HWC.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
            writer.send(bytes_HWC.contiguous().cpu().numpy().tobytes())
    _check_written(path, math.floor(len(frames_FHWC) * min(1, GIF_MAX_FPS / fps if suffix == ".gif" else 1)))


def _check_written(path: Path, num_frames: int) -> None:
    """Count the readable frames, because the writer does not report that ffmpeg ran out of disk space."""
    try:
        written, _ = imageio_ffmpeg.count_frames_and_secs(str(path.absolute()))
    except RuntimeError as error:
        raise OSError("the result cannot be read") from error
    if written is None or written < num_frames:
        raise OSError(f"{written} of {num_frames} frames were written")
