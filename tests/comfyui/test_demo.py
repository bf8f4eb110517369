"""`make demo`, shortened: the same workflow with few steps, everything else as it is."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from setandseq_core.demo import demo_shots
from setandseq_core.toy.model import EMBEDDED_CONFIG
from setandseq_core.video import read_info
from tools.comfyui_folder import ROOT
from tools.demo import WORKFLOW, run_demo

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # imageio-ffmpeg's pipes

SHORTENED = {
    "SetSeq_TrainIdentityLoRA": {EMBEDDED_CONFIG.set_stage.steps: 3},
    "SetSeq_TrainMotionResidual": {EMBEDDED_CONFIG.sequence_stage.steps: 3},
    "KSampler": {20: 2},
}
"""Node type -> its number of steps in the file -> here."""


@pytest.fixture
def short_workflow() -> dict[str, Any]:
    workflow = json.loads(WORKFLOW.read_text())
    for node in workflow["nodes"]:
        steps = SHORTENED.get(node["type"], {})
        assert not steps or set(steps) & set(node["widgets_values"])
        if steps:
            node["widgets_values"] = [steps.get(value, value) for value in node["widgets_values"]]
    return workflow


def test_demo_makes_concept_videos_sheet_and_report(
    comfyui: Path, short_workflow: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_demo(short_workflow, tmp_path / "out")
    names = {shot.name for shot in demo_shots()}
    videos = {file.stem: read_info(file) for file in (tmp_path / "out").glob("*.mp4")}
    assert set(videos) == names
    assert (tmp_path / "out" / "my_concept.safetensors").is_file()
    assert (tmp_path / "out" / "contact_sheet.png").is_file()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["figures"]) == names
    assert set(report["seconds"]) == {"set", "sequence"}
    shown = capsys.readouterr().out
    assert re.search(r"Train Identity LoRA 3/3 +0:00 left", shown)
    assert re.search(r"Train Motion Residual 3/3 +0:00 left", shown)
    assert "saved reconstructed.mp4" in shown


def test_ctrl_c_stops_the_server(comfyui: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.demo", "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as demo:
        assert demo.stdout is not None
        up = next(line for line in demo.stdout if line.startswith("ComfyUI is up"))
        demo.send_signal(signal.SIGINT)
        assert "ComfyUI with it" in demo.stdout.read()
    assert demo.returncode == 130
    port = int(re.findall(r":(\d+);", up)[0])
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
