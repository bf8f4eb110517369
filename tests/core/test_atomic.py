"""Files hold their old content or all of the new content, follow the umask, and leave nothing behind after a kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from setandseq_core.atomic import remove_leftovers, replaced, save_atomically
from setandseq_core.clips.video import write_video
from setandseq_core.errors import StorageError

ROOT = Path(__file__).parents[2]
WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from setandseq_core.atomic import replaced
with replaced(Path(sys.argv[1])) as partial:
    partial.write_text("half of the new")
    print("writing", flush=True)
    sys.stdin.read()
"""
SAVE_FOR_EVER = """
import sys, torch
from itertools import count
from pathlib import Path
from setandseq_core.atomic import save_atomically
for number in count():
    save_atomically({"a": torch.full((2**21,), float(number))}, Path(sys.argv[1]), {})
    print("saved", flush=True)
"""


@contextmanager
def child(script: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A new Python process that has written its first line; it is killed at exit."""
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    """Sets the umask for one test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def test_a_file_has_its_old_content_until_the_new_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with replaced(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [*tmp_path.iterdir()] == [path]


def test_after_an_error_the_old_content_is_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replaced(path) as partial:
        partial.write_text("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with replaced(path) as first, replaced(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert [*tmp_path.iterdir()] == [path]


WRITERS: dict[str, Callable[[Path], None]] = {
    "tensors": lambda path: save_atomically({"a": torch.ones(3)}, path, {}),
    "clip.mp4": lambda path: write_video(path, torch.zeros(5, 16, 16, 3), 16),
    "clip.gif": lambda path: write_video(path, torch.zeros(5, 16, 16, 3), 16),
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
@pytest.mark.parametrize("name", WRITERS)
def test_files_follow_the_umask(tmp_path: Path, umask: Callable[[int], int], name: str, mask: int, mode: int) -> None:
    umask(mask)
    WRITERS[name](tmp_path / name)
    assert (tmp_path / name).stat().st_mode & 0o777 == mode


def test_what_a_killed_writer_left_is_removed_by_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with child(WRITE_AND_WAIT, path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert path.read_text() == "old"
    assert len([*tmp_path.iterdir()]) == 2
    with replaced(tmp_path / "other") as partial:
        partial.write_text("other")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["other", "report.json"]


def test_what_a_killed_writer_left_below_a_folder_is_removed_at_the_start(tmp_path: Path) -> None:
    with child(WRITE_AND_WAIT, tmp_path / "animals" / "bee") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    remove_leftovers(tmp_path)
    assert [*(tmp_path / "animals").iterdir()]
    remove_leftovers(tmp_path, below=True)
    assert not [*(tmp_path / "animals").iterdir()]


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with child(WRITE_AND_WAIT, path) as process:
        remove_leftovers(tmp_path)
        process.communicate("", timeout=60)
        assert process.returncode == 0
    assert path.read_text() == "half of the new"


@pytest.mark.parametrize("moment", range(5))
def test_a_kill_at_any_moment_of_a_save_leaves_a_whole_file(tmp_path: Path, moment: int) -> None:
    path = tmp_path / "state.safetensors"
    with child(SAVE_FOR_EVER, path) as process:
        time.sleep(moment * 0.007)
        process.send_signal(signal.SIGKILL)
        process.wait()
    values = load_file(path)["a"]
    assert (values == values[0]).all()
    remove_leftovers(tmp_path)
    assert [*tmp_path.iterdir()] == [path]


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path: Path) -> None:
    needed = (
        r"a cannot be written \(No space left on device\). It needs 1,\d+,\d+,\d+.0 MiB; [\d,.]+ MiB are free there"
    )
    with pytest.raises(StorageError, match=needed), replaced(tmp_path / "a", size=2**50):
        raise AssertionError("the body must not run")
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_save_that_the_system_ends_midway_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path, before = tmp_path / "state.safetensors", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        with pytest.raises(StorageError, match=r"state.safetensors cannot be written \(File too large\). It needs 1.0"):
            save_atomically({"a": torch.zeros(2**18)}, path, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written .*choose another folder"):
        save_atomically({"a": torch.ones(3)}, tmp_path / "file" / "a.safetensors", {})
