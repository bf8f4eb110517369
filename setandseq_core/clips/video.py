"""Video files in and out, through imageio-ffmpeg.

`read_clip` reads the beginning of a file as a clip, `write_video` writes frames to a file. Only mp4, mov, webm, mkv
and gif are opened: ffmpeg knows hundreds of formats, some of which are playlists that fetch other files.

Shape letters: F frames, H height, W width, C the three channels red, green and blue.
"""

import logging
import math
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import torch
from torch import Tensor

from ..atomic import replaced
from ..errors import VideoError
from .clip import Clip, ClipTarget, WantedSize, check_fps, check_frames, crop, resize
from .containers import READABLE, check_container, matroska_has_alpha

MAX_SIDE = 8192
"""Largest width and height that is read, in pixels."""


GIF_MAX_FPS = 50
"""A gif counts in hundredths of a second, and players slow down anything under two of them."""


_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""ffmpeg's own VP8 and VP9 decoders drop the alpha channel, these keep it."""


_INPUT = ["-hide_banner", "-format_whitelist", "mov,mp4,matroska,webm,gif", "-protocol_whitelist", "file"]


_SQUARE_PIXELS = f"scale=clip(round(iw*sar)\\,1\\,{2 * MAX_SIDE}):ih"


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
    """What a video file says about itself."""

    width: int
    """Pixels, as a player shows it: upright, with square pixels."""
    height: int
    fps: float
    """Mean frames per second; 0 when the file does not say."""
    seconds: float
    """Length of the file, sound included; 0 when the file does not say."""
    codec: str


def read_info(path: Path | str) -> VideoInfo:
    """Look at a video file and refuse what can not be a clip.

    Raises:
        VideoError: not there, not a video, cut off, a single picture, sound only, or too large.
    """
    path = Path(path)
    check_container(path)
    # One frame per tick whatever their times are, so that counting to two tells a video from a picture.
    meta, stream = _open(path, f"{_SQUARE_PIXELS},setpts=N/25/TB,fps=25")
    with closing(stream):
        width, height = meta["size"]
        if max(width, height) > MAX_SIDE:
            raise _too_large(path, width, height)
        count = sum(1 for _ in islice(_raw_frames(path, stream), 2))
    if count == 0:
        raise VideoError(
            f"{path} holds no frame that can be decoded.",
            hint="Export the video again.",
        )
    if count == 1:
        raise VideoError(f"{path} holds one frame, it is a picture; a video with motion is needed.")
    codec = meta["codec"].strip(",")
    return VideoInfo(width=width, height=height, fps=meta["fps"], seconds=meta["duration"], codec=codec)


def read_clip(
    path: Path | str,
    *,
    fps: float,
    multiple: int = 16,
    frames: int | None = None,
    size: WantedSize | None = None,
    max_frames: int = 81,
    max_pixels: int | None = None,
) -> Clip:
    """Read the beginning of a video file as a clip, as `fit_clip` does with frames in memory.

    Frames come out upright and with square pixels; transparent parts are put on black. No more of the file is
    decoded than is needed, and one frame at a time is held at the size of the file.

    Args:
        path: an mp4, mov, webm, mkv or gif file.
        fps: frames per second of the clip; the speed of the motion in seconds stays as it is.
        multiple: what height and width must be multiples of.
        frames: how many frames, 4n+1; None for the most there are, up to `max_frames`.
        size, max_frames, max_pixels: see `ClipTarget`.
    Returns:
        The clip, on the CPU.
    Raises:
        VideoError: a file or settings that cannot be used; the message says what to do.
    """
    target = ClipTarget(
        fps=fps, multiple=multiple, frames=frames, size=size, max_frames=max_frames, max_pixels=max_pixels
    )
    path = Path(path)
    info = read_info(path)
    size = target.output_size((info.height, info.width))
    clip_FHWC = torch.empty(target.most_frames, *size, 3)
    count, transparent = 0, False
    meta, stream = _open(path, f"{_SQUARE_PIXELS},setpts=PTS-STARTPTS,fps={_rational(fps)}", _alpha_decoder(path, info))
    source_width, source_height = meta["size"]
    with closing(stream):
        for raw in islice(_raw_frames(path, stream), target.most_frames):
            frame = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(source_height, source_width, 4)
            rgba = crop(frame, size)
            rgb = rgba[..., :3].float().div_(255)
            if rgba[..., 3].min() < 255:
                transparent = True
                rgb *= rgba[..., 3:] / 255
            clip_FHWC[count] = resize(rgb, size).clamp(0, 1)
            count += 1
    num_frames = target.num_frames(count, str(path))
    choice = target.choice(_found(info), num_frames, (info.height, info.width), size)
    return Clip(
        frames_FHWC=clip_FHWC[:num_frames], fps=fps, choice=choice + ", transparent parts on black" * transparent
    )


