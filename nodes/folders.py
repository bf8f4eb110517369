"""Where our files are among ComfyUI's folders, and how they are named and saved there."""

import re
from contextlib import suppress
from itertools import count
from pathlib import Path

import folder_paths

from ..setandseq_core.concept_file.info import HASH_KEY
from ..setandseq_core.concept_file.safetensors import FileContent, check_data, read_header
from ..setandseq_core.errors import ConceptFileError

CONCEPTS = "dynamic_concepts"
SUFFIX = ".safetensors"
NAME_BYTES = 150
"""Of each part of a file's name; with its endings it stays below the 255 that file systems take."""
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')
"""In file names on Windows."""
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10))}


def register() -> None:
    """Make `models/dynamic_concepts` a model folder.

    Folders that the user's extra_model_paths.yaml names `dynamic_concepts` are searched after it.
    """
    own = Path(folder_paths.models_dir) / CONCEPTS
    with suppress(OSError):  # a shared models folder may be read-only
        own.mkdir(parents=True, exist_ok=True)
    folder_paths.add_model_folder_path(CONCEPTS, str(own), is_default=True)
    paths, _ = folder_paths.folder_names_and_paths[CONCEPTS]
    folder_paths.folder_names_and_paths[CONCEPTS] = (paths, {SUFFIX})


def concepts_folder() -> Path:
    """Where new concepts are saved."""
    return Path(folder_paths.get_folder_paths(CONCEPTS)[0])


def loras_folder() -> Path:
    """Where new plain LoRAs are saved."""
    return Path(folder_paths.get_folder_paths("loras")[0])


def training_folder() -> Path:
    """Where training keeps its state and what it has finished."""
    return Path(folder_paths.get_user_directory()) / "setandseq" / "training"


def find_concept(name: str) -> Path:
    """The file of a concept by its name in the list.

    Raises:
        ConceptFileError: the list has no such name.
    """
    names = folder_paths.get_filename_list(CONCEPTS)
    path = folder_paths.get_full_path(CONCEPTS, name) if name in names else None
    if path is None:
        found = ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
        raise ConceptFileError(
            f"There is no concept '{name!s:.200}' in {concepts_folder()}. Found there: {found or 'nothing'}.",
            hint="Put the file there and refresh the list (key R), choose another, or make one with Save Dynamic "
            "Concept.",
        )
    return Path(path)


def safe_name(name: str) -> str:
    """A file's name without its ending, as it may be on every system; "/" makes folders, nothing leads out of them.

    Raises:
        ConceptFileError: nothing is left of the name.
    """
    parts = [_safe_part(part) for part in name.removesuffix(SUFFIX).replace("\\", "/").split("/")]
    if not parts[-1]:
        raise ConceptFileError(
            f"'{name:.200}' is no name for a file.",
            hint="Give one such as 'lantern' or 'animals/bee'.",
        )
    return "/".join(part for part in parts if part)


def _safe_part(part: str) -> str:
    part = FORBIDDEN.sub("_", part).encode("utf-8", "ignore")[:NAME_BYTES].decode("utf-8", "ignore").strip(" .")
    return f"_{part}" if part.partition(".")[0].upper() in RESERVED else part


def save_new(content: FileContent, folder: Path, name: str) -> Path:
    """Save a file as `name` or, where another content has that name, as name_2, name_3 ...; return where it is.

    A content that is already there under one of these names is not saved again.

    Args:
        content: with the hash of its data in its metadata.
        folder: inside which `name` is.
        name: as `safe_name` gives it.
    Raises:
        StorageError: the file cannot be written there.
    """
    names = (name if number == 1 else f"{name}_{number}" for number in count(1))
    paths = (folder / f"{name}{SUFFIX}" for name in names)
    path = next(path for path in paths if not path.exists() or _metadata(path) == content.metadata)
    if not path.exists():
        content.save(path)
    return path


def _metadata(path: Path) -> dict[str, str] | None:
    """Everything that tells two files apart, with the hash of the data; None for a damaged or foreign file."""
    try:
        metadata = read_header(path).metadata
        check_data(path, metadata[HASH_KEY])
    except (ConceptFileError, KeyError):
        return None
    return metadata
