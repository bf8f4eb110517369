"""Check a video file by its bytes alone: its container, and whether its end is there.

ffmpeg plays a truncated file as far as it goes and reports success, so the end is checked before.
"""

import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from ..errors import VideoError

VideoSource = Path | BytesIO
"""A video file on the disk, or a whole one in memory."""


MAX_SIDE = 8192
"""Largest width and height of a video, in pixels."""


READABLE = "mp4, mov, webm, mkv or gif"


_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


_MATROSKA = b"\x1a\x45\xdf\xa3"
_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"


_MATROSKA_ALPHA = b"\x53\xc0\x81\x01"


def source_name(source: VideoSource) -> str:
    """Name of the video in messages."""
    return str(source) if isinstance(source, Path) else "The video"


def check_container(source: VideoSource) -> None:
    """Refuse a file that is not a video, or a video file that is cut off.

    Raises:
        VideoError: the file is missing, not a file, unreadable, empty, of another format or cut off.
    """
    if isinstance(source, Path):
        _check_path(source)
    try:
        with _opened(source) as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(0)
            _check_head(source_name(source), file, length)
    except OSError as error:
        raise VideoError(
            f"{source} cannot be read ({error.strerror}).",
            hint="Check its permissions.",
        ) from error


def _check_path(path: Path) -> None:
    if not path.exists():
        raise VideoError(
            f"{path} does not exist; the path of a video file is needed.",
            hint="Check the spelling.",
        )
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "not an ordinary file"
        raise VideoError(f"{path} is {kind}; the path of a video file is needed.", hint="Choose a file.")


@contextmanager
def _opened(source: VideoSource) -> Generator[BinaryIO]:
    """Open a video at its beginning; a file in memory is also rewound on exit."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
        return
    source.seek(0)
    yield source
    source.seek(0)


def _check_head(name: str, file: BinaryIO, length: int) -> None:
    head = file.read(12)
    if not head:
        raise VideoError(
            f"{name} is empty (0 bytes); a video file is needed.",
            hint="Copy or download it again.",
        )
    if head[4:8] in _MP4_BOXES:
        cut_off = _mp4_is_cut_off(file, length)
    elif head.startswith(_MATROSKA):
        cut_off = _matroska_is_cut_off(file, length)
    elif head.startswith(b"GIF8"):
        width, height = struct.unpack("<HH", head[6:10].ljust(4, b"\0"))
        check_side(name, width, height)  # checked here, because ffmpeg would fail without a reason
        file.seek(-min(64, length), os.SEEK_END)
        cut_off = not file.read().rstrip(b"\0\r\n").endswith(b";")
    else:
        raise VideoError(
            f"{name} is not a video: it begins with {head!r}; {READABLE} is needed.",
            hint="Convert it, or use another file (one image is not enough).",
        )
    if cut_off:
        raise VideoError(
            f"{name} is cut off: its end is missing after {length} bytes.",
            hint="Copy or download it again.",
        )


def check_side(name: str, width: int, height: int) -> None:
    """Raise VideoError if the frames are too large to read."""
    if max(width, height) > MAX_SIDE:
        raise VideoError(
            f"{name} has frames of {width}x{height}; at most {MAX_SIDE} pixels a side are read.",
            hint="Scale the video down first.",
        )


def _mp4_is_cut_off(file: BinaryIO, length: int) -> bool:
    start = 0
    while start + 8 <= length:
        file.seek(start)
        header = file.read(16)
        size = int.from_bytes(header[:4], "big")
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if size < 8:  # 0 means to the end of the file; anything else is no box
            return False
        start += size
        if start > length and header[4:8] in (*_MP4_BOXES, b"moof"):
            return True
    return False


def _matroska_is_cut_off(file: BinaryIO, length: int) -> bool:
    start = 4
    for element in (_MATROSKA, _MATROSKA_SEGMENT):
        file.seek(start - 4)
        if file.read(4) != element:
            return False
        first = file.read(1)
        num_bytes = 9 - first[0].bit_length() if first and first[0] else 9
        if num_bytes > 8:
            return False
        value = int.from_bytes(first + file.read(num_bytes - 1), "big") & ((1 << 7 * num_bytes) - 1)
        if value == (1 << 7 * num_bytes) - 1:  # size unknown, as in a recording of a live stream
            return False
        start += num_bytes + value
        if start > length:
            return True
        start += 4
    return False


def matroska_has_alpha(source: VideoSource) -> bool:
    """Whether a webm or mkv file marks its video as having an alpha channel."""
    with _opened(source) as file:
        head = file.read(1 << 16)
    return head.startswith(_MATROSKA) and _MATROSKA_ALPHA in head
