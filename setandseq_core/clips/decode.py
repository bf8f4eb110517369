"""Decode a stretch of a video file one frame at a time, each with its time.

PyAV decodes. ComfyUI itself reads videos with it, so every ComfyUI has it. It opens files in memory and on the disk,
seeks, and says when each frame begins. imageio-ffmpeg can do none of this: it runs ffmpeg as a process and reads frames
without times through a pipe.

Only mp4, mov, webm, mkv and gif are opened: ffmpeg knows hundreds of formats, some of which are playlists that fetch
other files.

Shape letters: H height, W width, C channels.
"""

import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.filter import Graph
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..errors import VideoError
from .containers import (
    MAX_SIDE,
    READABLE,
    VideoSource,
    check_container,
    check_side,
    matroska_has_alpha,
    source_name,
)
from .size import Size, crop_size
from .stretch import Stretch
from .tone import Transfer

THREADS = 1
"""Threads of the decoder. Each holds its own frames of 12 MiB in 4K, so two already take more than a small clip."""

Picture: TypeAlias = npt.NDArray[np.generic]
"""A decoded, scaled and upright frame (H, W, C): 8 bits, or 16 bits for HDR; RGB, or RGBA blended with black."""

_OPTIONS = {
    "format_whitelist": "mov,mp4,matroska,webm,gif",
    "protocol_whitelist": "file",
    "max_pixels": str(MAX_SIDE**2),
}
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that keep the alpha channel, which ffmpeg's own VP8 and VP9 decoders drop."""
_SCALE_FLAGS = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp:param0=0:param1=0.5"
"""Flags for the cubic filter of `clip.resize`, so that a file and the same frames in memory give the same pictures."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Turn:
    """Turns a stored picture upright: swaps rows and columns first, then mirrors."""

    swapped: bool = False
    mirrored: bool = False
    """Whether left and right are exchanged."""
    upside_down: bool = False

    def __call__(self, picture: Picture) -> Picture:
        """Return the picture upright."""
        if self.swapped:
            picture = picture.swapaxes(0, 1)
        if self.mirrored:
            picture = picture[:, ::-1]
        if self.upside_down:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)

    def size(self, size: Size) -> Size:
        """Swaps (height, width) if the picture is stored sideways; works in both directions."""
        return (size[1], size[0]) if self.swapped else size


def turn_of(frame: VideoFrame) -> Turn:
    """The rotation that the file's display matrix asks for, to the nearest quarter turn."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Turn()
    right_x, right_y, _, down_x, down_y = struct.unpack("=5i", bytes(matrix)[:20])  # directions of right and down
    if abs(right_x) >= abs(right_y):
        return Turn(mirrored=right_x < 0, upside_down=down_y < 0)
    return Turn(swapped=True, mirrored=down_x < 0, upside_down=right_y < 0)


@dataclass(kw_only=True, slots=True, frozen=True)
class OpenVideo:
    """An open video file and its video stream."""

    name: str
    container: InputContainer
    stream: VideoStream
    decoder: VideoCodecContext

    @property
    def fps(self) -> float:
        """Mean frames per second; 0 when the file does not say."""
        return float(self.stream.average_rate or 0)

    @property
    def seconds(self) -> float:
        """Length of the file, sound included; 0 when the file does not say."""
        return round(max(0, self.container.duration or 0) / av.time_base, 2)

    @property
    def transfer(self) -> Transfer | None:
        """The transfer function of a high-dynamic-range video, known once a frame is decoded; None for SDR."""
        known = [transfer for transfer in Transfer if transfer == self.decoder.color_trc]
        return known[0] if known else None

    def upright_size(self, frame: VideoFrame) -> Size:
        """Height and width of a frame as a player shows it: upright, with square pixels."""
        return turn_of(frame).size((frame.height, self.square_width(frame)))

    def stored_size(self, frame: VideoFrame) -> Size:
        """Height and width of a frame turned upright, in pixels as they are stored."""
        return turn_of(frame).size((frame.height, frame.width))

    def square_width(self, frame: VideoFrame) -> int:
        """Width of a stored frame after its pixels are made square."""
        shape = self.stream.sample_aspect_ratio or 1
        return min(max(1, round(frame.width * shape)), 2 * MAX_SIDE)

    def timed_frames(self, stretch: Stretch) -> Iterator[tuple[float, VideoFrame]]:
        """The frames of a stretch, each with its start time in seconds from the start of the stretch.

        The first frame may begin before 0 and last into the stretch. The last entry repeats the last frame and only
        says when it ends.
        """
        origin = self._origin()
        if stretch.start and origin is not None:
            self._seek(origin + stretch.start)
        begin = end = 0.0
        last = None
        for frame in self._frames():
            found = end if frame.pts is None else frame.pts * self._tick
            origin = found if origin is None else origin
            begin = max(begin, found - origin) if last else found - origin
            if begin >= stretch.end:
                end = stretch.end
                break
            yield begin - stretch.start, frame
            end = begin + (frame.duration * self._tick or 1 / (self.fps or 25))
            last = frame
        if last:
            yield min(end, stretch.end) - stretch.start, last

    @property
    def _tick(self) -> float:
        return float(self.stream.time_base or 1)

    def _origin(self) -> float | None:
        """Start of the first frame in seconds of the file's clock; None if the file does not say."""
        return None if self.stream.start_time is None else self.stream.start_time * self._tick

    def _seek(self, second: float) -> None:
        """Seek to the last key frame before a time. A gif has no key frames, so it is decoded from its beginning."""
        try:
            self.container.seek(int(second / self._tick), stream=self.stream)
        except FFmpegError:
            return

    def _frames(self) -> Iterator[VideoFrame]:
        """All frames from the current position on, without damaged ones, which players skip too."""
        try:
            for packet in self.container.demux(self.stream):
                yield from self._decoded(packet)
        except FFmpegError as error:
            raise unreadable(self.name, error.strerror) from error

    def _decoded(self, packet: "Packet[VideoStream]") -> list[VideoFrame]:
        try:
            frames: list[VideoFrame] = self.decoder.decode(packet)  # pyright: ignore[reportUnknownMemberType]
        except InvalidDataError:
            return []
        for frame in frames:
            check_side(self.name, frame.width, frame.height)
        return frames


