"""Many concepts from a manifest, on Ray workers; one worker is killed."""

import csv
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import torch

from setandseq_core.backbones.kept_text import KeptText
from setandseq_core.cli.main import main
from setandseq_core.cli.manifest import read_manifest
from setandseq_core.cli.many_results import Result, table
from setandseq_core.cli.many_work import Job, Judges, concept_path, finished, keep_result, make_text, train_one
from setandseq_core.cli.model import load_model, text_encoder_of
from setandseq_core.cli.options import ClipOptions, ModelOptions
from setandseq_core.embedded.files import CLIP_FILE
from setandseq_core.embedded.model import EMBEDDED_CONFIG
from setandseq_core.embedded.world.concepts import CONCEPTS

# Ray leaves the pipes and files of the processes that it starts to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

ROOT = Path(__file__).parents[3]
NAMES = [f"bee {number}" for number in range(6)]
BEE = CONCEPTS["bee"]
SETTINGS = """
rank = 2
[prior]
clips = 2
[sampling]
steps = 1
[set_stage]
steps = {steps}
batch = 1
[sequence_stage]
steps = {steps}
batch = 1
"""


def write_manifest(folder: Path, steps: int, names: Sequence[str] = NAMES) -> list[str]:
    """Write a manifest and settings; return the command that trains them into the folder `out`."""
    (folder / "settings.toml").write_text(SETTINGS.format(steps=steps), encoding="utf-8")
    prompts = f'static_prompt = "{BEE.static_prompt}"\nmotion_prompt = "{BEE.motion_prompt}"\n'
    concepts = [
        f'[[concept]]\nname = "{name}"\nclip = "{CLIP_FILE}"\n{prompts}settings = {{ seed = {number} }}\n'
        for number, name in enumerate(names)
    ]
    (folder / "bees.toml").write_text("".join(concepts), encoding="utf-8")
    files = [f"{folder}/bees.toml", "--out", f"{folder}/out", "--config", f"{folder}/settings.toml"]
    return ["train-many", *files, "--frames", "5", "--workers", "2", "--device", "cpu"]


def kill_a_training_worker(out: Path, killed: list[int]) -> None:
    """Wait until a training has saved something, and kill a worker in the middle of one."""
    while not killed:
        below = psutil.Process().children(recursive=True)
        busy = [each for each in below if each.is_running() and each.name().startswith("ray::train_one")]
        if busy and list(out.glob("*.training")):
            busy[0].send_signal(signal.SIGKILL)
            killed.append(busy[0].pid)
        time.sleep(0.05)


def rows(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "results.csv").read_text(encoding="utf-8").splitlines()))


def assert_all_done_once(out: Path, names: Sequence[str] = NAMES) -> None:
    """Check that all were trained once, that the shared clips were made once, and that the table says so."""
    found = rows(out)
    assert [(row["name"], row["state"]) for row in found] == [(name, "done") for name in names]
    for row in found:
        assert float(row["look_loss"]) > 0 and float(row["motion_loss"]) > 0 and float(row["seconds"]) > 0
        assert 0 <= float(row["identity"]) <= 1 and 0 <= float(row["adherence"]) <= 1
    assert len({row["motion_loss"] for row in found}) == len(names), "each has its own seed"
    assert sorted(path.stem for path in out.glob("*.safetensors")) == list(names)
    assert len(list((out / "prior").iterdir())) == 2
    for name in names:
        assert len(list((out / f"{name}.safetensors.training").glob("se*.safetensors"))) == 2


def test_clips_on_two_workers_with_one_killed_are_all_done_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = NAMES[:3]
    command = write_manifest(tmp_path, steps=1, names=names)
    out, killed = tmp_path / "out", list[int]()
    killer = threading.Thread(target=kill_a_training_worker, args=(out, killed), daemon=True)
    killer.start()
    assert main(command) == 0
    assert killed, "no worker was killed"
    told = capsys.readouterr()
    assert "3 of 3 concepts are in" in told.out and "3 waiting" in told.err and "started" in told.err
    assert_all_done_once(out, names)
    made = {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    assert main(command) == 2
    assert "3 of the concepts in bees.toml are finished" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")} == made


@pytest.mark.scale
def test_the_command_survives_kills_and_resumes_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "setandseq_core", *write_manifest(tmp_path, steps=30)]
    out = tmp_path / "out"
    with subprocess.Popen(command, cwd=ROOT) as process:
        while len(list(out.glob("*.result.json"))) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()  # as in a power failure: everything dies at once
    before = {path: path.stat().st_mtime_ns for path in out.glob("bee ?.safetensors")}
    with subprocess.Popen([*command, "--resume"], cwd=ROOT) as process:
        while process.poll() is None and len(list(out.glob("*.result.json"))) < 4:
            time.sleep(0.05)
        below = psutil.Process(process.pid).children(recursive=True)
        next(each for each in below if each.name().startswith("ray::train_one")).send_signal(signal.SIGKILL)
        assert process.wait(600) == 0
    assert_all_done_once(out)
    after = {path: path.stat().st_mtime_ns for path in out.glob("bee ?.safetensors")}
    done_before = [path for path in before if path.with_suffix(".result.json").exists()]
    assert len(done_before) >= 2 and sum(after[path] == before[path] for path in done_before) >= 2


