"""The files that commands read and write, checked before the work begins."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from ..errors import ConfigError
from .console import visible

VIDEO_SUFFIXES = (".mp4", ".gif", ".webm")
CONCEPT_SUFFIX = ".safetensors"


def check_out(path: Path, *suffixes: str, option: str = "--out") -> None:
    """Refuse a file that could not be written; makes its folder.

    Raises:
        ConfigError: another suffix, a folder, or a place where no file of this name can be made.
    """
    if path.suffix.lower() not in suffixes:
        needed = " or ".join(suffixes)
        raise ConfigError(f"{option} is {visible(str(path))}; it must end in {needed}.", hint="Rename it.")
    if os.path.isdir(path):  # unlike Path.is_dir, no error for a name that is too long
        raise ConfigError(f"{option} is {visible(str(path))}, which is a folder.", hint="Give the name of a file.")
    _try_writing(path, option)


def check_folder(path: Path, option: str = "--out") -> None:
    """Refuse a folder that could not be written to; makes it.

    Raises:
        ConfigError: a file, or a place where no folder of this name can be made.
    """
    if os.path.isfile(path):
        raise ConfigError(f"{option} is {visible(str(path))}, which is a file.", hint="Give the name of a folder.")
    _try_writing(path / "setandseq", option)


def _try_writing(path: Path, option: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The name is part of the test: it may be too long, or hold characters that the file system refuses. Files
        # that go with the result, and half-written ones, have longer names than it.
        with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=".unfinished"):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(
            f"{option}: {visible(str(path))} cannot be written ({reason}).",
            hint="Choose another folder, or a shorter and simpler name.",
        ) from error


def read_text(path: Path) -> str:
    """A text file, UTF-8 with or without a byte order mark.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The file {visible(str(path))} cannot be read: {error}.",
            hint="Give a text file in UTF-8.",
        ) from error
