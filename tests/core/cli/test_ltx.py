"""The command line on LTX-Video and LTX-2, from end to end, and what it refuses."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from setandseq_core.cli.main import main
from setandseq_core.clips.video import read_clip, read_info
from setandseq_core.concept_file.file import load_concept
from tools.tiny_folders import write_ltx, write_ltx2

# imageio-ffmpeg leaves the pipes of an ffmpeg that ended by itself to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

ToldError = Callable[[list[str]], str]


@dataclass(kw_only=True, frozen=True)
class Facts:
    """The facts in which the two families differ."""

    write: Callable[[Path], Path]
    name: str
    label: str
    guidance: str
    missing: str
    """The file named in the error about a folder that holds nothing but the transformer's configuration."""


FAMILIES = (
    Facts(write=write_ltx, name="ltxv", label="LTXV", guidance="3", missing="model_index.json"),
    Facts(write=write_ltx2, name="ltx2", label="LTXV2", guidance="4", missing="safetensors"),
)


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda facts: facts.name)
def facts(request: pytest.FixtureRequest) -> Facts:
    return request.param


@pytest.fixture(scope="module")
def ltx(facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model of the family in a diffusers folder."""
    return facts.write(tmp_path_factory.mktemp("models") / "tiny_ltx")


@pytest.fixture(scope="module")
def train_ltx(ltx: Path, train: list[str]) -> list[str]:
    """The options of a short training, except --out."""
    return [*train, "--model", str(ltx)]


@pytest.fixture(scope="module")
def concept_file(train_ltx: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "blob.safetensors"
    assert main([*train_ltx, "--out", str(out)]) == 0
    return out


def test_train_makes_a_concept_in_the_format_of_the_model(concept_file: Path, facts: Facts) -> None:
    concept = load_concept(concept_file)
    record = concept.info.training
    assert (concept.info.base.family, concept.info.base_name, concept.rank) == (facts.name, "tiny_ltx", 2)
    assert (record["frames"], record["resolution"], record["fps"]) == (9, "32x32", 25.0)
    assert record["base_label"] == facts.label and record["prior_clips"] == 2 and record["finished"] is True
    assert "transformer_blocks.0.attn1.to_out.0" in concept.layers
    assert not [name for name in concept.layers if "audio" in name]
    assert all(layer.identity_basis_OR.any() and layer.motion_residual_RI.any() for layer in concept.layers.values())


def test_sample_makes_a_video_with_the_concept(ltx: Path, concept_file: Path, facts: Facts, tmp_path: Path) -> None:
    shared = ["sample", "--model", str(ltx), "--device", "cpu", "--steps", "2"]
    assert main([*shared, "--concept", str(concept_file), "--out", str(tmp_path / "with.mp4")]) == 0
    info = read_info(tmp_path / "with.mp4")
    assert (info.width, info.height, info.fps) == (32, 32, 25)
    clips = []
    for name, options in {
        "own": ["--concept", str(concept_file), "--motion-strength", "50", "--identity-strength", "50"],
        "none": ["--prompt", "a sks blob, zub"],
        "guided": ["--prompt", "a sks blob, zub", "--guidance", facts.guidance],
    }.items():
        out = tmp_path / f"{name}.gif"
        assert main([*shared, *options, "--frames", "17", "--size", "32x64", "--out", str(out)]) == 0
        clips.append(read_clip(out, fps=25, frames=17, multiple=32).frames_FHWC)
    assert tuple(clips[0].shape) == (17, 64, 32, 3)
    assert not torch.equal(clips[0], clips[1])
    assert torch.equal(clips[1], clips[2])  # the model's own guidance


def test_export_keeps_the_native_names(concept_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "lora.safetensors"
    assert main(["export", str(concept_file), "--out", str(out)]) == 0
    layers = {key.rpartition(".lora_")[0] for key in load_file(out) if ".lora_" in key}
    assert layers == {f"diffusion_model.{name}" for name in load_concept(concept_file).layers}


def test_motion_is_learned_on_the_look_of_a_lora_with_diffusers_names(
    train_ltx: list[str], concept_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora, out = tmp_path / "look.safetensors", tmp_path / "moving.safetensors"
    assert main(["export", str(concept_file), "--out", str(lora), "--motion-strength", "0"]) == 0
    named = {key.replace("diffusion_model.", "transformer."): value for key, value in load_file(lora).items()}
    save_file(named, lora)
    assert main([*train_ltx, "--identity-lora", str(lora), "--float32", "--out", str(out)]) == 0
    assert "Took the look of 20 layers: rank 2 of 2, 100% of it kept." in capsys.readouterr().err
    assert "set" not in load_concept(out).info.training


def test_plan_speaks_of_the_model(ltx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", str(ltx), "--device", "cpu", "--frames", "9", "--size", "64x64", "--speed", "1"]
    assert main(["plan", *options]) == 0
    assert "Learning the motion:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "13"], "There are 13 frames; this model takes 8n+1 and at least 9. Choose a number such as 9"),
        (["--frames", "5"], "8n+1 and at least 9"),
        (["--size", "48x32"], "The size is 48x32; both must be multiples of 32"),
        (["--config", "{tmp}/tokens.toml"], "does not read the places of a prompt"),
    ],
)
def test_what_the_model_cannot_take_is_refused(
    options: list[str], message: str, train_ltx: list[str], tmp_path: Path, told_error: ToldError
) -> None:
    (tmp_path / "tokens.toml").write_text("rank = 2\ntoken_learning_rate = 0.001\n[set_stage]\nsteps = 1\nbatch = 1\n")
    options = [option.format(tmp=tmp_path) for option in options]
    assert message in told_error([*train_ltx, *options, "--out", f"{tmp_path}/a.safetensors"])
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.toml"]


def test_a_length_is_refused_before_the_model_is_loaded(
    ltx: Path, facts: Facts, tmp_path: Path, told_error: ToldError
) -> None:
    """The folder lacks all other parts, which would be an error of the loading."""
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_bytes((ltx / "transformer" / "config.json").read_bytes())
    command = ["sample", "--model", str(tmp_path), "--prompt", "a", "--out", f"{tmp_path}/a.mp4"]
    assert "8n+1" in told_error([*command, "--frames", "13"])
    assert facts.missing in told_error([*command, "--frames", "17"])


def test_regions_are_refused_by_name(ltx: Path, concept_file: Path, tmp_path: Path, told_error: ToldError) -> None:
    concepts = ["--concept", str(concept_file), "--concept", str(concept_file)]
    command = ["compose", *concepts, "--method", "regions", "--prompt", "a", "--model", str(ltx), "--device", "cpu"]
    assert "Concepts cannot act in regions of tiny_ltx; they can in Wan." in told_error(
        [*command, "--out", f"{tmp_path}/a.mp4"]
    )


def test_a_concept_for_wan_is_refused(
    ltx: Path, trained: Path, facts: Facts, tmp_path: Path, told_error: ToldError
) -> None:
    command = ["sample", "--model", str(ltx), "--device", "cpu", "--concept", str(trained), "--size", "32x32"]
    assert f"made for the 'wan' family, this model is '{facts.name}'" in told_error(
        [*command, "--frames", "9", "--out", f"{tmp_path}/a.mp4"]
    )
