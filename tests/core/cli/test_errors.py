"""Messages to the user when a command fails."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

# imageio-ffmpeg leaves the pipes of an ffmpeg that ended by itself to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

WITH_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import setandseq_core.backbones.wan, setandseq_core.learn, setandseq_core.sample
from setandseq_core.cli.main import main
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**29, resource.RLIM_INFINITY))
sys.exit(main(sys.argv[1:]))
"""
"""A new process that may take half a GiB more than it has; an old process would have freed memory to reuse."""
GOLDEN = Path(__file__).parents[1] / "data" / "concept_v1.safetensors"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--out": "{tmp}/a.pt"}, "must end in .safetensors"),
        ({"--out": "{tmp}/taken.safetensors"}, "is a folder. Give the name of a file"),
        ({"--out": "{tmp}/file/a.safetensors"}, "file/a.safetensors cannot be written"),
        ({"--video": "{tmp}/missing.mp4"}, "missing.mp4"),
        ({"--static-prompt": " "}, "The static prompt is empty"),
        ({"--dynamic-prompt": ""}, "The dynamic prompt is empty"),
        ({"--identity-token": "skz"}, "The identity token is 'skz', but the static prompt does not hold it"),
        ({"--motion-token": "zib"}, "The motion token is 'zib', but the motion prompt does not hold it"),
        ({"--config": "{tmp}/missing.toml"}, "missing.toml cannot be read"),
        ({"--name": "a\x1bb"}, "The name holds a control character"),
        ({"--name": "a" * 10_001}, "The name has 10001 characters"),
        ({"--static-prompt": "a \x1bblob"}, "The static prompt holds a control character"),
        ({"--out": "{tmp}/" + "a" * 250 + ".safetensors"}, "cannot be written (File name too long)"),
        ({"--rank": "2000"}, "'rank' is 2000; it must be from 1 to 1024"),
        ({"--model": "{tmp}/missing"}, "no such file or folder"),
        ({"--model": "{tmp}/file"}, "Give its VAE with --vae"),
        ({"--text-encoder": "{tmp}"}, "has no folder 'tokenizer'"),
        ({"--model": "embedded", "--vae": "{tmp}/vae"}, "leave out --vae"),
        ({"--model": "embedded", "--dtype": "bfloat16"}, "runs in float32"),
        ({"--frames": "81"}, "but 81 were asked for"),
        ({"--start": "-1"}, "start is -1 s; it must be 0 or more"),
        ({"--length": "0"}, "length is 0 s; it must be more than 0"),
        ({"--start": "0.4"}, "clip.mp4 is too short: 1 frames at 16 fps"),
        ({"--size": "50x50"}, "must be multiples of 16"),
        ({"--static-prompt": "a " * 600}, "tokens; Wan takes 512"),
    ],
)
def test_train_errors_are_one_clear_line_and_nothing_is_made(
    changes: dict[str, str], message: str, train: list[str], tmp_path: Path, told_error: Callable[[list[str]], str]
) -> None:
    (tmp_path / "taken.safetensors").mkdir()
    (tmp_path / "file").write_text("not a model")
    arguments = [*train, "--out", f"{tmp_path}/a.safetensors"]
    for option, value in changes.items():
        if option in arguments:
            del arguments[arguments.index(option) : arguments.index(option) + 2]
        arguments += [option, value.format(tmp=tmp_path)]
    assert message in told_error(arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.safetensors"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "{tmp}/a.avi"], "must end in .mp4 or .gif or .webm"),
        (["--out", "{tmp}/a.mp4"], "There is no prompt"),
        (["--out", "{tmp}/a.mp4", "--prompt", "a", "--size", "40x64"], "40x64; both must be multiples of 16"),
        (["--out", "{tmp}/a.mp4", "--concept", "{tmp}/missing.safetensors"], "no file"),
        (["--out", "{tmp}/a.mp4", "--concept", str(GOLDEN)], "made for another base model"),
    ],
)
def test_sample_errors_are_one_clear_line(
    options: list[str], message: str, model: Path, tmp_path: Path, told_error: Callable[[list[str]], str]
) -> None:
    options = [option.format(tmp=tmp_path) for option in options]
    assert message in told_error(["sample", "--model", str(model), "--device", "cpu", *options])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there(train: list[str], tmp_path: Path, told_error: Callable[[list[str]], str]) -> None:
    arguments = [*train, "--out", f"{tmp_path}/a.safetensors", "--device", "cuda"]
    assert "finds no CUDA device. Use --device cpu" in told_error(arguments)


def test_a_text_encoder_in_a_pickle_is_refused(
    train: list[str], model: Path, tmp_path: Path, told_error: Callable[[list[str]], str]
) -> None:
    shutil.copytree(model / "tokenizer", tmp_path / "tokenizer")
    encoder = shutil.copytree(model / "text_encoder", tmp_path / "text_encoder")
    torch.save(load_file(encoder / "model.safetensors"), encoder / "pytorch_model.bin")
    (encoder / "model.safetensors").unlink()
    told = told_error([*train, "--text-encoder", str(tmp_path), "--out", f"{tmp_path}/a.safetensors"])
    assert "cannot be loaded" in told and "with weights as .safetensors files" in told


def test_export_does_not_overwrite_its_concept(trained: Path, told_error: Callable[[list[str]], str]) -> None:
    before = trained.read_bytes()
    assert "--out is the concept itself" in told_error(["export", str(trained), "--out", str(trained)])
    assert trained.read_bytes() == before


def test_inspect_of_a_missing_file(tmp_path: Path, told_error: Callable[[list[str]], str]) -> None:
    assert "no file" in told_error(["inspect", f"{tmp_path}/missing.safetensors"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell how much a process has")
@pytest.mark.parametrize(("command", "size"), [("train", "2048x2048"), ("sample", "8192x8192")])
def test_too_little_memory_is_told_with_the_number_and_the_setting_to_change(
    command: str, size: str, train: list[str], model: Path, tmp_path: Path
) -> None:
    options = {
        "train": [*train, "--out", f"{tmp_path}/a.safetensors"],
        "sample": ["sample", "--model", str(model), "--device", "cpu", "--prompt", "a", "--out", f"{tmp_path}/a.mp4"],
    }
    line = [sys.executable, "-c", WITH_LITTLE_MEMORY, *options[command], "--size", size, "--frames", "5"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    told = " ".join(done.stderr.rpartition("\nerror: ")[2].splitlines())
    assert re.match(r"There is not enough memory\. \d+\.\d\d GB more were needed at once\. Close other programs", told)
    assert "a smaller --frames or --size" in told and ("plan' says" in told) == (command == "train")
    assert not list(tmp_path.iterdir())
