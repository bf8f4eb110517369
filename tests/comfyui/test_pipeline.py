"""Runs the script of docs/scale.md, which trains in a running ComfyUI from another program, exactly as printed."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from setandseq_core.concept_file.file import load_concept
from setandseq_core.embedded.files import CLIP_FILE
from tools.server.folder import ROOT
from tools.server.server import Server
from tools.workflows.graphs import CONCEPT, Prompt, embedded_model, node, quick_settings

RunScript = Callable[..., subprocess.CompletedProcess[str]]
SCRIPT = re.compile(r"```python\n(.*?)```", re.DOTALL)


def training(static_prompt: str = CONCEPT.static_prompt) -> Prompt:
    train = node(
        "SetSeq_TrainConcept",
        **{wire: [wire, 0] for wire in ("model", "clip", "vae", "video", "settings")},
        static_prompt=static_prompt,
        motion_prompt=CONCEPT.motion_prompt,
        name="to be set",
        preset="draft",
        start=0.0,
        length=0.0,
        look_steps=2,
        motion_steps=2,
        plan_only=False,
    )
    return embedded_model() | quick_settings() | {"video": node("LoadVideo", file="to be set"), "train": train}


@pytest.fixture
def run_script(server: Server, tmp_path: Path) -> RunScript:
    (script,) = SCRIPT.findall((ROOT / "docs" / "scale.md").read_text(encoding="utf-8"))
    (tmp_path / "train_remote.py").write_text(script, encoding="utf-8")

    def run(prompt: Prompt, clip: Path = CLIP_FILE) -> subprocess.CompletedProcess[str]:
        (tmp_path / "workflow_api.json").write_text(json.dumps(prompt), encoding="utf-8")
        command = [sys.executable, "train_remote.py", server.address, "workflow_api.json", str(clip), "lantern"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    return run


def test_a_concept_is_trained_and_fetched(run_script: RunScript, tmp_path: Path) -> None:
    done = run_script(training())
    assert done.returncode == 0, done.stderr
    assert re.search(r"^step \d+ of \d+$", done.stdout, re.MULTILINE)
    concept = load_concept(tmp_path / "lantern.safetensors")
    assert concept.info.static_prompt == CONCEPT.static_prompt and concept.info.training["sequence"]["steps"] == 2


def test_errors_are_one_line_of_json_with_what_to_do(run_script: RunScript, tmp_path: Path) -> None:
    rejected = json.loads(run_script(training(static_prompt="no token")).stderr)
    assert "has no token" in json.dumps(rejected["node_errors"])

    (tmp_path / "broken.mp4").write_bytes(b"no video")
    failed = run_script(training(), tmp_path / "broken.mp4")
    assert failed.returncode == 1 and not (tmp_path / "lantern.safetensors").exists()
    assert set(json.loads(failed.stderr)) == {"error", "node"}

    ours = training() | {"picture": node("EmptyImage", width=64, height=64, batch_size=1, color=0)}
    ours["single"] = node("CreateVideo", images=["picture", 0], fps=16.0)
    ours["train"]["inputs"]["video"] = ["single", 0]
    told = json.loads(run_script(ours).stderr)
    assert told["node"] == "train"
    assert "The clip is too short" in told["error"] and "Use a longer video" in told["error"]


def test_a_file_that_is_no_concept_of_the_list_is_not_given(server: Server) -> None:
    for name in ("", "../../main.py", "none.safetensors"):
        answer = requests.get(f"{server.address}/setandseq/concept/file", params={"file": name}, timeout=60)
        assert answer.status_code == 404 and "There is no concept" in answer.json()["error"]
