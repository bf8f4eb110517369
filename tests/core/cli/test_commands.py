"""The command line from end to end."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from setandseq_core.cli.files import read_text
from setandseq_core.cli.main import main
from setandseq_core.cli.model import load_model
from setandseq_core.cli.options import ModelOptions
from setandseq_core.cli.words import tell_unknown_words
from setandseq_core.clips.video import read_clip, read_info, write_video
from setandseq_core.concept_file.file import load_concept, save_concept
from setandseq_core.embedded.files import TRANSFORMER_FILE, VAE_FILE
from setandseq_core.embedded.model import EMBEDDED_CONFIG

# imageio-ffmpeg leaves the pipes of an ffmpeg that ended by itself to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


def test_train_makes_a_concept_that_knows_how_it_was_made(trained: Path) -> None:
    concept = load_concept(trained)
    info, record = concept.info, concept.info.training
    assert (info.name, info.base_name, concept.rank) == ("blob", "tiny_wan", 2)
    assert (info.static_prompt, info.motion_prompt) == ("a sks blob", "a sks blob, zub")
    assert info.config["rank"] == 2 and info.config["set_stage"]["steps"] == 3
    assert record["finished"] is True and record["seed"] == 0
    assert (record["frames"], record["resolution"], record["fps"]) == (5, "48x32", 16.0)
    assert "first 5 frames" in record["clip"] and record["date"].endswith("+00:00")
    assert [record[stage]["steps"] for stage in ("set", "sequence")] == [3, 3]
    assert len(record["set"]["losses"]) == 3 and record["set"]["seconds"] >= 0
    assert any(layer.motion_residual_RI.any() for layer in concept.layers.values())
    assert info.thumbnail is not None and Image.open(io.BytesIO(info.thumbnail)).size == (48, 32)
    assert sorted(path.name for path in trained.parent.iterdir()) == ["blob.safetensors", "blob.safetensors.training"]


def test_options_win_over_the_settings_file(train: list[str], tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "other.safetensors"
    changes = ["--rank", "1", "--seed", "5", "--name", "My blob", "--size", "16x16", "--float32"]
    assert main([*train[:-2], "--motion-prompt", "zub a sks blob", "--out", str(out), *changes]) == 0
    concept = load_concept(out)
    assert (concept.rank, concept.info.config["seed"], concept.info.name) == (1, 5, "My blob")
    assert concept.info.training["resolution"] == "16x16"
    assert concept.info.motion_prompt == "zub a sks blob"
    assert {tensor.dtype for tensor in load_file(out).values()} == {torch.float32}


def test_train_tells_what_it_chose_and_what_it_made(
    train: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "blob.safetensors"
    out.write_text("an older file, to be replaced")
    assert main([*train, "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert "clip.mp4: read 0.4 s of 48x32 at 16 fps; using the first 5 frames" in shown.err
    assert "learning the look 1/3  loss " in shown.err and "learning the motion 3/3  loss " in shown.err
    assert shown.out.startswith(f"Made {out}: concept 'blob', rank 2; look 3 steps in 0:0")
    assert load_concept(out).info.training["finished"] is True


def test_inspect_prints_the_concept(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(trained)]) == 0
    assert "Appearance: a sks blob\n" in capsys.readouterr().out


def test_inspect_works_on_an_ascii_terminal(trained: Path, tmp_path: Path) -> None:
    concept = load_concept(trained)
    save_concept(replace(concept, info=replace(concept.info, author="Blüte")), tmp_path / "a.safetensors")
    command = [sys.executable, "-m", "setandseq_core", "inspect", str(tmp_path / "a.safetensors")]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=ascii_only, capture_output=True, text=True)
    assert done.returncode == 0 and "Author: Bl\\xfcte" in done.stdout


def test_a_byte_order_mark_in_a_text_file_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\ufeffA dog | It runs", encoding="utf-8")
    assert read_text(tmp_path / "prompts.txt") == "A dog | It runs"


def test_export_writes_a_lora(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lora.safetensors"
    assert main(["export", str(trained), "--out", str(out), "--motion-strength", "0.5"]) == 0
    assert "rank 2 for tiny_wan, strengths identity 1, motion 0.5" in capsys.readouterr().out
    assert main(["inspect", str(out)]) == 2
    assert "is a plain LoRA, not a concept" in capsys.readouterr().err


def test_train_learns_only_the_motion_on_a_look_from_a_lora(
    train: list[str], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora, out = tmp_path / "look.safetensors", tmp_path / "moving.safetensors"
    assert main(["export", str(trained), "--out", str(lora), "--motion-strength", "0"]) == 0
    assert main([*train, "--identity-token", "sks", "--identity-lora", str(lora), "--float32", "--out", str(out)]) == 0
    assert f"{lora}: Took the look of 10 layers: rank 2 of 2, 100% of it kept." in capsys.readouterr().err
    look, concept = load_concept(trained), load_concept(out)
    assert (concept.info.name, concept.info.identity_token, concept.rank) == ("moving", "sks", 2)
    assert concept.info.training["finished"] is True and "set" not in concept.info.training
    for name, layer in concept.layers.items():
        same = look.layers[name].identity_basis_OR @ look.layers[name].coefficients_RI
        torch.testing.assert_close(layer.identity_basis_OR @ layer.coefficients_RI, same, rtol=1e-4, atol=1e-6)
    assert any(layer.motion_residual_RI.any() for layer in concept.layers.values())


def test_export_says_which_learned_tokens_are_missing(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    concept, out = load_concept(trained), tmp_path / "lora.safetensors"
    save_concept(replace(concept, embeddings={"identity_embedding": torch.ones(4096)}), tmp_path / "token.safetensors")
    for command in (
        ["export", str(tmp_path / "token.safetensors")],
        ["compose", "--concept", f"{tmp_path}/token.safetensors"],
    ):
        assert main([*command, "--out", str(out)]) == 0
        assert "learned tokens (identity embedding) are not in the plain LoRA" in capsys.readouterr().out


def test_sample_makes_a_video_like_the_concepts_clip(trained: Path, model: Path, tmp_path: Path) -> None:
    shared = ["sample", "--model", str(model), "--device", "cpu", "--steps", "2"]
    assert main([*shared, "--concept", str(trained), "--out", str(tmp_path / "a.mp4")]) == 0
    info = read_info(tmp_path / "a.mp4")
    assert (info.width, info.height, info.fps) == (48, 32, 16)
    options = ["--concept", str(trained), "--prompt", "a blob", "--guidance", "1", "--identity-strength", "0.5"]
    assert main([*shared, *options, "--frames", "9", "--size", "16x32", "--out", str(tmp_path / "b.gif")]) == 0
    clip = read_clip(tmp_path / "b.gif", fps=16)
    assert tuple(clip.frames_FHWC.shape) == (9, 32, 16, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.gif"]


def test_sample_without_a_concept_and_by_seed(model: Path, tmp_path: Path) -> None:
    shared = [
        "sample",
        "--model",
        str(model),
        "--device",
        "cpu",
        "--steps",
        "1",
        "--guidance",
        "1",
        "--prompt",
        "a blob",
    ]
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        out = ["--seed", str(seed), "--out", f"{tmp_path}/{name}.gif"]
        assert main([*shared, "--frames", "5", "--size", "32x32", *out]) == 0
    first, again, other = ((tmp_path / f"{name}.gif").read_bytes() for name in ("first", "again", "other"))
    assert first == again != other


def test_compose_makes_a_video_of_several_concepts(trained: Path, model: Path, tmp_path: Path) -> None:
    shared = ["compose", "--model", str(model), "--device", "cpu", "--steps", "2", "--concept", str(trained)]
    both = [*shared, "--concept", f"{trained}:0.5:2", "--prompt", "a blob and a blob"]
    ways = {
        "add": [],
        "stripes": ["--method", "regions"],
        "boxes": ["--method", "regions", "--region", "0,0,0.4,1", "--region", "0.6,0,1,0.5"],
        "own prompts": ["--method", "regions", "--region-prompt", "a blob", "--region-prompt", "a sks blob"],
        "weaker": ["--negative-strength", "0.5"],
        "late": ["--identity-schedule", "0:0,0.5:1", "--motion-schedule", "0:2"],
    }
    for name, options in ways.items():
        assert main([*both, *options, "--out", f"{tmp_path}/{name}.gif"]) == 0
    assert len({(tmp_path / f"{name}.gif").read_bytes() for name in ways}) == len(ways)
    assert main([*shared, "--motion-from", str(trained), "--out", f"{tmp_path}/moving.gif"]) == 0
    plain = ["sample", *shared[1:], "--out", f"{tmp_path}/plain.gif"]
    assert main(plain) == 0
    assert (tmp_path / "moving.gif").read_bytes() == (tmp_path / "plain.gif").read_bytes()


def test_compose_makes_a_plain_lora_or_a_concept(
    trained: Path, tmp_path: Path, assert_same_weights: Callable[..., None]
) -> None:
    concept = load_concept(trained)
    both = ["compose", "--concept", f"{trained}:1:0", "--concept", f"{trained}:0:1"]
    assert main([*both, "--out", f"{tmp_path}/both.safetensors"]) == 0
    lora = load_file(tmp_path / "both.safetensors")
    for name, layer in concept.layers.items():
        up_OR, down_RI = (lora[f"diffusion_model.{name}.lora_{part}.weight"] for part in "BA")
        assert len(down_RI) == 2 * concept.rank == float(lora[f"diffusion_model.{name}.alpha"])
        expected = layer.identity_basis_OR @ (layer.coefficients_RI + layer.motion_residual_RI)
        torch.testing.assert_close(up_OR @ down_RI, expected)
    moving = ["compose", "--concept", str(trained), "--motion-from", str(trained)]
    assert main([*moving, "--out", f"{tmp_path}/moving.safetensors"]) == 0
    assert_same_weights(load_concept(tmp_path / "moving.safetensors"), concept)
    small = (tmp_path / "moving.safetensors").stat().st_size
    assert main([*moving, "--float32", "--out", f"{tmp_path}/moving.safetensors"]) == 0
    assert_same_weights(load_concept(tmp_path / "moving.safetensors"), concept)
    assert (tmp_path / "moving.safetensors").stat().st_size > small + 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--concept", "{trained}", "--out", "{tmp}/a.mp4"], "There is no prompt"),
        (["--motion-from", "{trained}", "--concept", "{trained}", "--out", "{tmp}/a.mp4"], "--motion-from needs one"),
        (["--method", "regions", "--out", "{tmp}/a.safetensors"], "only the method 'add' without a schedule"),
        (["--motion-schedule", "0:0,1:1", "--out", "{tmp}/a.safetensors"], "only the method 'add' without a schedule"),
        (["--identity-schedule", "0.5:0,0.2:1", "--out", "{tmp}/a.mp4"], "schedule of the identity strength"),
        (["--region", "0,0,1,1", "--prompt", "a", "--out", "{tmp}/a.mp4"], "which has no regions"),
        (["--negative-strength", "0.5", "--out", "{tmp}/a.safetensors"], "only the method 'add' without a schedule"),
        (
            [
                "--concept",
                "{trained}",
                "--method",
                "regions",
                "--region-prompt",
                "b",
                *["--prompt", "a", "--out", "{tmp}/a.mp4"],
            ],
            "prompts for 1 regions, but 2 concepts",
        ),
    ],
)
def test_compose_errors_are_one_clear_line(
    options: list[str], message: str, trained: Path, tmp_path: Path, told_error: Callable[[list[str]], str]
) -> None:
    options = [option.format(tmp=tmp_path, trained=trained) for option in options]
    assert message in told_error(["compose", "--concept", str(trained), *options])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not (TRANSFORMER_FILE.exists() and VAE_FILE.exists()), reason="the embedded weights are not made")
def test_the_embedded_model_is_the_default_and_its_unknown_words_are_named(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = "[set_stage]\nsteps = 1\nbatch = 1\n[sequence_stage]\nsteps = 1\nbatch = 1\n"
    (tmp_path / "one.toml").write_text(f"{steps}[prior]\nclips = 1\n")
    long = read_clip(inputs / "clip.mp4", fps=16).frames_FHWC.repeat(4, 1, 1, 1)
    write_video(tmp_path / "long.mp4", long, 16)
    arguments = ["train", "--video", f"{tmp_path}/long.mp4", "--config", f"{tmp_path}/one.toml", "--device", "cpu"]
    prompts = ["--static-prompt", "a sks blob", "--dynamic-prompt", "zub hopping"]
    tokens = ["--identity-token", "sks", "--motion-token", "zub"]
    assert main([*arguments, *prompts, *tokens, "--out", f"{tmp_path}/blob.safetensors"]) == 0
    concept = load_concept(tmp_path / "blob.safetensors")
    assert (concept.info.training["frames"], concept.info.training["resolution"]) == (17, "64x64")
    assert concept.rank == EMBEDDED_CONFIG.rank
    assert "The embedded model was never trained on: blob.\n" in capsys.readouterr().err
    sample = ["sample", "--concept", f"{tmp_path}/blob.safetensors", "--steps", "1", "--out", f"{tmp_path}/new.mp4"]
    assert main([*sample, "--prompt", "a sks blob on a gray backdrp, zub flying", "--device", "cpu"]) == 0
    told = capsys.readouterr().err
    assert "The embedded model was never trained on: backdrp (nearest: background), flying (nearest: rising).\n" in told


def test_no_words_are_named_for_another_model(capsys: pytest.CaptureFixture[str]) -> None:
    tell_unknown_words("path/to/Wan2.1-T2V-1.3B-Diffusers", ["a sqare blob"])
    tell_unknown_words("embedded", ["a square [v] sks"], ["sks"])
    assert not capsys.readouterr().err


def test_the_parts_of_a_model_may_lie_apart(model: Path) -> None:
    options = ModelOptions(
        model=f"{model}/transformer",
        vae=model / "vae",
        text_encoder=model,
        device="cpu",
        dtype="bfloat16",
    )
    loaded = load_model(options)
    assert loaded.backbone.module.dtype == torch.bfloat16 and loaded.frames is None


def test_several_videos_are_learned_jointly_with_masks_and_a_prior(
    train: list[str],
    inputs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    told_error: Callable[[list[str]], str],
) -> None:
    mask = torch.zeros(7, 32, 48, 3)
    mask[:, 8:24, 8:24] = 1
    write_video(tmp_path / "mask.mp4", mask, 16)
    model = train[train.index("--model") + 1]
    small = ["--clips", "2", "--frames", "5", "--size", "48x32"]
    assert main(["prior", "--model", model, "--device", "cpu", *small, "--out", f"{tmp_path}/prior"]) == 0
    assert "Made 2 prior clips of 48x32, 5 frames" in capsys.readouterr().out
    assert len(list((tmp_path / "prior").glob("prior_*.safetensors"))) == 2
    distilled = ["--steps", "2", "--guidance", "1", "--sampler", "lcm", "--out", f"{tmp_path}/few"]
    assert main(["prior", "--model", model, "--device", "cpu", *small, *distilled]) == 0
    kept = [{file.name for file in (tmp_path / folder).iterdir()} for folder in ("prior", "few")]
    assert len(kept[1]) == 2 and not kept[0] & kept[1]
    second = [
        "--video",
        f"{inputs}/clip.mp4",
        "--static-prompt",
        "a skz ball",
        "--dynamic-prompt",
        "zup",
    ]
    tokens = ["--identity-token", "sks", "--identity-token", "skz"]
    masks = ["--mask", f"{tmp_path}/mask.mp4", "--mask", f"{tmp_path}/mask.mp4"]
    out = tmp_path / "both.safetensors"
    assert main([*train, *second, *tokens, *masks, "--prior", f"{tmp_path}/prior", "--out", str(out)]) == 0
    record = load_concept(out).info.training
    assert record["motion_prompts"] == ["a sks blob, zub", "a skz ball, zup"]
    assert record["prior_clips"] == 2 and record["stitched_pairs"] == 2
    capsys.readouterr()
    error = told_error([*train, *second, *masks[:2], "--out", str(out)])
    assert "There are 2 videos, but 1 times --mask" in error


def test_clean_shows_what_trainings_keep_and_removes_it_when_told(
    train: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "blob.safetensors"
    assert main([*train, "--out", str(out)]) == 0
    kept = tmp_path / "blob.safetensors.training"
    capsys.readouterr()
    assert main(["clean", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert f"{kept}: 4 files" in shown and "MiB in all. Add --yes to remove it." in shown and kept.exists()
    assert main(["clean", str(tmp_path), "--yes"]) == 0
    assert "Removed 0." in capsys.readouterr().out and not kept.exists() and out.exists()
    assert main(["clean", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "0.0 MiB in all.\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_full_disk_is_told_in_words_and_the_training_goes_on(train: list[str], tmp_path: Path) -> None:
    """Files may have at most 4 KiB, so the state is not kept and, at the end, the concept cannot be written."""
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
    limited += "from setandseq_core.cli.main import main; sys.exit(main(sys.argv[1:]))"
    out = tmp_path / "blob.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", limited, *train, "--out", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.count("The training state is not saved.") == 2
    assert "learning the motion 3/3" in done.stderr
    *_, error, hint = done.stderr.splitlines()
    assert error.startswith(f"error: {out} cannot be written") and "It needs" in error and "free space" in hint
    assert not out.exists() and not list(tmp_path.rglob(".setandseq-*"))


def test_a_plan_says_memory_time_and_what_saves_most(capsys: pytest.CaptureFixture[str]) -> None:
    """Plans for the embedded model on a device with 128 MiB and 100 million operations per second."""
    assert main(["plan", "--memory", "0.125", "--speed", "0.0001"]) == 0
    told = capsys.readouterr().out
    assert "of 0.12 GB with checkpointing, about 14 h" in told
    steps = EMBEDDED_CONFIG.set_stage.steps
    assert f"Learning the look: {steps} steps of 4 samples" in told and "Prior clips: about" in told
    assert "What saves most: half the batch" in told
