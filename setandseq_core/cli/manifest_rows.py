"""The rows of a manifest, and the line and column of everything in them.

The standard library's TOML parser does not say where a value was. So the text is cut into one part per concept at its
headers `[[concept]]`. A line counts as a header only if the text before it parses, because it may also be inside a long
string. A key is looked up in its part only to report an error.
"""

import csv
import io
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..errors import ConfigError
from .files import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HEADER = re.compile(r"""\s*\[\[\s*(["']?)concept\1\s*\]\]""")
AT_THE_END = "at end of document"
"""The TOML parser's phrase for a place without a line number."""


class Row(ABC):
    """One concept of a manifest, as written in the file."""

    values: Mapping[str, object]

    @abstractmethod
    def place(self, *keys: str) -> str:
        """The place of a value in words; without keys, the place where the row begins.

        Args:
            keys: keys from the outermost table down to the value.
        """


@dataclass(kw_only=True, slots=True, frozen=True)
class TomlRow(Row):
    """A table [[concept]] of a TOML file."""

    values: Mapping[str, object]
    text: str
    """The part of the file that contains the table."""
    first_line: int
    """Number of the first line of `text`, from 1."""

    def place(self, *keys: str) -> str:
        """The place of the innermost key that is found; see `Row.place`."""
        found = searched = 0
        for key in keys:
            match = next(filter(_is_code, _key_pattern(key).finditer(self.text, searched)), None)
            if match is None:
                break
            found = match.start()
            searched = match.end()
        line, column = line_and_column(self.text, found)
        return f"line {self.first_line + line - 1}, column {column}"


@dataclass(kw_only=True, slots=True, frozen=True)
class CsvRow(Row):
    """A row of a CSV file below the header."""

    values: Mapping[str, object]
    names: Sequence[str]
    """Names of the columns, from the header."""
    line: int

    def place(self, *keys: str) -> str:
        """The place as line and column of the table; see `Row.place`."""
        name = ".".join(keys)
        column = self.names.index(name) + 1 if name in self.names else 1
        return f"line {self.line}, column {column}"


def line_and_column(text: str, position: int) -> tuple[int, int]:
    """Line and column of a position in the text, both counted from 1."""
    before = text[:position]
    return before.count("\n") + 1, position - before.rfind("\n")


def toml_rows(path: Path) -> list[Row]:
    """Read the tables [[concept]] of a TOML file.

    Raises:
        ConfigError: the file cannot be read, or contains anything else.
    """
    text = read_text(path)
    try:
        values: Mapping[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, column = line_and_column(text, len(text))
        told = str(error).replace(AT_THE_END, f"at line {line}, column {column}")
        raise ConfigError(f"{path.name} is no TOML file: {told}.", hint="Correct it there.") from error
    other = next((key for key in values if key != "concept"), None)
    if other is not None:
        place = TomlRow(values=values, text=text, first_line=1).place(other)
        raise ConfigError(
            f"{path.name}, {place}: {other!r} is unknown outside of a concept.",
            hint="Begin each concept with [[concept]]; settings for all of them go into the file of --config.",
        )
    tables = cast("object", values.get("concept", []))
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in cast("list[object]", tables)):
        raise ConfigError(f"'concept' in {path.name} is no list of tables.", hint="Begin each with [[concept]].")
    found = cast("list[Mapping[str, object]]", tables)
    parts = _parts(text)
    if len(parts) != len(found):  # the tables are written in another way, such as concept = [{...}, {...}]
        parts = [(text, 1)] * len(found)
    return [TomlRow(values=table, text=part, first_line=line) for table, (part, line) in zip(found, parts, strict=True)]


def csv_rows(path: Path) -> list[Row]:
    """Read the rows of a CSV file; the first row names the columns, and empty cells count as absent.

    Raises:
        ConfigError: the file cannot be read, or a row has more cells than the header.
    """
    text = read_text(path)
    header = text.partition("\n")[0]
    separator = ";" if ";" in header and "," not in header else ","  # used by spreadsheets in languages that write 0,5
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    found: list[Row] = []
    names: list[str] = []
    line = 1
    try:
        for cells in reader:
            if not names:
                names = [cell.strip() for cell in cells]
            elif any(cells):
                _check_cells(path, cells, names, line)
                values = {name: cell for name, cell in zip(names, cells, strict=False) if cell}
                found.append(CsvRow(values=_nested(values), names=names, line=line))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ConfigError(
            f"{path.name}, line {line}: {error}.", hint='Put a text with commas or quotes into "...", with " twice.'
        ) from error
    return found


def _check_cells(path: Path, cells: Sequence[str], names: Sequence[str], line: int) -> None:
    if len(cells) > len(names):
        raise ConfigError(
            f"{path.name}, line {line}, column {len(names) + 1}: the first line names {len(names)} columns, and this "
            f"one has {len(cells)}.",
            hint='Put a text with commas into quotes: "...".',
        )


def _nested(values: Mapping[str, str]) -> dict[str, object]:
    """Turn columns such as settings.set_stage.steps into nested tables."""
    found: dict[str, object] = {}
    for name, cell in values.items():
        *outer, last = name.split(".")
        table = found
        for key in outer:
            table = cast("dict[str, object]", table.setdefault(key, {}))
        table[last] = _value(cell) if outer else cell
    return found


def _value(cell: str) -> object:
    """A setting as TOML reads it; a cell that is not valid TOML stays text."""
    try:
        return tomllib.loads(f"value = {cell}")["value"]
    except tomllib.TOMLDecodeError:
        return cell


def _parts(text: str) -> list[tuple[str, int]]:
    """The text of each table [[concept]], and the number of its first line."""
    found: list[tuple[str, int]] = []
    part: list[str] = []
    first = 1
    for number, line in enumerate([*text.split("\n"), "[[concept]]"], 1):
        if HEADER.match(line) and _is_toml("\n".join(part)):
            if part and HEADER.match(part[0]):
                found.append(("\n".join(part), first))
            part = []
            first = number
        part.append(line)
    return found


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _key_pattern(key: str) -> re.Pattern[str]:
    return re.compile(rf"""(?<![\w-])(["']?){re.escape(key)}\1(?=\s*[=.\]])""")


def _is_code(match: re.Match[str]) -> bool:
    """Whether a match is outside the comments and strings of its line."""
    line = match.string[match.string.rfind("\n", 0, match.start()) + 1 : match.start()]
    return "#" not in line and line.count('"') % 2 == 0
