"""Ctrl-C while a command trains: nothing is lost."""

import io
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from setandseq_core.cli.main import main
from setandseq_core.concept_file.file import load_concept

# imageio-ffmpeg leaves the pipes of an ffmpeg that ended by itself to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


class Terminal(io.StringIO):
    """A terminal at which someone presses Ctrl-C when a certain text appears."""

    def __init__(self, text: str, presses: int = 1, number: int = signal.SIGINT):
        super().__init__()
        self.text = text
        self.presses = presses
        self.number = number

    def isatty(self) -> bool:
        return True

    def write(self, shown: str) -> int:
        if self.text in shown:
            for _ in range(self.presses):
                signal.raise_signal(self.number)
        return super().write(shown)


@pytest.mark.parametrize(("moment", "done"), [("the look 1/3", "look 1 steps"), ("the motion 2/3", "motion 2 steps")])
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
    unfinished = tmp_path / "blob.unfinished.safetensors"
    assert told.startswith(f"Unfinished {unfinished}") and done in told and f"{out}.training" in told
    assert not out.exists() and load_concept(unfinished).info.training["finished"] is False
    assert main([*train, "--out", str(out)]) == 0
    assert_same_weights(load_concept(out), load_concept(trained))
    record, whole = load_concept(out).info.training, load_concept(trained).info.training
    assert record["finished"] and all(record[s]["losses"] == whole[s]["losses"] for s in ("set", "sequence"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blob.safetensors", "blob.safetensors.training"]


def test_a_second_ctrl_c_is_immediate_and_loses_no_step(
    train: list[str],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    assert_same_weights: Callable[..., None],
) -> None:
    out = tmp_path / "blob.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Terminal("the look 2/3", presses=2))
        assert main([*train, "--out", str(out)]) == 130
    assert not out.exists() and len(list((tmp_path / "blob.safetensors.training").glob("set_*"))) == 1
    assert main([*train, "--out", str(out)]) == 0
    assert_same_weights(load_concept(out), load_concept(trained))


def test_ctrl_c_leaves_a_finished_concept_as_it_is(
    train: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "blob.safetensors"
    assert main([*train, "--out", str(out)]) == 0
    before = out.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Terminal("the look 2/3"))
        assert main([*train, "--seed", "7", "--out", str(out)]) == 130
    assert out.read_bytes() == before
    assert load_concept(tmp_path / "blob.unfinished.safetensors").info.training["set"]["steps"] == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_other_polite_signals_keep_all_steps_too(
    name: str, train: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(signal, name)
    out = tmp_path / "blob.safetensors"
    before = signal.signal(number, signal.SIG_DFL)  # nohup, for example, ignores SIGHUP, and so would the command
    try:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", Terminal("the look 2/3", number=number))
            assert main([*train, "--out", str(out)]) == 128 + number
    finally:
        signal.signal(number, before)
    assert load_concept(tmp_path / "blob.unfinished.safetensors").info.training["set"]["steps"] == 2


def test_ctrl_c_while_the_program_starts_is_a_clean_end(trained: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "setandseq_core", "inspect", str(trained)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        shown = []
        for line in process.stderr:
            shown.append(line)
            if line.endswith(" torch.version\n") or line.endswith(" torch._utils\n"):
                process.send_signal(signal.SIGINT)
                break
        shown += process.stderr.readlines()
    assert process.returncode == 130
    assert shown[-1] == "Stopped.\n" and not any("Traceback" in line for line in shown)


def test_more_motion_steps_do_not_learn_the_look_again(
    train: list[str], inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", f"{tmp_path}/blob.safetensors"]
    assert main([*train, *out]) == 0
    capsys.readouterr()
    settings = (inputs / "short.toml").read_text()
    look, motion = settings.split("[sequence_stage]")
    (tmp_path / "more.toml").write_text(f"{look}[sequence_stage]{motion.replace('steps = 3', 'steps = 5')}")
    assert main([*train, "--config", f"{tmp_path}/more.toml", *out]) == 0
    shown = capsys.readouterr().err
    assert "the look" not in shown and "the motion 4/5" in shown and "the motion 3/5" not in shown


def test_what_is_not_ours_in_the_training_folder_stays(train: list[str], tmp_path: Path) -> None:
    note = tmp_path / "blob.safetensors.training" / "note.txt"
    note.parent.mkdir()
    note.write_text("keep")
    assert main([*train, "--out", str(tmp_path / "blob.safetensors")]) == 0
    assert note.read_text() == "keep"
