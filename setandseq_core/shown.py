"""Make text and values from files safe to show: they cannot break or mislead a terminal, browser or message."""

import math
import unicodedata
from collections.abc import Sequence
from typing import TypeAlias, cast

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that are shown as escapes: controls; zero-width and text-direction characters; lone surrogates,
which stand for bytes in file names that are not UTF-8; line and paragraph separators."""


def shown(text: str) -> str:
    r"""Replaces hidden and broken characters by escapes such as \u202e; keeps line breaks and tabs."""
    return "".join(letter if _is_plain(letter) else _escaped(letter) for letter in text)


def shown_json(value: object) -> Json:
    """A value of lists, dicts, texts and numbers that every JSON reader accepts: NaN and infinity become None.

    Raises:
        TypeError: a value has another type.
    """
    if isinstance(value, str):
        return shown(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {shown(str(key)): shown_json(item) for key, item in cast(dict[object, object], value).items()}
    if isinstance(value, list | tuple):
        return [shown_json(item) for item in cast(Sequence[object], value)]
    raise TypeError(f"A {type(value).__name__} is no JSON value.")


def _is_plain(letter: str) -> bool:
    return letter in "\n\t" or unicodedata.category(letter) not in HIDDEN


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
