"""Training states and prior clips on disk: measure their size and remove them."""

from contextlib import suppress
from pathlib import Path

from ..atomic import remove_leftovers

KINDS = ("set", "sequence", "prior")
"""Prefixes of the names of these files."""
MOST_BYTES = 10 * 2**30
"""Room for all of them, enough for about a hundred trainings of Wan 1.3B."""


def kept_files(folder: Path) -> list[Path]:
    """Training states and prior clips in a folder, least recently written first."""
    found = [path for kind in KINDS for path in folder.glob(f"{kind}_*.safetensors")]
    return sorted(found, key=_written)


def kept_bytes(folder: Path) -> int:
    return sum(_size(path) for path in kept_files(folder))


def bound_kept(folder: Path, most: int = MOST_BYTES) -> int:
    """Remove the oldest files until the rest takes at most `most` bytes; return the bytes freed.

    A running training holds what it needs in memory. Its own state is the newest file, so it stays unless it alone is
    larger than `most`.
    """
    remove_leftovers(folder)
    before = left = kept_bytes(folder)
    for path in kept_files(folder):
        if left <= most:
            break
        size = _size(path)
        with suppress(OSError):  # another process reads it, or it is gone already
            path.unlink()
            left -= size
    return before - left


def empty_kept(folder: Path) -> int:
    """Remove all these files, and the folder if nothing else is in it; return the bytes freed."""
    freed = bound_kept(folder, 0)
    with suppress(OSError):  # there is something else in it
        folder.rmdir()
    return freed


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _written(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0
