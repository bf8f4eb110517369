"""A short `make kills`: a training is killed at a step, during a write and while it starts."""

import sys
from pathlib import Path

import pytest

from tools.kills import kill_command_line


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is open cannot be deleted there")
def test_killed_trainings_give_the_same_concept_and_leave_nothing_lying(tmp_path: Path) -> None:
    killed = kill_command_line(kills=2, steps=6, seed=1, save_seconds=0.3, folder=tmp_path, prior=False)
    assert len(killed) == 2 and max(each.lost_seconds for each in killed) < 20
