"""`make demo`, shortened: the same workflow with few steps and otherwise unchanged."""

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
import torch

from setandseq_core.clips.video import read_clip, read_info, write_video
from setandseq_core.concept import Concept, ConceptInfo, ConceptLayer
from setandseq_core.concept_file.file import save_concept
from setandseq_core.embedded.demo import demo_shots
from setandseq_core.embedded.files import CLIP_FILE
from setandseq_core.embedded.model import EMBEDDED_CONFIG
from setandseq_core.fingerprint import fingerprint
from tools.demo import WORKFLOW, run_demo, write_demo
from tools.server.folder import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # imageio-ffmpeg leaves pipes open

SHORTENED = {
    "SetSeq_TrainIdentityLoRA": {EMBEDDED_CONFIG.set_stage.steps: 3},
    "SetSeq_TrainMotionResidual": {EMBEDDED_CONFIG.sequence_stage.steps: 3},
    "SetSeq_Regularisation": {EMBEDDED_CONFIG.prior.clips: 1},
    "KSampler": {20: 2},
}
"""For each node type, the number of steps or practice clips in the file and the number used here."""
TRAINING = {stage: {"seconds": 1.0} for stage in ("set", "sequence")}


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


def test_figures_compare_frames_of_the_same_moments(tmp_path: Path) -> None:
    clip = read_clip(CLIP_FILE, fps=16, frames=17, size=(64, 64))
    write_video(tmp_path / "reconstructed.mp4", clip.frames_FHWC, 16)
    texts = dict.fromkeys(
        ("name", "static_prompt", "motion_prompt", "identity_token", "motion_token", "base_name"), "x"
    )
    base = fingerprint("wan", {"a": torch.ones(2, 2)})
    info = ConceptInfo(**texts, base=base, config={}, training=TRAINING)
    zeros = ConceptLayer(
        identity_basis_OR=torch.zeros(2, 1), coefficients_RI=torch.zeros(1, 2), motion_residual_RI=torch.zeros(1, 2)
    )
    save_concept(Concept(info=info, layers={"a": zeros}), tmp_path / "c.safetensors")
    write_demo(tmp_path, {"reconstructed": tmp_path / "reconstructed.mp4"}, tmp_path / "c.safetensors")
    figures = json.loads((tmp_path / "report.json").read_text())["figures"]["reconstructed"]
    assert figures["motion"] > 0.98 and figures["identity"] > 0.9


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
