"""Training states and prior clips that are kept on disk: their size, and their removal."""

from contextlib import suppress
from pathlib import Path

from ..atomic import remove_leftovers

KINDS = ("set", "sequence", "prior")
"""Beginnings of the names of these files."""
MOST_BYTES = 10 * 2**30
"""Room for all of them: some hundred trainings of Wan 1.3B."""


def kept_files(folder: Path) -> list[Path]:
    """States and prior clips in a folder, the least recently written first."""
    found = [path for kind in KINDS for path in folder.glob(f"{kind}_*.safetensors")]
    return sorted(found, key=_written)


def kept_bytes(folder: Path) -> int:
    return sum(_size(path) for path in kept_files(folder))


def bound_kept(folder: Path, most: int = MOST_BYTES) -> int:
    """Remove the oldest until the rest takes at most `most` bytes; return the bytes freed.

    What a running training needs is in its memory, and its own state is the newest: it stays unless it alone is larger.
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
    """Remove them all, and the folder if nothing else is in it; return the bytes freed."""
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
