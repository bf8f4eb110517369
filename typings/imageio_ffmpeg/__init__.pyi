"""The part of imageio-ffmpeg that is used here; the package has no types."""

from collections.abc import Generator, Sequence
from typing import Any

def get_ffmpeg_exe() -> str: ...
def count_frames_and_secs(path: str) -> tuple[int | None, float | None]: ...
def read_frames(path: str, pix_fmt: str = ...) -> Generator[Any]: ...
def write_frames(
    path: str,
    size: tuple[int, int],
    *,
    pix_fmt_in: str = ...,
    pix_fmt_out: str = ...,
    fps: float = ...,
    quality: float | None = ...,
    codec: str | None = ...,
    macro_block_size: int = ...,
    ffmpeg_log_level: str = ...,
    output_params: Sequence[str] | None = ...,
) -> Generator[None, bytes | None]: ...
