"""Signals that ask the program to end: Ctrl-C (SIGINT), `kill` (SIGTERM), and the terminal being closed (SIGHUP).

They raise `Stopped`, so that half-written files are removed on the way out. A training treats the first signal as a
wish: it finishes its step, keeps all steps, and ends.
"""

import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType

INTERRUPTED = 130
"""Exit status after Ctrl-C, as in any shell."""

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_Handler = Callable[[int, FrameType | None], None]


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.status = 128 + number
        """Exit status that shells expect after this signal."""


class Wish:
    """Whether a signal has asked a training to end."""

    def __init__(self):
        self.number = 0

    @property
    def asked(self) -> bool:
        return self.number != 0

    @property
    def status(self) -> int:
        """The exit status that shells expect after this signal."""
        return 128 + self.number


@contextmanager
def ending_on_signals() -> Generator[None]:
    """Raise `Stopped` on a signal; during an import, end the process at once instead."""

    def end(number: int, frame: FrameType | None) -> None:
        if _importing(frame):
            # An exception inside an extension module that is being loaded may be swallowed, or abort the process.
            _tell("Stopped.")
            os._exit(128 + number)
        raise Stopped(number)

    with _handled_by(end):
        yield


@contextmanager
def stopping_gently(message: str) -> Generator[Wish]:
    """Show `message` on the first signal and note the wish; raise `Stopped` on a second signal."""
    wish = Wish()

    def note(number: int, _frame: FrameType | None) -> None:
        if wish.asked:
            raise Stopped(number)
        wish.number = number
        _tell(f"\n{message}")

    with _handled_by(note):
        yield wish


@contextmanager
def _handled_by(handler: _Handler) -> Generator[None]:
    before: dict[int, _Handler | int | None] = {}
    for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
        # nohup sets SIGHUP to be ignored: the program is meant to outlive its terminal.
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _tell(text: str) -> None:
    """Write to the terminal without `sys.stderr`, because the signal may have interrupted one of its writes."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())
