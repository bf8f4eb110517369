"""Progress as it is shown in a terminal and in a log."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from setandseq_core.cli.console import ProgressLine, pasteable, warn
from setandseq_core.training.clock import clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_line_now_and_then_where_it_cannot_be_rewritten() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    for stage in ("set stage", "sequence stage"):
        for step in range(1, 101):
            line.show(stage, step, 100, 100.0 - step, loss=1.0)
    assert stream.getvalue().splitlines() == [
        "set stage 1/100  loss 1.0000  1:39 left",
        "set stage 100/100  loss 1.0000  0:00 left",
        "sequence stage 1/100  loss 1.0000  1:39 left",
        "sequence stage 100/100  loss 1.0000  0:00 left",
    ]


def test_progress_is_one_line_a_stage_on_a_terminal_with_a_smooth_loss() -> None:
    stream = Terminal()
    line = ProgressLine(stream)
    for step, loss in enumerate((1.0, 0.0), start=1):
        line.show("set stage", step, 2, 0, loss)
    assert stream.getvalue() == (
        "\rset stage 1/2  loss 1.0000  0:00 left\x1b[K\rset stage 2/2  loss 0.4737  0:00 left\x1b[K\n"
    )


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 59.6, 61, 3600, 36_061)] == [
        "0:00",
        "1:00",
        "1:01",
        "1:00:00",
        "10:01:01",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
@pytest.mark.parametrize(
    "name", [b"a b", b"it's", b"$HOME;*", b"-x", b"line\nbreak", b"\xff", b"\x1b[31m", "blüte".encode()]
)
def test_a_pasted_file_name_is_the_file(name: bytes) -> None:
    shown = pasteable(Path(os.fsdecode(name)))
    assert shown.isprintable()
    pasted = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True).stdout
    assert pasted.removeprefix(b"./") == name


@pytest.mark.parametrize(("stream", "expected"), [(Terminal(), "\x1b[31mworse\x1b[0m\n"), (io.StringIO(), "worse\n")])
def test_a_warning_is_red_on_a_terminal_alone(
    stream: io.StringIO, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    warn("worse")
    assert stream.getvalue() == expected
