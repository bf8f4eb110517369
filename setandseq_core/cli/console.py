"""Output of the command line: progress, messages, and file names that can be pasted into a shell."""

import errno
import io
import os
import shlex
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from ..training.clock import clock

PROGRAM = "python -m setandseq_core"
PLAIN_SECONDS = 10.0
"""Seconds between progress lines if they cannot be rewritten, as in a log."""
SMOOTHING = 0.9
"""Decay per step of the weights in the running mean of the loss."""


def show_any_text() -> None:
    """Escape characters that the output's encoding lacks, such as accents in a prompt on an ASCII terminal."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print a result to standard output."""
    _write(sys.stdout, f"{text}\n")


def tell(text: str) -> None:
    """Print a message to standard error."""
    _write(sys.stderr, f"{text}\n")


def warn(text: str) -> None:
    """Print a message to standard error, in red on a terminal."""
    tell(f"\x1b[31m{text}\x1b[0m" if sys.stderr.isatty() and "NO_COLOR" not in os.environ else text)


def visible(text: str) -> str:
    """Escape characters that change how a terminal shows the rest: controls, bidi and zero-width characters.

    Line breaks and tabs stay.
    """
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(
        letter.encode("unicode_escape", "surrogatepass").decode("ascii")
        if letter not in "\n\t" and unicodedata.category(letter) in hidden
        else letter
        for letter in text
    )


def pasteable(path: Path) -> str:
    """A file name quoted for a shell, whatever its characters.

    A name that the terminal cannot show is written byte by byte in $'...', which bash, zsh and ksh understand.
    """
    text = str(path)
    text = f".{os.sep}{text}" if text.startswith("-") else text
    if os.name == "nt":  # Windows file names contain no quotation marks
        return f'"{text}"' if set(text) & set(" &()[]{}^=;!'+,`~%") else text
    if text.isprintable() and _encodable(text):
        return shlex.quote(text)
    return "$'" + "".join(_escaped(byte) for byte in os.fsencode(text)) + "'"


def _encodable(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _escaped(byte: int) -> str:
    letter = chr(byte)
    return letter if letter.isascii() and letter.isprintable() and letter not in "'\\" else f"\\x{byte:02x}"


class ProgressLine:
    """A progress line: rewritten in place on a terminal, printed at intervals elsewhere."""

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stderr
        self._label = ""
        self._shown = 0.0
        self._loss_sum = 0.0
        self._loss_weight = 0.0

    def show(self, label: str, step: int, steps: int, seconds_left: float, loss: float | None = None) -> None:
        """Show the progress of the work. A new label begins a new line and a new mean of the loss.

        Args:
            label: name of the work.
            step: number of steps done, 1 to `steps`.
            steps: number of all steps.
            seconds_left: time until the last step is done.
            loss: loss of this step; the line shows a running mean.
        """
        begins = label != self._label
        if begins:
            self._label = label
            self._loss_sum = 0.0
            self._loss_weight = 0.0
        text = f"{label} {step}/{steps}"
        if loss is not None:
            text += f"  loss {self._mean(loss):.4f}"
        text += f"  {clock(seconds_left)} left"
        ends = step == steps
        if self._stream.isatty():
            _write(self._stream, f"\r{text}\x1b[K" + "\n" * ends)
        elif begins or ends or time.monotonic() - self._shown > PLAIN_SECONDS:
            _write(self._stream, f"{text}\n")
            self._shown = time.monotonic()

    def _mean(self, loss: float) -> float:
        self._loss_sum = SMOOTHING * self._loss_sum + loss
        self._loss_weight = SMOOTHING * self._loss_weight + 1
        return self._loss_sum / self._loss_weight


def counting(label: str) -> Callable[[int, int], None]:
    """A progress callback that takes the steps done and the number of all steps, and shows the time left."""
    line = ProgressLine()
    begun = time.monotonic()

    def show(done: int, count: int) -> None:
        left = (time.monotonic() - begun) / done * (count - done)
        line.show(label, done, count, left)

    return show


def _write(stream: TextIO, text: str) -> None:
    """Write and flush. Work continues if the terminal was closed or nobody reads the pipe any more."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        # Otherwise writing the rest of the stream's buffer would fail again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
