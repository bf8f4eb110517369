"""Several real processes train one concept and communicate through gloo on the CPU."""

import json
import multiprocessing
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch.distributed.tensor import DTensor

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.cli.main import main
from setandseq_core.clips.encode import EncodedPrior, FrameSequence, FrameSet, Material
from setandseq_core.clips.prior_prompts import PriorSet
from setandseq_core.concept import ConceptLayer, parts_of
from setandseq_core.concept_file.file import load_concept
from setandseq_core.config import MethodConfig, PriorConfig, SamplingConfig, SequenceConfig, SetConfig
from setandseq_core.embedded.text import encode_prompt
from setandseq_core.errors import TrainingError
from setandseq_core.prompts import PriorPrompt
from setandseq_core.train import Trained, train_identity, train_motion
from setandseq_core.training.prior import make_prior
from setandseq_core.training.processes import ALONE, Launched, OneProcess, Processes, own_samples, share_of
from setandseq_core.training.progress import Progress, StopTraining
from setandseq_core.training.sharding import spread

CONFIG = MethodConfig(
    rank=2,
    prior=PriorConfig(share=0.25, clips=2),
    set_stage=SetConfig(steps=6, batch=5),
    sequence_stage=SequenceConfig(steps=6, batch=4),
)
HELD: dict[str, float] = {}
"""The fraction of a spread model's numbers that this process holds."""
ENDED_BY_AN_ERROR = 2
ROOT = Path(__file__).parents[2]
DEMO_CLIP = ROOT / "setandseq_core/embedded/demo_clip.mp4"


@dataclass(kw_only=True, frozen=True)
class Event:
    """Something that happens to one process after a step of the sequence stage."""

    number: int
    step: int
    kind: str
    """"kill" and "stop" end it; "disk" (a disk of its own) and "shard" (spread weights) hold for the whole training.
    With "clips", prior clips are made instead."""


def backbone() -> WanBackbone:
    """A random Wan of two blocks, the same in every process."""
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(num_attention_heads=1, ffn_dim=64, num_layers=2)
    return WanBackbone(transformer, AutoencoderKLWan(base_dim=4), encode_prompt, "tiny")


def materials(model: WanBackbone) -> tuple[Material[FrameSet], Material[FrameSequence]]:
    """A clip of noise and two prior clips, as both stages see them."""
    generator = torch.Generator().manual_seed(1)
    latents_KCFHW = torch.randn(3, 16, 2, 4, 4, generator=generator)
    text = model.encode_prompt("a sks blob, zub hopping")
    prior = EncodedPrior(latents_KCFHW=latents_KCFHW[1:], texts=[text, text], empty=[model.encode_prompt("")] * 2)
    frames_SCFHW = latents_KCFHW[0].permute(1, 0, 2, 3).unsqueeze(2)
    frames = EncodedPrior(latents_KCFHW=latents_KCFHW[1:, :, :1], texts=prior.texts, empty=prior.empty)
    frame_set = FrameSet(latents_SCFHW=frames_SCFHW, text=text)
    sequence = FrameSequence(latents_CFHW=latents_KCFHW[0], text=text)
    return Material(clips=[frame_set], prior=frames), Material(clips=[sequence], prior=prior)


def learn(folder: Path, processes: Processes, event: Event | None = None, config: MethodConfig = CONFIG) -> Trained:
    """Trains both stages; returns the result of the second."""
    model = backbone()
    if processes.sharded:
        model.fingerprint()
        whole = sum(weight.numel() for weight in model.module.parameters())
        spread(model.module, model.layers, processes, torch.device("cpu"))
        held = sum(cast(DTensor, weight).to_local().numel() for weight in model.module.parameters())
        HELD["share"] = held / whole
    frames, sequence = materials(model)

    def progress(now: Progress) -> None:
        if event is None or (now.stage, now.step, processes.number) != ("sequence", event.step, event.number):
            return
        if event.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise StopTraining

    look = train_identity(model, frames, config, folder=folder, progress=progress, processes=processes)
    return train_motion(model, look.layers, sequence, config, folder=folder, progress=progress, processes=processes)


def make_clips(folder: Path, processes: Processes) -> tuple[PriorSet, list[int]]:
    """Three prior clips, and the numbers of those after which progress was told."""
    prompts = [PriorPrompt(appearance="a red blob", motion=f"a red blob {motion}") for motion in ("hops", "spins", "")]
    told: list[int] = []
    clips = make_prior(
        backbone(),
        prompts,
        (5, 32, 32),
        sampling=SamplingConfig(steps=2),
        folder=folder,
        processes=processes,
        progress=lambda done, _: told.append(done),
    )
    return clips, told