def _found(info: VideoInfo) -> str:
    length = f"{info.seconds:.1f} s of " if info.seconds else ""
    rate = f" at {info.fps:g} fps" if info.fps else ""
    return f"read {length}{info.width}x{info.height}{rate}"


def _rational(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1001)


def _alpha_decoder(path: Path, info: VideoInfo) -> list[str]:
    wanted = info.codec in _ALPHA_DECODERS and matroska_has_alpha(path)
    return ["-c:v", _ALPHA_DECODERS[info.codec]] if wanted else []


def _open(path: Path, filters: str, input_params: list[str] | None = None) -> tuple[dict[str, Any], Generator]:
    """Start ffmpeg; returns what it says of the file and a generator of raw RGBA frames, to be closed."""
    stream = imageio_ffmpeg.read_frames(
        str(path.absolute()),  # absolute, so that no name is taken for an option or a protocol
        pix_fmt="rgba",
        bits_per_pixel=32,
        input_params=_INPUT + (input_params or []),
        output_params=["-vf", filters],
    )
    logger = logging.getLogger("imageio_ffmpeg")
    logger.addFilter(_is_no_size_warning)
    try:
        return next(stream), stream
    except (OSError, ValueError, IndexError, AttributeError) as error:  # the last three: a header it cannot parse
        raise _unreadable(path, str(error)) from error
    finally:
        logger.removeFilter(_is_no_size_warning)


def _is_no_size_warning(record: logging.LogRecord) -> bool:
    """The library warns when frames come out in another size, as those of a rotated video must."""
    return "source frame size" not in record.getMessage()


def _raw_frames(path: Path, stream: Generator) -> Iterator[bytes]:
    try:
        yield from stream
    except RuntimeError as error:
        raise _unreadable(path, str(error)) from error


def _too_large(path: Path, width: int, height: int) -> VideoError:
    return VideoError(
        f"{path} has frames of {width}x{height}; at most {MAX_SIDE} pixels a side are read.",
        hint="Scale the video down first.",
    )


def _unreadable(path: Path, log: str) -> VideoError:
    """The error for a file that ffmpeg gave up on, from what it wrote."""
    size = re.search(r"(?:Picture size|Video: .*?,) (\d+)x(\d+)", log)
    if size and max(int(size[1]), int(size[2])) > MAX_SIDE:
        return _too_large(path, int(size[1]), int(size[2]))
    if " Audio: " in log and " Video: " not in log:
        return VideoError(f"{path} holds sound only; a video with pictures is needed.")
    reasons = [line for line in log.splitlines() if "rror" in line or "nvalid" in line]
    reason = re.sub(r"^(\[.*?\] )+", "", reasons[0]).rstrip(". ") if reasons else "no reason given"
    return VideoError(
        f"{path} is damaged, or not a video ({reason}); {READABLE} is needed.",
        hint="Export the video again.",
    )


def write_video(path: Path | str, frames_FHWC: Tensor, fps: float) -> None:
    """Write frames as an mp4 (h264), webm (vp9) or gif, by suffix; the file appears only when it is complete.

    mp4 and webm are yuv420p so that every player shows them; their last row or column is repeated when a side is odd.

    Args:
        path: where to; folders that are missing are made, and a file that is there is replaced.
        frames_FHWC: RGB in [0, 1]; a small overshoot is clamped.
        fps: frames per second; a gif holds at most 50 of them.
    Raises:
        VideoError: another suffix, or frames or a frame rate that cannot be written.
        StorageError: the file cannot be written there.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        found = f"ends in {suffix!r}" if suffix else "has no suffix"
        raise VideoError(
            f"{path} {found}; {', '.join(_WRITERS)} can be written.",
            hint="Rename it.",
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
    settings["output_params"] = [*settings["output_params"], "-f", suffix[1:]]  # for the path has no suffix
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
    """The writer does not say when ffmpeg failed at the end, for want of space: count what can be read."""
    try:
        written, _ = imageio_ffmpeg.count_frames_and_secs(str(path.absolute()))
    except RuntimeError as error:
        raise OSError("the result cannot be read") from error
    if written is None or written < num_frames:
        raise OSError(f"{written} of {num_frames} frames were written")
