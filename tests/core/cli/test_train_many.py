"""Many concepts from a manifest: what it may say, and Ray workers of which one is killed."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from setandseq_core.cli.main import main
from setandseq_core.cli.manifest import read_manifest
from setandseq_core.cli.many import Row, table
from setandseq_core.config import MethodConfig

ROOT = Path(__file__).parents[3]
CLIP = ROOT / "setandseq_core/embedded/demo_clip.mp4"
SHORT = """
rank = 2
[prior]
clips = 1
[set_stage]
steps = 2
batch = 1
[sequence_stage]
steps = 2
batch = 1
"""
TOML = """
[[concept]]
name = "lantern"
clip = "lantern.mp4"
static_prompt = "a sks lantern"
dynamic_prompt = "zub swinging"
identity_token = "sks"
settings = { seed = 7, set_stage = { steps = 3 } }
"""


def test_toml_and_csv_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TOML, encoding="utf-8")
    (tmp_path / "a.csv").write_text(
        "name,clip,static_prompt,dynamic_prompt,identity_token\nlantern,lantern.mp4,a sks lantern,zub swinging,sks\n",
        encoding="utf-8",
    )
    (from_toml,) = read_manifest(tmp_path / "a.toml", MethodConfig())
    (from_csv,) = read_manifest(tmp_path / "a.csv", MethodConfig())
    assert from_toml.clip == tmp_path / "lantern.mp4" and from_toml.words == from_csv.words
    assert from_toml.words.motion_prompt.startswith("a sks lantern") and from_toml.words.identity_token == "sks"
    assert (from_toml.config.seed, from_toml.config.set_stage.steps) == (7, 3)
    assert from_csv.config == MethodConfig()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TOML + TOML, "two concepts named 'lantern'"),
        (TOML.replace("name", "nome"), "'nome' is unknown"),
        (TOML.replace("dynamic_prompt", "motion_token"), "either 'motion_prompt' or 'dynamic_prompt'"),
        (TOML.replace('"lantern"', '"../lantern"'), "cannot name a file"),
        ("", "has no concepts"),
    ],
)
def test_a_wrong_manifest_says_where(text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_text(text, encoding="utf-8")
    assert main(["train-many", f"{tmp_path}/a.toml", "--out", f"{tmp_path}/out"]) == 2
    assert told in capsys.readouterr().err


def test_a_table_is_markdown() -> None:
    lines = table([Row(name="a|b", state="done", seconds=1.5)]).splitlines()
    assert lines[2].startswith("| a\\|b | done | 1.5 |") and len({line.count(" | ") for line in lines}) == 1


@pytest.mark.scale
def test_six_clips_on_two_workers_with_one_killed_are_all_done_once(tmp_path: Path) -> None:
    (tmp_path / "short.toml").write_text(SHORT, encoding="utf-8")
    concept = f'[[concept]]\nclip = "{CLIP}"\nstatic_prompt = "a sks bee"\ndynamic_prompt = "zub"\n'
    manifest = "".join(f'{concept}name = "bee {number}"\n' for number in range(6))
    (tmp_path / "six.toml").write_text(manifest, encoding="utf-8")
    out = tmp_path / "out"
    options = ["--config", f"{tmp_path}/short.toml", "--frames", "5", "--size", "32x32", "--workers", "2"]
    command = [sys.executable, "-m", "setandseq_core", "train-many", f"{tmp_path}/six.toml", "--out", str(out)]
    with subprocess.Popen([*command, *options, "--device", "cpu"], cwd=ROOT) as process:
        while not list(out.glob("*.training/set_*")):
            assert process.poll() is None
            time.sleep(0.05)
        below = psutil.Process(process.pid).children(recursive=True)
        workers = [each for each in below if each.name().startswith("ray::train_one")]
        workers[0].send_signal(signal.SIGKILL)
        assert process.wait(300) == 0
    rows = list(csv.DictReader((out / "results.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["name"], row["state"]) for row in rows] == [(f"bee {number}", "done") for number in range(6)]
    assert all(float(row["look_loss"]) > 0 and float(row["motion_loss"]) > 0 for row in rows)
    assert len(list(out.glob("bee ?.safetensors"))) == len(list((out).glob("bee ?.result.json"))) == 6
    first = out / "bee 0.safetensors"
    (out / "bee 1.safetensors").unlink()
    before = first.stat().st_mtime_ns
    assert subprocess.run([*command, *options], cwd=ROOT).returncode == 2
    assert subprocess.run([*command, *options, "--resume"], cwd=ROOT).returncode == 0
    assert (out / "bee 1.safetensors").exists() and first.stat().st_mtime_ns == before
