"""Ctrl-C while a command trains: nothing is lost."""

import io
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from setandseq_core.cli.options import main
from setandseq_core.concept_file.file import load_concept

# imageio-ffmpeg leaves the pipes of an ffmpeg that ended by itself to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


class Terminal(io.StringIO):
    """A terminal at which someone presses Ctrl-C when a certain text appears."""

    def __init__(self, text: str, presses: int = 1):
        super().__init__()
        self.text, self.presses = text, presses

    def isatty(self) -> bool:
        return True

    def write(self, shown: str) -> int:
        if self.text in shown:
            for _ in range(self.presses):
                signal.raise_signal(signal.SIGINT)
        return super().write(shown)


@pytest.mark.parametrize(
    ("moment", "done"), [("set stage 1/3", "set stage 1 steps"), ("sequence stage 2/3", "sequence stage 2 steps")]
)
def test_ctrl_c_keeps_what_was_learned_and_the_same_command_goes_on(
    moment: str,
    done: str,
    train: list[str],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    assert_same_weights: Callable[..., None],
) -> None:
    out = tmp_path / "blob.safetensors"
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Terminal(moment))
        assert main([*train, "--out", str(out)]) == 130
    assert signal.getsignal(signal.SIGINT) is handler
    told = capsys.readouterr().out
    assert told.startswith(f"Unfinished {out}") and done in told and f"{out}.training" in told
    assert load_concept(out).info.training["finished"] is False
    assert main([*train, "--out", str(out)]) == 0
    assert_same_weights(load_concept(out), load_concept(trained))
    record, whole = load_concept(out).info.training, load_concept(trained).info.training
    assert record["finished"] and all(record[s]["losses"] == whole[s]["losses"] for s in ("set", "sequence"))
    assert [path.name for path in tmp_path.iterdir()] == ["blob.safetensors"]


def test_a_second_ctrl_c_is_immediate_and_loses_no_step(
    train: list[str],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    assert_same_weights: Callable[..., None],
) -> None:
    out = tmp_path / "blob.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Terminal("set stage 2/3", presses=2))
        assert main([*train, "--out", str(out)]) == 130
    assert not out.exists() and len(list((tmp_path / "blob.safetensors.training").glob("set_*"))) == 1
    assert main([*train, "--out", str(out)]) == 0
    assert_same_weights(load_concept(out), load_concept(trained))


def test_what_is_not_ours_in_the_training_folder_stays(train: list[str], tmp_path: Path) -> None:
    note = tmp_path / "blob.safetensors.training" / "note.txt"
    note.parent.mkdir()
    note.write_text("keep")
    assert main([*train, "--out", str(tmp_path / "blob.safetensors")]) == 0
    assert [path.name for path in note.parent.iterdir()] == ["note.txt"]
