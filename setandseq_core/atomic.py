"""Write files so that each holds its old content or all of the new, whatever happens during the write.

A file is written inside a *partial folder* next to its target and moved to the target when it is complete and on the
disk. Libraries may put more files beside the one they write (safetensors and ffmpeg do); these stay in the partial
folder. The folder holds a locked file. The system releases the lock when the process ends, even by a kill, so the
next writer or start can tell leftovers from files that another process, container or computer is still writing.
"""

import errno
import os
import secrets
import shutil
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from .errors import StorageError

PARTIAL_FOLDERS = ".setandseq-*.partial"
LOCK = "lock"

if sys.platform == "win32":

    def _lock(file: BinaryIO) -> None:
        """Does nothing, because Windows does not delete a file that is open."""

    def _remove_left(folder: Path) -> None:
        (folder / LOCK).unlink(missing_ok=True)
        shutil.rmtree(folder)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        with suppress(OSError):  # a file system without locks: leftovers there cannot be recognised and stay
            fcntl.flock(file, fcntl.LOCK_EX)

    def _remove_left(folder: Path) -> None:
        with suppress(FileNotFoundError), (folder / LOCK).open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises OSError while its writer lives
        shutil.rmtree(folder)


@contextmanager
def replaced(path: Path, *, size: int = 0) -> Generator[Path]:
    """Yield a file to write to and move it to `path` at the end; after an error `path` is unchanged.

        with replaced(path) as partial:
            partial.write_text(report, encoding="utf-8")

    The umask decides who can read the file. Missing folders are created.

    Args:
        size: bytes that will be written, 0 if unknown; a disk with less free space is refused at once.
    Raises:
        StorageError: the disk is full, the folder is read-only, or anything else went wrong with the file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        if free_space(path) < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with _partial_folder(path.parent) as folder:
            partial = folder / "content"
            yield partial
            _put_in_place(partial, path)
    except OSError as error:
        raise _not_stored(path, error, size) from error


def remove_leftovers(folder: Path, *, below: bool = False) -> None:
    """Remove files left by killed writers in `folder` and, if `below`, in all folders below it."""
    for left in [*(folder.rglob(PARTIAL_FOLDERS) if below else folder.glob(PARTIAL_FOLDERS))]:
        with suppress(OSError):  # the folder is in use, already gone, or another user's
            _remove_left(left)


def save_atomically(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file so that `path` holds either the old content or all of the new.

    Raises:
        StorageError: the file cannot be written; the message names it and the space it needs.
    """
    dense = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with replaced(path, size=sum(tensor.nbytes for tensor in dense.values())) as partial:
        try:
            save_file(dense, partial, dict(metadata))
        except SafetensorError as error:  # the library raises this for an OSError
            raise OSError(str(error).rpartition("I/O error: ")[2].partition(" (os error")[0]) from error


def free_space(path: Path) -> int:
    """Free bytes on the disk of the file `path`, which need not exist."""
    there = next(folder for folder in path.absolute().parents if os.path.isdir(folder))
    return shutil.disk_usage(there).free


@contextmanager
def _partial_folder(parent: Path) -> Generator[Path]:
    folder, lock = _locked_folder(parent)
    try:
        yield folder
    finally:
        lock.close()
        shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(parent: Path) -> tuple[Path, BinaryIO]:
    folder = parent / PARTIAL_FOLDERS.replace("*", secrets.token_hex(4))
    folder.mkdir()
    with suppress(FileNotFoundError):
        lock = (folder / LOCK).open("xb")
        _lock(lock)
        if (folder / LOCK).exists():
            return folder, lock
        lock.close()
    return _locked_folder(parent)  # another process took the folder for a leftover before it was locked


def _put_in_place(partial: Path, path: Path) -> None:
    """Move a complete file to its place once its bytes are on the disk."""
    _follow_umask(partial)
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    _sync_folder(path.parent)


def _follow_umask(partial: Path) -> None:
    """Give a file the permissions of its folder, because some libraries create files that only their owner can read."""
    allowed = partial.parent.stat().st_mode & 0o666
    if partial.stat().st_mode & 0o777 != allowed:
        with suppress(PermissionError):  # a disk of another system, without file modes
            partial.chmod(allowed)


def _sync_folder(folder: Path) -> None:
    """Write the file's new name to the disk as well; Windows does that by itself."""
    if sys.platform == "win32":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network disks do not support this
            os.fsync(opened)
    finally:
        os.close(opened)


def _not_stored(path: Path, error: OSError, size: int) -> StorageError:
    reason = error.strerror or str(error).splitlines()[0]
    room = f" It needs {_mebibytes(size)}; {_mebibytes(free_space(path))} are free there." if size else ""
    return StorageError(
        f"{path} cannot be written ({reason}).{room}",
        hint="Check the folder, its permissions and the free space, or choose another folder.",
    )


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
