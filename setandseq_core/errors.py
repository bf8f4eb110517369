"""Everything that can go wrong for a user: the message says what was found and needed, the hint what to do next."""

from typing import ClassVar

from .shown import shown


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