@contextmanager
def open_video(source: VideoSource) -> Generator[OpenVideo]:
    """Open a video file.

    Raises:
        VideoError: the file is missing, not a video, cut off, sound only or too large.
    """
    check_container(source)
    name = source_name(source)
    # The path is absolute, so that no name is taken for an option or a protocol.
    file = str(source.absolute()) if isinstance(source, Path) else source
    try:
        container = av.open(file, mode="r", options=_OPTIONS, metadata_errors="replace")
    except FFmpegError as error:
        raise unreadable(name, error.strerror) from error
    with container:
        stream = _picture_stream(container, name)
        yield OpenVideo(name=name, container=container, stream=stream, decoder=_decoder(source, stream))


def _picture_stream(container: InputContainer, name: str) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        if container.streams.audio:
            raise VideoError(f"{name} holds sound only; a video with pictures is needed.", hint="Choose another file.")
        raise unreadable(name, "it has no pictures")
    if stream.codec_context is None:  # pyright: ignore[reportUnnecessaryComparison]  # ffmpeg knows no decoder
        raise unreadable(name, "its coding is not known")
    check_side(name, stream.width, stream.height)
    return stream


def _decoder(source: VideoSource, stream: VideoStream) -> VideoCodecContext:
    decoder = stream.codec_context
    wanted = _ALPHA_DECODERS.get(decoder.codec.canonical_name)
    if wanted in av.codecs_available and matroska_has_alpha(source):
        keeps_alpha = av.CodecContext.create(wanted, "r")
        assert isinstance(keeps_alpha, VideoCodecContext)
        return keeps_alpha
    decoder.thread_type = ThreadType.AUTO
    decoder.thread_count = THREADS
    decoder.options = {"max_pixels": _OPTIONS["max_pixels"]}
    return decoder


def unreadable(name: str, reason: str | None) -> VideoError:
    """The error for a file that cannot be decoded."""
    return VideoError(
        f"{name} is damaged, or not a video ({reason}); {READABLE} is needed.",
        hint="Export the video again.",
    )


# --- pictures -----------------------------------------------------------------------------------------------------


class Scaler:
    """Makes upright pictures of one size from decoded frames; ffmpeg crops and scales them in one step."""

    def __init__(self, video: OpenVideo, size: Size):
        self._video = video
        self._size = size
        self._turn = Turn()
        self._graph: Graph | None = None
        self._made_for: tuple[int, int, str] | None = None

    def picture(self, frame: VideoFrame) -> Picture:
        """The largest central part of a frame with the aspect ratio of the size, scaled to it."""
        kind = (frame.width, frame.height, frame.format.name)
        if self._graph is None or kind != self._made_for:  # frames may change within a stream
            # Only when they change: PyAV ties a frame to its side data in a cycle that only the collector frees.
            self._turn = turn_of(frame)
            self._graph = self._graph_for(frame)
            self._made_for = kind
        self._graph.push(frame)
        scaled = self._graph.pull()
        assert isinstance(scaled, VideoFrame)
        return self._turn(scaled.to_ndarray())

    def _graph_for(self, frame: VideoFrame) -> Graph:
        height, width = self._turn.size(self._size)
        has_alpha = any(component.is_alpha for component in frame.format.components)
        rgb = "rgb24" if self._video.transfer is None else "rgb48le"  # tone mapping needs more than 256 steps
        graph = Graph()
        nodes = [
            graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=self._video.stream.time_base
            ),
            graph.add("crop", self._crop(frame)),
        ]
        if has_alpha:
            rgb = "rgba"
            nodes.append(graph.add("format", "gbrap"))
            nodes.append(graph.add("premultiply", "inplace=1"))  # transparent parts become black
        nodes.append(graph.add("scale", f"{width}:{height}:{_SCALE_FLAGS}"))
        nodes.append(graph.add("format", rgb))
        nodes.append(graph.add("buffersink"))
        graph.link_nodes(*nodes).configure()
        return graph

    def _crop(self, frame: VideoFrame) -> str:
        """The central part with the aspect ratio of the size, in stored pixels, which need not be square."""
        square_width = self._video.square_width(frame)
        height, width = crop_size((frame.height, square_width), self._turn.size(self._size))
        width = max(1, round(width * frame.width / square_width))
        top = (frame.height - height) // 2
        left = (frame.width - width) // 2
        if frame.format.chroma_width(2) == 1:  # colour has half the resolution: an odd offset would shift it
            top -= top % 2
            left -= left % 2
        return f"{width}:{height}:{left}:{top}:exact=1"
