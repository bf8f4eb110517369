"""The manifest of `train-many`: a TOML or CSV file with the clip, the prompts and the settings of each concept."""

import csv
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..clips.clip import Words
from ..config import MethodConfig, config_from_dict, read_config
from ..errors import ConfigError
from ..prompts import check_prompt
from .files import read_text
from .options import WordsOptions
from .references import words_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REQUIRED = ("name", "clip", "static_prompt")
KNOWN = (*REQUIRED, "motion_prompt", "dynamic_prompt", "identity_token", "motion_token", "config", "settings")
UNSAFE = set('/\\:*?"<>|')
"""In a file's name."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Entry:
    """One concept of a manifest."""

    name: str
    """Also the name of its file."""
    clip: Path
    words: Words
    config: MethodConfig


def read_manifest(path: Path, base: MethodConfig) -> list[Entry]:
    """All concepts of a manifest.

    Args:
        path: a .toml file with a table [[concept]] for each, or a .csv file with a row for each. Files in it are
            relative to its folder.
        base: the settings that an entry's own ones change.
    Raises:
        ConfigError: it cannot be read, an entry is not complete, or two have the same name.
    """
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _toml_rows(path)
    entries = [_entry(row, f"{path.name}, concept {number}", path.parent, base) for number, row in enumerate(rows, 1)]
    names = [entry.name for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{path.name} has two concepts named {twice!r}.", hint="Give each a name of its own.")
    if not entries:
        raise ConfigError(f"{path.name} has no concepts.", hint="Add a table [[concept]], or a row below the header.")
    return entries


def _toml_rows(path: Path) -> list[Mapping[str, object]]:
    try:
        values = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML file: {error}.", hint="Give a .toml or a .csv file.") from error
    rows = values.get("concept", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in cast("list[object]", rows)):
        raise ConfigError(f"'concept' in {path.name} is no list of tables.", hint="Begin each with [[concept]].")
    return cast("list[Mapping[str, object]]", rows)


def _csv_rows(path: Path) -> list[Mapping[str, object]]:
    rows = csv.DictReader(read_text(path).splitlines(), restval="")
    return [{str(key): value for key, value in row.items() if value} for row in rows]


def _entry(row: Mapping[str, object], where: str, folder: Path, base: MethodConfig) -> Entry:
    unknown = sorted(row.keys() - set(KNOWN))
    if unknown:
        raise ConfigError(f"{where}: {unknown[0]!r} is unknown.", hint=f"Known are {', '.join(KNOWN)}.")
    missing = [key for key in REQUIRED if not row.get(key)]
    if missing:
        raise ConfigError(f"{where} has no {missing[0]!r}.", hint=f"Every concept needs {', '.join(REQUIRED)}.")
    texts = {key: _text(row, key, where) for key in KNOWN if key != "settings"}
    if bool(texts["motion_prompt"]) == bool(texts["dynamic_prompt"]):
        raise ConfigError(
            f"{where} needs either 'motion_prompt' or 'dynamic_prompt'.",
            hint="motion_prompt is the whole prompt, dynamic_prompt what follows the static one.",
        )
    name = check_prompt(texts["name"], "name")
    if set(name) & UNSAFE or name.startswith("."):
        raise ConfigError(f"{where}: {name!r} cannot name a file.", hint="Use letters, digits, spaces, - and _.")
    config = read_config(folder / texts["config"], base) if texts["config"] else base
    settings = row.get("settings", {})
    if not isinstance(settings, dict):
        raise ConfigError(f"{where}: 'settings' is no table.", hint="Write [concept.settings] above the settings.")
    return Entry(
        name=name,
        clip=folder / texts["clip"],
        words=_words(texts),
        config=config_from_dict(cast("dict[str, object]", settings), config),
    )


def _text(row: Mapping[str, object], key: str, where: str) -> str:
    value = row.get(key, "")
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {key!r} is {value!r}; it must be text.", hint='Put it in quotes: "...".')
    return value


def _words(texts: Mapping[str, str]) -> Words:
    def given(key: str) -> tuple[str, ...]:
        return (texts[key],) if texts[key] else ()

    options = WordsOptions(
        static_prompt=given("static_prompt"),
        motion_prompt=given("motion_prompt"),
        dynamic_prompt=given("dynamic_prompt"),
        identity_token=given("identity_token"),
        motion_token=given("motion_token"),
    )
    return words_of(options, 1)[0]
