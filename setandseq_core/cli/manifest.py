"""The manifest of `train-many`: a TOML or CSV file with the clip, the prompts and the settings of each concept."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..clips.clip import Words
from ..clips.video import read_info
from ..config import MethodConfig, config_from_dict, read_config
from ..errors import ConfigError, SetAndSequenceError
from ..prompts import check_prompt, motion_prompt
from .manifest_rows import Row, csv_rows, toml_rows

REQUIRED = ("name", "clip", "static_prompt")
TEXTS = (*REQUIRED, "motion_prompt", "dynamic_prompt", "identity_token", "motion_token", "config")
KNOWN = (*TEXTS, "settings")
UNSAFE = set('/\\:*?"<>|\n\r\t')
"""Characters that at least one system does not allow in file names."""
LONGEST_NAME = 100
"""Maximum characters of a name. File systems allow 255 bytes, and files beside the concept have longer names."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Entry:
    """One concept of a manifest."""

    name: str
    """Name of the concept and of its file."""
    clip: Path
    words: Words
    config: MethodConfig


def read_manifest(path: Path, base: MethodConfig) -> list[Entry]:
    """Read all concepts of a manifest, and check everything that can be checked without a model.

    Args:
        path: a .toml file with one table [[concept]] per concept, or a .csv file with one row per concept. Paths in
            it are relative to its folder.
        base: settings that an entry's own settings change.
    Raises:
        ConfigError: the file cannot be read, an entry is wrong or incomplete, a clip is not a video, or two concepts
            have the same name. The message gives the line and column.
    """
    rows = csv_rows(path) if path.suffix.lower() == ".csv" else toml_rows(path)
    if not rows:
        raise ConfigError(f"{path.name} has no concepts.", hint="Add a table [[concept]], or a row below the header.")
    folder = path.absolute().parent
    entries: list[Entry] = []
    taken: dict[str, Row] = {}
    for row in rows:
        entry = _entry(row, path.name, folder, base)
        before = taken.setdefault(entry.name.casefold(), row)  # some file systems do not tell A from a
        if before is not row:
            where = f"{path.name}, {row.place('name')}"
            raise ConfigError(
                f"{where}: the concept of {before.place('name')} is named {entry.name!r}, too.",
                hint="Give each a name of its own.",
            )
        entries.append(entry)
    return entries


def _entry(row: Row, file: str, folder: Path, base: MethodConfig) -> Entry:
    for key in row.values:
        if key not in KNOWN:
            raise ConfigError(f"{file}, {row.place(key)}: {key!r} is unknown.", hint=f"Known are {', '.join(KNOWN)}.")
    texts = {key: _text(row, key, file) for key in TEXTS}
    for key in REQUIRED:
        if not texts[key]:
            raise ConfigError(
                f"{file}, {row.place(key)}: this concept has no {key!r}.",
                hint=f"Every concept needs {', '.join(REQUIRED)}.",
            )
    with _placed(row, file, "name"):
        name = _file_name(texts["name"])
    clip = folder / texts["clip"]
    with _placed(row, file, "clip"):
        read_info(clip)
    with _placed(row, file, "config"):
        config = read_config(folder / texts["config"], base) if texts["config"] else base
    return Entry(name=name, clip=clip, words=_words(row, texts, file), config=_settings(row, file, config))


@contextmanager
def _placed(row: Row, file: str, *keys: str) -> Generator[None]:
    """Add the place of the value to an error about it."""
    try:
        yield
    except SetAndSequenceError as error:
        raise ConfigError(f"{file}, {row.place(*keys)}: {error.message}", hint=error.hint) from error


def _text(row: Row, key: str, file: str) -> str:
    value = row.values.get(key, "")
    if not isinstance(value, str):
        raise ConfigError(
            f"{file}, {row.place(key)}: {key!r} is {value!r}; it must be text.", hint='Put it in quotes: "...".'
        )
    return value


def _file_name(text: str) -> str:
    name = check_prompt(text, "name")
    if set(name) & UNSAFE or name[0] == "." or name[-1] == "." or len(name) > LONGEST_NAME:
        raise ConfigError(
            f"{name!r} cannot name a file.",
            hint=f"Use letters, digits, spaces, - and _, and at most {LONGEST_NAME} of them.",
        )
    return name


def _words(row: Row, texts: Mapping[str, str], file: str) -> Words:
    if bool(texts["motion_prompt"]) == bool(texts["dynamic_prompt"]):
        found = "both are there" if texts["motion_prompt"] else "neither is there"
        raise ConfigError(
            f"{file}, {row.place('motion_prompt')}: either 'motion_prompt' or 'dynamic_prompt' is needed; {found}.",
            hint="motion_prompt is the whole prompt, dynamic_prompt what follows the static one.",
        )
    with _placed(row, file, "static_prompt"):
        looks = check_prompt(texts["static_prompt"], "static prompt")
    moving = "motion_prompt" if texts["motion_prompt"] else "dynamic_prompt"
    with _placed(row, file, moving):
        moves = check_prompt(texts[moving], moving.replace("_", " "))
        whole = moves if moving == "motion_prompt" else motion_prompt(looks, moves)
    token = "identity_token" if texts["identity_token"] not in looks else "motion_token"
    with _placed(row, file, token):
        return Words(
            static_prompt=looks,
            motion_prompt=check_prompt(whole, "motion prompt"),
            identity_token=texts["identity_token"],
            motion_token=texts["motion_token"],
        )


def _settings(row: Row, file: str, config: MethodConfig) -> MethodConfig:
    """Apply an entry's own settings one at a time, so that an error names its place."""
    settings = row.values.get("settings", {})
    if not isinstance(settings, dict):
        raise ConfigError(
            f"{file}, {row.place('settings')}: 'settings' is no table.",
            hint="Write settings = { seed = 7 }, or [concept.settings] above the settings.",
        )
    for keys, value in _leaves(cast("dict[str, object]", settings)):
        nested: object = value
        for key in reversed(keys):
            nested = {key: nested}
        with _placed(row, file, "settings", *keys):
            config = config_from_dict(cast("dict[str, object]", nested), config)
    return config


def _leaves(table: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], object]]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            for keys, leaf in _leaves(cast("dict[str, object]", value)):
                yield (key, *keys), leaf
        else:
            yield (key,), value