def run_process(number: int, count: int, port: int, folder: Path, event: Event | None) -> None:
    """The work of one process of a launcher. The first writes its losses to a file, and each writes its error."""
    names = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"}
    if event and event.kind == "shard":
        os.environ["ACCELERATE_USE_FSDP"] = "true"
        os.environ["FSDP_VERSION"] = "2"
    torch.set_num_threads(1)
    processes = Launched("cpu")
    if event and event.kind == "clips":
        clips, told = make_clips(folder, processes)
        torch.save({"latents": clips.latents_KCFHW, "frames": clips.frames_KSCFHW}, folder / f"result_{number}.pt")
        (folder / f"result_{number}.json").write_text(json.dumps(told), encoding="utf-8")
        return
    own = folder / f"disk_{number}" if event and event.kind == "disk" else folder
    try:
        result = learn(own, processes, event)
    except TrainingError as error:
        (folder / f"error_{number}.txt").write_text(str(error), encoding="utf-8")
        sys.exit(ENDED_BY_AN_ERROR)
    tensors = {f"{name}.{i}": part for name, layer in result.layers.items() for i, part in enumerate(parts_of(layer))}
    record: dict[str, object] = {
        "losses": result.record["losses"],
        "finished": result.finished,
        "validation": result.validation,
    }
    record["held"] = HELD.get("share", 1.0)
    torch.save(tensors, folder / f"result_{number}.pt")
    (folder / f"result_{number}.json").write_text(json.dumps(record), encoding="utf-8")


@pytest.fixture(scope="module")
def together() -> Callable[..., list[int | None]]:
    """Runs processes together and returns their exit statuses."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])

    def run(count: int, folder: Path, event: Event | None = None) -> list[int | None]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        started = [context.Process(target=run_process, args=(n, count, port, folder, event)) for n in range(count)]
        for process in started:
            process.start()
        for process in started:
            process.join(100)
        return [process.exitcode for process in started]

    return run


def losses(folder: Path) -> list[float]:
    """Losses of the sequence stage."""
    return json.loads((folder / "result_0.json").read_text(encoding="utf-8"))["losses"]


def close(found: list[float], wanted: list[float]) -> bool:
    return torch.allclose(torch.tensor(found), torch.tensor(wanted), rtol=0, atol=1e-5)


def weights(layers: dict[str, ConceptLayer]) -> dict[str, torch.Tensor]:
    return {f"{name}.{i}": part for name, layer in layers.items() for i, part in enumerate(parts_of(layer))}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same training in this process."""
    return learn(tmp_path_factory.mktemp("alone"), ALONE)


def test_two_processes_learn_what_one_learns(
    together: Callable[..., list[int]], alone: Trained, tmp_path: Path
) -> None:
    assert together(2, tmp_path) == [0, 0]
    assert close(losses(tmp_path), alone.record["losses"])
    first, second = (torch.load(tmp_path / f"result_{number}.pt") for number in (0, 1))
    for name, wanted in weights(alone.layers).items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], wanted, rtol=0, atol=1e-5)


def test_a_killed_process_ends_the_other_and_one_and_then_two_go_on(
    together: Callable[..., list[int]], alone: Trained, tmp_path: Path
) -> None:
    assert together(2, tmp_path, Event(number=1, step=2, kind="kill")) == [ENDED_BY_AN_ERROR, -signal.SIGKILL]
    assert "one of them has ended" in (tmp_path / "error_0.txt").read_text(encoding="utf-8")
    stopped = learn(tmp_path, ALONE, Event(number=0, step=4, kind="stop"))
    assert not stopped.finished and len(stopped.record["losses"]) == 4
    assert together(2, tmp_path) == [0, 0]
    assert close(losses(tmp_path), alone.record["losses"])


def test_a_model_spread_over_two_processes_learns_the_same(
    together: Callable[..., list[int]], alone: Trained, tmp_path: Path
) -> None:
    assert together(2, tmp_path, Event(number=0, step=9, kind="shard")) == [0, 0]
    assert close(losses(tmp_path), alone.record["losses"])
    record = json.loads((tmp_path / "result_0.json").read_text(encoding="utf-8"))
    assert record["held"] == pytest.approx(0.5, abs=0.01)
    found = torch.load(tmp_path / "result_1.pt")
    for name, wanted in weights(alone.layers).items():
        assert torch.allclose(found[name], wanted, rtol=0, atol=1e-5)


def test_a_stop_in_one_process_stops_all_after_the_same_step(
    together: Callable[..., list[int]], tmp_path: Path
) -> None:
    assert together(2, tmp_path, Event(number=1, step=3, kind="stop")) == [0, 0]
    for number in (0, 1):
        record = json.loads((tmp_path / f"result_{number}.json").read_text(encoding="utf-8"))
        assert len(record["losses"]) == 3 and not record["finished"]