def test_a_wrong_clip_fails_alone_and_a_changed_entry_is_trained_again(tmp_path: Path) -> None:
    command = write_manifest(tmp_path, steps=1, names=["bee 0", "bee 1"])
    base = EMBEDDED_CONFIG
    job = job_of(tmp_path, "embedded", ClipOptions(frames=81, size=None))
    first, second = read_manifest(Path(command[1]), base)
    failed = train_one(first, job)
    assert failed.state == "failed" and "81 were asked for" in failed.message and finished(first, job) is None
    short = job_of(tmp_path, "embedded", ClipOptions(frames=5, size=(32, 32)))
    (tmp_path / "bees.toml").write_text(
        (tmp_path / "bees.toml").read_text().replace("seed = 1", f"seed = 1, rank = 2, {TINY_STEPS}"), encoding="utf-8"
    )
    second = read_manifest(Path(command[1]), base)[1]
    done = train_one(second, short)
    assert done.state == "done" and finished(second, short) == done
    (tmp_path / "bees.toml").write_text(
        (tmp_path / "bees.toml").read_text().replace("seed = 1", "seed = 3"), encoding="utf-8"
    )
    assert finished(read_manifest(Path(command[1]), base)[1], short) is None


def test_another_clip_of_the_same_name_and_size_is_trained_again(tmp_path: Path) -> None:
    clip = tmp_path / "bee.mp4"
    clip.write_bytes(CLIP_FILE.read_bytes())
    manifest = Path(write_manifest(tmp_path, steps=1, names=["bee"])[1])
    manifest.write_text(manifest.read_text().replace(str(CLIP_FILE), "bee.mp4"), encoding="utf-8")
    job = job_of(tmp_path, "embedded", ClipOptions(frames=5, size=(32, 32)))
    (entry,) = read_manifest(manifest, EMBEDDED_CONFIG)
    concept_path(entry, job).parent.mkdir()
    concept_path(entry, job).touch()
    done = Result(name="bee", state="done")
    keep_result(done, entry, job)
    assert finished(entry, job) == done
    os.utime(clip)
    assert finished(entry, job) == done, "the same bytes, written again"
    clip.write_bytes(clip.read_bytes()[:-1] + b"x")
    assert finished(entry, job) is None


TINY_STEPS = "prior = { share = 0.0 }, sampling = { steps = 1 }, set_stage = { steps = 1, batch = 1 }, "
TINY_STEPS += "sequence_stage = { steps = 1, batch = 1 }"


def job_of(folder: Path, model: str, clip: ClipOptions) -> Job:
    options = ModelOptions(model=model, vae=None, text_encoder=None, device="cpu", dtype="float32")
    return Job(out=folder / "out", clip=clip, model=options, judges=Judges(clip=None, image_model=None))


def test_text_is_encoded_once_and_workers_load_no_text_encoder(model: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path, str(model), ClipOptions(frames=5, size=(32, 32)))
    make_text(["a sks blob", ""], job)
    files = sorted(job.text.iterdir())
    key, _ = text_encoder_of(job.model)

    def load() -> KeptText:
        raise AssertionError("the text encoder was loaded")

    kept = KeptText(job.text, key, load)
    own = load_model(job.model).backbone
    with_kept = load_model(job.model, kept_text=job.text).backbone
    for prompt in ("a sks blob", ""):
        assert torch.equal(kept(prompt), own.encode_prompt(prompt).tokens_ND)
        assert torch.equal(with_kept.encode_prompt(prompt).tokens_ND, own.encode_prompt(prompt).tokens_ND)
    assert sorted(job.text.iterdir()) == files
    with pytest.raises(AssertionError, match="was loaded"):
        kept("zub")
    assert torch.equal(with_kept.encode_prompt("zub").tokens_ND, own.encode_prompt("zub").tokens_ND)


def test_a_table_is_markdown() -> None:
    lines = table([Result(name="a|b", state="done", seconds=1.5)]).splitlines()
    assert lines[0].startswith("| name | state | seconds | look loss | motion loss | identity | adherence |")
    assert lines[2].startswith("| a\\|b | done | 1.5 |") and len({line.count(" | ") for line in lines}) == 1


def test_without_ray_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python marks a module that cannot be imported
    assert main(write_manifest(tmp_path, steps=1)) == 2
    assert "needs the package 'ray'.\nInstall it with: python -m pip install ray" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.1:{free}", "ray://127.0.0.1:{free}", "nowhere", "127.0.0.1:99999999"])
def test_an_address_without_a_cluster_is_told_at_once(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    with socket.socket() as closed:  # it is bound and does not listen
        closed.bind(("127.0.0.1", 0))
        address = address.format(free=closed.getsockname()[1])
        assert main([*write_manifest(tmp_path, steps=1, names=["bee"]), "--address", address]) == 2
    told = capsys.readouterr().err
    assert f"--address {address}: no Ray cluster answers there" in told and "as 'ray start --head' prints it" in told


@pytest.mark.scale
def test_a_cluster_trains_by_its_address(tmp_path: Path) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        command = write_manifest(tmp_path, steps=1, names=["bee 0", "bee 1"])
        assert main([*command, "--address", cluster.address]) == 0
    finally:
        cluster.shutdown()
    assert [(row["name"], row["state"]) for row in rows(tmp_path / "out")] == [("bee 0", "done"), ("bee 1", "done")]
