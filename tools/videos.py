"""Make video files like those of phones, screen recorders and cameras: `python -m tools.videos FOLDER`.

In most of them a bright block moves from left to right at a constant speed, so that a decoded frame shows its own time.
"""

import struct
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

SECONDS = 2
WIDTH, HEIGHT = 160, 96
TICKS = 240
"""Ticks per second in the clock of the files."""

Picture = npt.NDArray[np.uint8]

UPRIGHT = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
QUARTER_TURN = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
"""The display matrix of an mp4: a quarter turn clockwise."""


def block_at(time: float, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """A grey picture with a white block, an eighth of its width, that crosses it from left to right in `SECONDS`."""
    picture = np.full((height, width, 3), 60, np.uint8)
    left = round((width - width // 8) * time / SECONDS)
    picture[height // 4 : height * 3 // 4, left : left + width // 8] = 235
    return picture


def even_ticks(fps: int) -> list[int]:
    """Start times, in ticks, of the frames of a video with a constant rate."""
    return list(range(0, SECONDS * TICKS, TICKS // fps))


def screen_ticks() -> list[int]:
    """Start times, in ticks, of a screen recorder's frames; it writes one only when something has changed."""
    ticks = np.random.default_rng(0).choice([4, 4, 4, 8, 20], SECONDS * TICKS).cumsum()
    return [0, *(int(tick) for tick in ticks if tick < SECONDS * TICKS)]


def write(path: Path, ticks: Sequence[int], **coding: object) -> Path:
    """Write a frame for each tick. `coding` holds attributes of the encoder, and `codec`."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = _stream(container.add_stream(str(coding.pop("codec", "libx264")), rate=60), coding)
        pictures = (block_at(tick / TICKS) for tick in ticks)
        for picture, tick in zip(pictures, ticks, strict=True):
            container.mux(stream.encode(_frame(picture, tick, stream)))
        container.mux(stream.encode(None))
    return path


def _stream(stream: object, coding: dict[str, object]) -> VideoStream:
    assert isinstance(stream, VideoStream)
    defaults = {"width": WIDTH, "height": HEIGHT, "pix_fmt": "yuv420p", "time_base": Fraction(1, TICKS)}
    for name, value in (defaults | coding).items():
        setattr(stream.codec_context, name, value)
    return stream


def _frame(picture: Picture, tick: int, stream: VideoStream) -> VideoFrame:
    frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.codec_context.pix_fmt)
    frame.pts = tick
    frame.time_base = Fraction(1, TICKS)
    return frame


def phone(path: Path) -> Path:
    """A video of a phone held upright: HLG in 10 bits, rotated by a quarter turn."""
    hlg = {"color_primaries": 9, "color_trc": 18, "colorspace": 9, "pix_fmt": "yuv420p10le"}
    write(path, even_ticks(30), codec="libx265", options={"x265-params": "log-level=none"}, **hlg)
    data = path.read_bytes()
    found = data.index(UPRIGHT, data.index(b"tkhd"))
    path.write_bytes(data[:found] + QUARTER_TURN + data[found + len(UPRIGHT) :])
    return path


def screen(path: Path) -> Path:
    """A screen recording with a variable frame rate."""
    return write(path, screen_ticks())


def fast(path: Path) -> Path:
    """A video with 240 frames per second."""
    return write(path, even_ticks(240))


def anamorphic(path: Path) -> Path:
    """A video with pixels that are twice as wide as high."""
    return write(path, even_ticks(24), sample_aspect_ratio=Fraction(2))


def trimmed(path: Path) -> Path:
    """A video cut without re-encoding: an edit list hides the first half second, which later frames need."""
    whole = write(path.with_suffix(".whole.mp4"), even_ticks(24))
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.pts is None or packet.dts is None:
                continue
            shift = int(SECONDS / 4 / packet.time_base)
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = stream
            target.mux(packet)
    whole.unlink()
    return path


def hour(path: Path) -> Path:
    """An hour of 4K at 25 frames per second in two colours: four seconds are encoded and written 900 times."""
    large = {"width": 3840, "height": 2160, "options": {"preset": "ultrafast", "bf": "0"}, "gop_size": 100}
    with av.open(str(path), "w") as container:
        stream = _stream(container.add_stream("libx264", rate=25), {**large, "time_base": Fraction(1, 25)})
        packets = [packet for number in range(100) for packet in stream.encode(_plain(number, stream))]
        packets += stream.encode(None)
        for number in range(25 * 3600):
            container.mux(_again(packets[number % len(packets)], number, stream))
    return path


def _plain(number: int, stream: VideoStream) -> VideoFrame:
    frame = VideoFrame(stream.width, stream.height, "yuv420p")
    for plane in frame.planes:
        plane.update(bytes([60 if number < 50 else 180]) * plane.buffer_size)
    frame.pts = number
    frame.time_base = Fraction(1, 25)
    return frame


def _again(packet: Packet, number: int, stream: VideoStream) -> Packet:
    copy = Packet(bytes(packet))
    copy.stream = stream
    copy.time_base = Fraction(1, 25)
    copy.pts = copy.dts = number
    copy.is_keyframe = packet.is_keyframe
    return copy


def web(path: Path) -> Path:
    """A webm, for web pages."""
    return write(path, even_ticks(12), codec="libvpx-vp9")


def picture_loop(path: Path) -> Path:
    """A gif."""
    return write(path, even_ticks(12), codec="gif", pix_fmt="rgb8")


MAKERS = {
    "phone.mov": phone,
    "screen.mp4": screen,
    "fast.mp4": fast,
    "anamorphic.mp4": anamorphic,
    "trimmed.mp4": trimmed,
    "small.webm": web,
    "small.gif": picture_loop,
    "hour.mp4": hour,
}


def main(folder: Path) -> None:
    """Make all files."""
    for name, make in MAKERS.items():
        path = make(folder / name)
        print(f"{path}: {path.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
