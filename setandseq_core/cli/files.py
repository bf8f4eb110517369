"""Check the files that commands read and write before the work begins."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from ..errors import ConfigError
from .console import visible

VIDEO_SUFFIXES = (".mp4", ".gif", ".webm")
CONCEPT_SUFFIX = ".safetensors"


def check_out(path: Path, *suffixes: str, option: str = "--out") -> None:
    """Refuse a file that could not be written; create its folder.

    Raises:
        ConfigError: the suffix is wrong, the path is a folder, or a file of this name cannot be created there.
    """
    if path.suffix.lower() not in suffixes:
        needed = " or ".join(suffixes)
        raise ConfigError(f"{option} is {visible(str(path))}; it must end in {needed}.", hint="Rename it.")
    if os.path.isdir(path):  # unlike Path.is_dir, raises no error for a name that is too long
        raise ConfigError(f"{option} is {visible(str(path))}, which is a folder.", hint="Give the name of a file.")
    _try_writing(path, option)


def check_folder(path: Path, option: str = "--out") -> None:
    """Refuse a folder that could not be written to; create it.

    Raises:
        ConfigError: the path is a file, or a folder of this name cannot be created there.
    """
    if os.path.isfile(path):
        raise ConfigError(f"{option} is {visible(str(path))}, which is a file.", hint="Give the name of a folder.")
    _try_writing(path / "setandseq", option)


def _try_writing(path: Path, option: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The name is part of the test: it may be too long, or contain characters that the file system refuses.
        # Files beside the result, and half-written ones, have longer names.
        with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=".unfinished"):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(
            f"{option}: {visible(str(path))} cannot be written ({reason}).",
            hint="Choose another folder, or a shorter and simpler name.",
        ) from error


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The file {visible(str(path))} cannot be read: {error}.",
            hint="Give a text file in UTF-8.",
        ) from error
