"""What the command line shows while it works, and how Ctrl-C stops it."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from ..training.clock import clock

PROGRAM = "python -m setandseq_core"
EMBEDDED = "embedded"
"""The value of --model that names the embedded model."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as in any shell."""
PLAIN_SECONDS = 10.0
"""Time between lines where they cannot be rewritten, as in a log."""
SMOOTHING = 0.9
"""Share of the past in the loss that is shown."""


class ProgressLine:
    """One line that is rewritten on a terminal; now and then a line of its own elsewhere."""

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stderr
        self._label, self._shown = "", 0.0
        self._loss_sum, self._loss_weight = 0.0, 0.0

    def show(self, label: str, step: int, steps: int, seconds_left: float, loss: float | None = None) -> None:
        """Tell where the work stands; every label begins a new line and a new mean of the loss.

        Args:
            step: done, 1 to `steps`.
            loss: of this step; what is shown is a running mean.
        """
        begins = label != self._label
        if begins:
            self._label, self._loss_sum, self._loss_weight = label, 0.0, 0.0
        text = f"{label} {step}/{steps}"
        if loss is not None:
            self._loss_sum = SMOOTHING * self._loss_sum + loss
            self._loss_weight = SMOOTHING * self._loss_weight + 1
            text += f"  loss {self._loss_sum / self._loss_weight:.4f}"
        text += f"  {clock(seconds_left)} left"
        ends = step == steps
        if self._stream.isatty():
            self._stream.write(f"\r{text}\x1b[K" + "\n" * ends)
        elif begins or ends or time.monotonic() - self._shown > PLAIN_SECONDS:
            self._stream.write(text + "\n")
            self._shown = time.monotonic()
        self._stream.flush()


@contextmanager
def stop_on_interrupt(message: str) -> Iterator[Callable[[], bool]]:
    """Take the first Ctrl-C as a wish: show `message` and make the yielded function true. A second one is immediate."""
    asked = False

    def on_interrupt(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        with suppress(OSError):
            os.write(2, f"\n{message}\n".encode())  # not sys.stderr, which may be in the middle of a write

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
