"""This pack's folders inside ComfyUI's folders; names files there and saves them."""

import re
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path

import folder_paths
import yaml
from comfy.cli_args import args

from ..setandseq_core.atomic import remove_leftovers
from ..setandseq_core.concept_file.info import HASH_KEY
from ..setandseq_core.concept_file.safetensors import FileContent, check_data, read_header
from ..setandseq_core.errors import ConceptFileError
from ..setandseq_core.training.kept import bound_kept

CONCEPTS = "dynamic_concepts"
SUFFIX = ".safetensors"
NAME_BYTES = 150
"""Longest part of a file's name, in bytes; with all suffixes it stays below the 255 that file systems allow."""
PATH_BYTES = 600
"""Longest name with its folders, in bytes. A whole path may have 1,024 on macOS, the strictest system."""
DATES = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"}
DATE = re.compile(r"%date:([^%]*)%")
DATE_PART = re.compile("yyyy|yy|MM|dd|hh|mm|ss")
DATE_LETTERS = {"yyyy": "%Y", "yy": "%y", "MM": "%m", "dd": "%d", "hh": "%H", "mm": "%M", "ss": "%S"}
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')
"""Characters that Windows forbids in file names."""
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10))}


def register() -> None:
    """Make `models/dynamic_concepts` a model folder.

    Folders that the user's extra_model_paths.yaml lists for `dynamic_concepts` are searched after it. As with LoRAs, a
    folder that is marked as the default there comes first and receives new files. Leftovers of interrupted saves are
    removed.
    """
    own = Path(folder_paths.models_dir) / CONCEPTS
    with suppress(OSError):  # a shared models folder may be read-only
        own.mkdir(parents=True, exist_ok=True)
    paths, _ = folder_paths.folder_names_and_paths.get(CONCEPTS, ([], set()))
    if str(own) not in paths:
        paths.insert(1 if paths and _has_own_default() else 0, str(own))
    folder_paths.folder_names_and_paths[CONCEPTS] = (paths, {SUFFIX})
    for folder in (concepts_folder(), loras_folder()):
        remove_leftovers(folder, below=True)
    bound_kept(training_folder())


def _has_own_default() -> bool:
    """Whether a section of the user's extra_model_paths.yaml is the default and names a folder for concepts.

    ComfyUI puts such a folder first in its list but does not record that it is the default.
    """
    files = [Path(folder_paths.__file__).parent / "extra_model_paths.yaml"]
    files += [Path(path) for paths in args.extra_model_paths_config or () for path in paths]
    found = (yaml.safe_load(file.read_text(encoding="utf-8")) or {} for file in files if file.is_file())
    sections = (section for sections in found for section in sections.values() if section)
    return any(section.get("is_default") and CONCEPTS in section for section in sections)


def concepts_folder() -> Path:
    """Folder for new concepts."""
    return Path(folder_paths.get_folder_paths(CONCEPTS)[0])


def loras_folder() -> Path:
    """Folder for new plain LoRAs."""
    return Path(folder_paths.get_folder_paths("loras")[0])


def training_folder() -> Path:
    """Folder for training states and finished stages."""
    return Path(folder_paths.get_user_directory()) / "setandseq" / "training"


def concept_names() -> list[str]:
    """The names of all concepts, the newest first."""
    return sorted(folder_paths.get_filename_list(CONCEPTS), key=_changed, reverse=True)


def _changed(name: str) -> float:
    path = folder_paths.get_full_path(CONCEPTS, name)
    try:
        return Path(path or "").stat().st_mtime
    except OSError:  # deleted since the list was made
        return 0.0


def find_concept(name: str) -> Path:
    """Find the file of a concept by its name in the list.

    Raises:
        ConceptFileError: the list has no such name.
    """
    names = folder_paths.get_filename_list(CONCEPTS)
    name = next((here for here in spellings(name) if here in names), name)
    path = folder_paths.get_full_path(CONCEPTS, name) if name in names else None
    if path is None:
        found = ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
        raise ConceptFileError(
            f"There is no concept '{name!s:.200}' in {concepts_folder()}. Found there: {found or 'nothing'}.",
            hint="Put the file there and refresh the list (key R), choose another, or make one with Save Dynamic "
            "Concept.",
        )
    return Path(path)


def spellings(name: str) -> tuple[str, ...]:
    """The name with the path separators of each system, because workflows are shared between systems."""
    return name, name.replace("\\", "/"), name.replace("/", "\\")


def dated(name: str) -> str:
    """The name with %year%, %month%, %day%, %hour%, %minute% and %second% filled in, and %date:yyyy-MM-dd% as well.

    ComfyUI's own save nodes know the first six. Its interface fills in the last one, but another client may not.
    """
    now = datetime.now()
    for word, letters in DATES.items():
        name = name.replace(f"%{word}%", now.strftime(letters))
    return DATE.sub(lambda found: DATE_PART.sub(lambda part: now.strftime(DATE_LETTERS[part[0]]), found[1]), name)


def safe_name(name: str) -> str:
    """Turn a name into one that every system allows, without a suffix. A "/" creates folders, and no name leads out of
    the base folder.

    Raises:
        ConceptFileError: nothing is left of the name, or it is too long.
    """
    if len(name.encode("utf-8", "replace")) > PATH_BYTES:
        raise ConceptFileError(
            f"The name '{name:.50}...' has {len(name)} characters; its folders and its own name together may have "
            f"{PATH_BYTES} bytes.",
            hint="Give a shorter one.",
        )
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
    """Save a file as `name`, or as name_2, name_3 ... if that name is taken by other content; return its path.

    If one of these files already has the same content, nothing is saved.

    Args:
        content: must have the hash of its data in its metadata.
        folder: the folder that `name` is relative to.
        name: a result of `safe_name`.
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
    """The file's metadata, including the hash of its data; None for a damaged or foreign file."""
    try:
        metadata = read_header(path).metadata
        check_data(path, metadata[HASH_KEY])
    except (ConceptFileError, KeyError):
        return None
    return metadata


def file_stamp(path: Path) -> str:
    """A text that changes whenever the file changes; nodes return it from `fingerprint_inputs`."""
    about = path.stat()
    return f"{about.st_mtime_ns} {about.st_size}"
