"""The GPU benchmark, tried at small size on any machine."""

import os
import subprocess
import sys

import pytest

from tools.server.folder import ROOT, NoComfyUIError, comfyui_folder

PARTS = ("1.3B",)
"""The other parts take minutes on a CPU: `python -m benchmarks.gpu 1.3B 14B node peft checks --size small`."""


def test_a_part_runs() -> None:
    try:
        comfyui_folder()
    except NoComfyUIError as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "benchmarks.gpu", *PARTS, "--size", "small", "--steps", "3"]
    run = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    rows = [line.split("|") for line in run.stdout.splitlines() if line.startswith("| small Wan")]
    names = [row[1].strip() for row in rows]
    assert [name.split(", ")[-1] for name in names] == ["set stage", "sequence stage"]
    assert all(float(row[2]) > 0 and float(row[6]) > 0 for row in rows)
    assert all(row[5].strip() for row in rows)  # the plan's prediction