def test_processes_share_out_the_making_of_prior_clips(together: Callable[..., list[int]], tmp_path: Path) -> None:
    wanted, _ = make_clips(tmp_path / "alone", ALONE)
    for told in ([[1, 3], [2, 3]], [[1, 2, 3], [1, 2, 3]]):  # made, and then read
        assert together(2, tmp_path, Event(number=0, step=0, kind="clips")) == [0, 0]
        for number in (0, 1):
            found = torch.load(tmp_path / f"result_{number}.pt")
            assert torch.allclose(found["latents"], wanted.latents_KCFHW, rtol=0, atol=1e-5)
            assert torch.allclose(found["frames"], wanted.frames_KSCFHW, rtol=0, atol=1e-5)
            assert json.loads((tmp_path / f"result_{number}.json").read_text(encoding="utf-8")) == told[number]
        assert len(list(tmp_path.glob("prior_*.safetensors"))) == 3


def test_processes_that_share_no_disk_are_told_so(together: Callable[..., list[int]], tmp_path: Path) -> None:
    learn(tmp_path / "disk_0", ALONE, Event(number=0, step=2, kind="stop"))
    assert together(2, tmp_path, Event(number=0, step=9, kind="disk")) == [ENDED_BY_AN_ERROR] * 2
    assert "a disk that all of them share" in (tmp_path / "error_1.txt").read_text(encoding="utf-8")


@dataclass(kw_only=True)
class Some(OneProcess):
    """One of several processes that do not communicate."""

    number: int
    count: int


@pytest.mark.parametrize(("batch", "count"), [(8, 2), (5, 3), (1, 4), (3, 3)])
def test_every_sample_is_one_process_s(batch: int, count: int) -> None:
    shares = [own_samples(batch, Some(number=number, count=count)) for number in range(count)]
    assert [index for share in shares for index in range(batch)[share]] == list(range(batch))
    most = share_of(replace(CONFIG, set_stage=SetConfig(batch=batch)), Some(number=0, count=count)).set_stage.batch
    assert most == max(share.stop - share.start for share in shares)


def launch(*options: str) -> list[str]:
    """The line of docs/scale.md up to the name of the video, for two processes and with more options."""
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^    (accelerate launch .* train) --video lantern.mp4 \.\.\. --device cuda$", page, re.M)
    words = shlex.split(line.replace("--num_processes 4", "--num_processes 2"))
    return [sys.executable, "-m", "accelerate.commands.accelerate_cli", words[1], *options, *words[2:]]


@pytest.mark.parametrize(
    "options",
    [("--multi_gpu",), pytest.param(("--use_fsdp", "--fsdp_version", "2"), marks=pytest.mark.scale)],
    ids=["whole model", "spread model"],
)
def test_accelerate_launches_the_command_on_the_embedded_model(tmp_path: Path, options: tuple[str, ...]) -> None:
    settings = "rank = 2\n[prior]\nshare = 0.0\n"
    settings += "[set_stage]\nsteps = 1\nbatch = 2\nlearning_rate = 1e-4\n"
    settings += "[sequence_stage]\nsteps = 1\nbatch = 2\nlearning_rate = 1e-4\n"
    (tmp_path / "short.toml").write_text(settings, encoding="utf-8")
    train = ["--video", str(DEMO_CLIP), "--static-prompt", "a sks bee", "--dynamic-prompt", "zub"]
    train += ["--frames", "5", "--size", "32x32", "--config", f"{tmp_path}/short.toml"]
    train += ["--float32", "--device", "cpu", "--out"]
    command = [*launch(*options), *train, f"{tmp_path}/two.safetensors"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stdout.count("Made ") == 1, done.stderr
    assert ("spread over 2 processes" in done.stderr) == ("--use_fsdp" in options)
    assert main(["train", *train, f"{tmp_path}/one.safetensors"]) == 0
    one, two = (load_concept(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    for name, wanted in weights(one.layers).items():
        assert torch.allclose(weights(two.layers)[name], wanted, rtol=0, atol=1e-5)


def test_without_accelerate_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "--video", str(DEMO_CLIP), "--static-prompt", "a sks bee", "--dynamic-prompt", "zub"]
    train += ["--device", "cpu", "--out", f"{tmp_path}/bee.safetensors"]
    monkeypatch.setenv("WORLD_SIZE", "2")  # as a launcher sets it
    monkeypatch.setitem(sys.modules, "accelerate", None)  # as Python marks a module that cannot be imported
    assert main(train) == 2
    needed = "Training on several processes needs the package 'accelerate'."
    assert f"{needed}\nInstall it with: python -m pip install accelerate" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
