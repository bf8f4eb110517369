"""A tiny random Wan in a real diffusers folder, a clip, and a concept that was trained with both."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from setandseq_core.cli.main import main
from setandseq_core.clips.video import write_video
from setandseq_core.concept import Concept
from tools.tiny_folders import write_wan

ToldError = Callable[[list[str]], str]
SameWeights = Callable[[Concept, Concept], None]
SETTINGS = """
rank = 2
[prior]
clips = 2
[set_stage]
steps = 3
batch = 1
learning_rate = 0.01
[sequence_stage]
steps = 3
batch = 1
learning_rate = 0.01
"""


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with everything a Wan release has, each part random and tiny."""
    return write_wan(tmp_path_factory.mktemp("models") / "tiny_wan")


@pytest.fixture(scope="package")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short clip and settings for a short training."""
    folder = tmp_path_factory.mktemp("inputs")
    frames_FHWC = torch.zeros(7, 32, 48, 3)
    for index, frame_HWC in enumerate(frames_FHWC):
        frame_HWC[8:24, 4 * index : 4 * index + 16, 0] = 1
    write_video(folder / "clip.mp4", frames_FHWC, 16)
    (folder / "short.toml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="package")
def train(model: Path, inputs: Path) -> list[str]:
    """The options of a short training, except --out."""
    files = ["--video", f"{inputs}/clip.mp4", "--config", f"{inputs}/short.toml", "--model", str(model)]
    return ["train", *files, "--device", "cpu", "--static-prompt", "a sks blob", "--dynamic-prompt", "zub"]


@pytest.fixture(scope="package")
def trained(train: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A concept that was trained without interruption."""
    out = tmp_path_factory.mktemp("trained") / "blob.safetensors"
    assert main([*train, "--out", str(out)]) == 0
    return out


@pytest.fixture
def told_error(capsys: pytest.CaptureFixture[str]) -> ToldError:
    """Runs a command that must fail, and returns its last two lines: the error and the hint."""

    def told(arguments: list[str]) -> str:
        assert main(arguments) == 2
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err and not shown.out
        before, found, error = f"\n{shown.err}".rpartition("\nerror: ")
        assert found and len(error.splitlines()) <= 2, before
        return " ".join(error.splitlines())

    return told


@pytest.fixture
def assert_same_weights() -> SameWeights:
    """Asserts that two concepts are the same bit for bit."""

    def same(first: Concept, second: Concept) -> None:
        assert first.layers.keys() == second.layers.keys()
        for name, layer in first.layers.items():
            for part in ("identity_basis_OR", "coefficients_RI", "motion_residual_RI"):
                assert torch.equal(getattr(layer, part), getattr(second.layers[name], part))

    return same
