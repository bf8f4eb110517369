"""Everything that can go wrong for a user: the message says what was found and needed, the hint what to do next.

Messages quote texts and names from files, so those are made safe to show here too: they cannot break or mislead a
terminal, a browser or a message.
"""

import math
import unicodedata
from collections.abc import Sequence
from typing import ClassVar, TypeAlias, cast

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


class SetAndSequenceError(Exception):
    """Any error that a user can act on; `str()` gives the message, then the hint.

    Args:
        message: whole sentences: what was found, and what was needed.
        hint: whole sentences: what to do next. If empty, the class's `usual_hint` is used.
    """

    usual_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str = ""):
        self.message = shown(message)  # it may quote file names and texts from files
        self.hint = shown(hint or self.usual_hint)
        super().__init__(f"{self.message} {self.hint}".strip())


class StorageError(SetAndSequenceError):
    """A file that cannot be written: a full disk, a read-only folder."""


class VideoError(SetAndSequenceError):
    """A video file or clip that cannot be used."""


class ConceptFileError(SetAndSequenceError):
    """A concept file that is damaged, hostile or of an unknown version."""

    usual_hint = "Get the file again."


class ConceptMismatchError(SetAndSequenceError):
    """A concept that does not fit the model, or parts of it that do not fit each other."""


class ConfigError(SetAndSequenceError):
    """A setting that is unknown or out of range."""


class BackboneError(SetAndSequenceError):
    """A model that cannot be loaded or does not do what training needs."""


class TrainingError(SetAndSequenceError):
    """A training that cannot continue, or a saved state that cannot be read."""


class PromptError(SetAndSequenceError):
    """A prompt that is empty or too long for the text encoder."""


class MetricError(SetAndSequenceError):
    """A metric that cannot be computed for these clips or with this model."""
