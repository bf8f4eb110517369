"""The command line from end to end, on a tiny random Wan in a real diffusers folder."""

import argparse
import io
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from setandseq_core.__main__ import build_parser, main
from setandseq_core.concept import Concept, load_concept
from setandseq_core.console import ProgressLine, clock
from setandseq_core.learn import thumbnail
from setandseq_core.models import load_model
from setandseq_core.toy.model import EMBEDDED_CONFIG, TRANSFORMER_FILE, VAE_FILE
from setandseq_core.video import read_clip, read_info, write_video

# imageio-ffmpeg leaves the pipes of an ffmpeg that ended by itself to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

GOLDEN = Path(__file__).parent / "data" / "concept_v1.safetensors"
TINY_WAN: dict[str, Any] = {
    "num_attention_heads": 1,
    "attention_head_dim": 128,
    "ffn_dim": 32,
    "num_layers": 1,
    "text_dim": 16,
}
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
MODEL_OPTIONS = {"--model": "embedded", "--vae": None, "--text-encoder": None, "--device": "auto", "--dtype": "float32"}
STRENGTHS = {"--identity-strength": 1.0, "--motion-strength": 1.0}
FROZEN = {
    "train": {
        **dict.fromkeys(("--video", "--static-prompt", "--motion-prompt", "--dynamic-prompt", "--out", "--name")),
        **dict.fromkeys(("--identity-token", "--motion-token", "--mask", "--prior")),
        **dict.fromkeys(("--config", "--seed", "--rank", "--frames", "--size")),
        **MODEL_OPTIONS,
    },
    "prior": {
        **{"--prompts": None, "--clips": 16, "--out": None, "--seed": 0, "--frames": None, "--size": None},
        **MODEL_OPTIONS,
    },
    "sample": {
        **{"--concept": None, **STRENGTHS, "--prompt": None, "--negative-prompt": "", "--out": None},
        **{"--seed": 0, "--steps": 20, "--guidance": 4.0, "--frames": None, "--size": None},
        **MODEL_OPTIONS,
    },
    "compose": {
        **{"--concept": None, "--motion-from": None, "--method": "add", "--region": None, "--prompt": None},
        **dict.fromkeys(("--identity-schedule", "--motion-schedule"), ((0.0, 1.0),)),
        **{"--negative-prompt": "", "--out": None},
        **{"--seed": 0, "--steps": 20, "--guidance": 4.0, "--frames": None, "--size": None},
        **MODEL_OPTIONS,
    },
    "evaluate": {
        **dict.fromkeys(("--reference", "--video", "--prompt")),
        **dict.fromkeys(("--identity-token", "--motion-token"), ""),
        **{"--clip": None, "--image-model": None, "--device": "auto", "--json": None},
    },
    "inspect": {"file": None},
    "export": {"file": None, "--out": None, **STRENGTHS},
    "demo": {"--out": Path("demo_output")},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with everything a Wan release has, each part random and tiny."""
    folder = tmp_path_factory.mktemp("models") / "tiny_wan"
    torch.manual_seed(0)
    WanTransformer3DModel(**TINY_WAN).save_pretrained(folder / "transformer")
    AutoencoderKLWan(base_dim=4).save_pretrained(folder / "vae")
    sizes: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    UMT5EncoderModel(UMT5Config(vocab_size=8, **sizes)).save_pretrained(folder / "text_encoder")
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", "a", "sks", "blob", "zub"])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short clip and settings for a short training."""
    folder = tmp_path_factory.mktemp("inputs")
    frames_FHWC = torch.zeros(7, 32, 48, 3)
    for index, frame_HWC in enumerate(frames_FHWC):
        frame_HWC[8:24, 4 * index : 4 * index + 16, 0] = 1
    write_video(folder / "clip.mp4", frames_FHWC, 16)
    (folder / "short.toml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="module")
def train(model: Path, inputs: Path) -> list[str]:
    """The options of a short training, but for --out."""
    files = ["--video", f"{inputs}/clip.mp4", "--config", f"{inputs}/short.toml", "--model", str(model)]
    return ["train", *files, "--device", "cpu", "--static-prompt", "a sks blob", "--dynamic-prompt", "zub"]


@pytest.fixture(scope="module")
def trained(train: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A concept that was trained without being disturbed."""
    out = tmp_path_factory.mktemp("trained") / "blob.safetensors"
    assert main([*train, "--out", str(out)]) == 0
    return out


def assert_same_weights(first: Concept, second: Concept) -> None:
    assert first.layers.keys() == second.layers.keys()
    for name, layer in first.layers.items():
        for part in ("identity_basis_OR", "coefficients_RI", "motion_residual_RI"):
            assert torch.equal(getattr(layer, part), getattr(second.layers[name], part))


# --- the interface ----------------------------------------------------------------------------------------------


def subcommands() -> dict[str, argparse.ArgumentParser]:
    return next(a.choices for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))


def test_commands_options_and_defaults_are_frozen() -> None:
    found = {
        name: {
            a.option_strings[-1] if a.option_strings else a.dest: a.default for a in parser._actions if a.dest != "help"
        }
        for name, parser in subcommands().items()
    }
    assert found == FROZEN


def test_every_command_and_option_has_help_and_an_example() -> None:
    for name, parser in subcommands().items():
        assert all(action.help for action in parser._actions)
        example = parser.format_help().partition(f"example:\n  python -m setandseq_core {name} ")[2]
        assert build_parser().parse_args([name, *shlex.split(example.replace("\\\n", " "))]).command == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["mix"], "invalid choice"),
        (["inspect", "a.safetensors", "--colour"], "unrecognized arguments: --colour"),
        (["export", "a.safetensors", "--ou", "b.safetensors"], "--out"),
        (
            ["train", "--video", "a.mp4", "--static-prompt", "a", "--out", "b"],
            "--motion-prompt --dynamic-prompt is required",
        ),
        (["train", "--motion-prompt", "a", "--dynamic-prompt", "b"], "not allowed with"),
        (["sample", "--out", "a.mp4", "--size", "64"], "width x height"),
        (["sample", "--out", "a.mp4", "--frames", "16"], "4n+1"),
        (["sample", "--out", "a.mp4", "--steps", "0"], "whole number from 1"),
        (["sample", "--out", "a.mp4", "--seed", "-1"], "seed"),
        (["sample", "--out", "a.mp4", "--seed", "4294967296"], "from 0 to 4294967295"),
        (["sample", "--out", "a.mp4", "--guidance", "nan"], "finite"),
        (["sample", "--out", "a.mp4", "--guidance", "high"], "'high' must be a finite number"),
        (["sample", "--out", "a.mp4", "--dtype", "int8"], "invalid choice"),
        (["compose", "--motion-schedule", "0.5"], "share:strength pairs"),
        (["compose", "--region", "0.5,0,0.2,1"], "left,top,right,bottom"),
    ],
)
def test_wrong_options_are_refused_as_usual(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


# --- from end to end --------------------------------------------------------------------------------------------


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
    assert [path.name for path in trained.parent.iterdir()] == ["blob.safetensors"]


def test_options_win_over_the_settings_file(train: list[str], tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "other.safetensors"
    changes = ["--rank", "1", "--seed", "5", "--name", "My blob", "--size", "16x16"]
    assert main([*train[:-2], "--motion-prompt", "zub a sks blob", "--out", str(out), *changes]) == 0
    concept = load_concept(out)
    assert (concept.rank, concept.info.config["seed"], concept.info.name) == (1, 5, "My blob")
    assert concept.info.training["resolution"] == "16x16"
    assert concept.info.motion_prompt == "zub a sks blob"


def test_train_tells_what_it_chose_and_what_it_made(
    train: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "blob.safetensors"
    out.write_text("an older file, to be replaced")
    assert main([*train, "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert "clip.mp4: read 0.4 s of 48x32 at 16 fps; using the first 5 frames" in shown.err
    assert "set stage 1/3  loss " in shown.err and "sequence stage 3/3  loss " in shown.err
    assert shown.out.startswith(f"Made {out}: concept 'blob', rank 2; set stage 3 steps in 0:0")
    assert load_concept(out).info.training["finished"] is True


def test_inspect_prints_the_concept(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(trained)]) == 0
    assert "Appearance: a sks blob\n" in capsys.readouterr().out


def test_export_writes_a_lora(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lora.safetensors"
    assert main(["export", str(trained), "--out", str(out), "--motion-strength", "0.5"]) == 0
    assert "rank 2 for tiny_wan, strengths identity 1, motion 0.5" in capsys.readouterr().out
    assert main(["inspect", str(out)]) == 2
    assert "is a plain LoRA, not a concept" in capsys.readouterr().err


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
        "late": ["--identity-schedule", "0:0,0.5:1", "--motion-schedule", "0:2"],
    }
    for name, options in ways.items():
        assert main([*both, *options, "--out", f"{tmp_path}/{name}.gif"]) == 0
    assert len({(tmp_path / f"{name}.gif").read_bytes() for name in ways}) == len(ways)
    assert main([*shared, "--motion-from", str(trained), "--out", f"{tmp_path}/moving.gif"]) == 0
    plain = ["sample", *shared[1:], "--out", f"{tmp_path}/plain.gif"]
    assert main(plain) == 0
    assert (tmp_path / "moving.gif").read_bytes() == (tmp_path / "plain.gif").read_bytes()


def test_compose_makes_a_plain_lora_or_a_concept(trained: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--concept", "{trained}", "--out", "{tmp}/a.mp4"], "There is no prompt"),
        (["--motion-from", "{trained}", "--concept", "{trained}", "--out", "{tmp}/a.mp4"], "--motion-from needs one"),
        (["--method", "regions", "--out", "{tmp}/a.safetensors"], "only the method 'add' without a schedule"),
        (["--motion-schedule", "0:0,1:1", "--out", "{tmp}/a.safetensors"], "only the method 'add' without a schedule"),
        (["--identity-schedule", "0.5:0,0.2:1", "--out", "{tmp}/a.mp4"], "schedule of the identity strength"),
        (["--region", "0,0,1,1", "--prompt", "a", "--out", "{tmp}/a.mp4"], "which has no regions"),
    ],
)
def test_compose_errors_are_one_clear_line(
    options: list[str], message: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [option.format(tmp=tmp_path, trained=trained) for option in options]
    assert message in told_error(["compose", "--concept", str(trained), *options], capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not (TRANSFORMER_FILE.exists() and VAE_FILE.exists()), reason="the embedded weights are not made")
def test_the_embedded_model_is_the_default(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text("[set_stage]\nsteps = 1\nbatch = 1\n[sequence_stage]\nsteps = 1\nbatch = 1\n")
    long = read_clip(inputs / "clip.mp4", fps=16).frames_FHWC.repeat(4, 1, 1, 1)
    write_video(tmp_path / "long.mp4", long, 16)
    arguments = ["train", "--video", f"{tmp_path}/long.mp4", "--config", f"{tmp_path}/one.toml", "--device", "cpu"]
    prompts = ["--static-prompt", "a sks blob", "--dynamic-prompt", "zub hopping"]
    assert main([*arguments, *prompts, "--out", f"{tmp_path}/blob.safetensors"]) == 0
    concept = load_concept(tmp_path / "blob.safetensors")
    assert (concept.info.training["frames"], concept.info.training["resolution"]) == (17, "64x64")
    assert concept.rank == EMBEDDED_CONFIG.rank


def test_the_parts_of_a_model_may_lie_apart(model: Path) -> None:
    parts = ["--model", f"{model}/transformer", "--vae", f"{model}/vae", "--text-encoder", str(model)]
    loaded = load_model(build_parser().parse_args(["sample", "--out", "a.mp4", *parts, "--dtype", "bfloat16"]))
    assert loaded.backbone.module.dtype == torch.bfloat16 and loaded.frames is None


# --- Ctrl-C -----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A terminal at which someone presses Ctrl-C when a certain text appears."""

    def __init__(self, text: str, presses: int = 1):
        super().__init__()
        self.text, self.presses = text, presses

    def isatty(self) -> bool:
        return True

    def write(self, shown: str) -> int:
        if self.text in shown:
            for _ in range(self.presses):
                signal.raise_signal(signal.SIGINT)
        return super().write(shown)


@pytest.mark.parametrize(
    ("moment", "done"), [("set stage 1/3", "set stage 1 steps"), ("sequence stage 2/3", "sequence stage 2 steps")]
)
def test_ctrl_c_keeps_what_was_learned_and_the_same_command_goes_on(
    moment: str,
    done: str,
    train: list[str],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "blob.safetensors"
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Terminal(moment))
        assert main([*train, "--out", str(out)]) == 130
    assert signal.getsignal(signal.SIGINT) is handler
    told = capsys.readouterr().out
    assert told.startswith(f"Unfinished {out}") and done in told and f"{out}.training" in told
    assert load_concept(out).info.training["finished"] is False
    assert main([*train, "--out", str(out)]) == 0
    assert_same_weights(load_concept(out), load_concept(trained))
    record, whole = load_concept(out).info.training, load_concept(trained).info.training
    assert record["finished"] and all(record[s]["losses"] == whole[s]["losses"] for s in ("set", "sequence"))
    assert [path.name for path in tmp_path.iterdir()] == ["blob.safetensors"]


def test_a_second_ctrl_c_is_immediate_and_loses_no_step(
    train: list[str], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "blob.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Terminal("set stage 2/3", presses=2))
        assert main([*train, "--out", str(out)]) == 130
    assert not out.exists() and len(list((tmp_path / "blob.safetensors.training").glob("set_*"))) == 1
    assert main([*train, "--out", str(out)]) == 0
    assert_same_weights(load_concept(out), load_concept(trained))


def test_several_videos_are_learned_jointly_with_masks_and_a_prior(
    train: list[str], inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = torch.zeros(7, 32, 48, 3)
    mask[:, 8:24, 8:24] = 1
    write_video(tmp_path / "mask.mp4", mask, 16)
    model = train[train.index("--model") + 1]
    small = ["--clips", "2", "--frames", "5", "--size", "48x32"]
    assert main(["prior", "--model", model, "--device", "cpu", *small, "--out", f"{tmp_path}/prior"]) == 0
    assert "Made 2 prior clips of 48x32, 5 frames" in capsys.readouterr().out
    assert len(list((tmp_path / "prior").glob("prior_*.safetensors"))) == 2
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
    error = told_error([*train, *second, *masks[:2], "--out", str(out)], capsys)
    assert "--mask is there 1 times and --video 2 times" in error


def test_what_is_not_ours_in_the_training_folder_stays(train: list[str], tmp_path: Path) -> None:
    note = tmp_path / "blob.safetensors.training" / "note.txt"
    note.parent.mkdir()
    note.write_text("keep")
    assert main([*train, "--out", str(tmp_path / "blob.safetensors")]) == 0
    assert [path.name for path in note.parent.iterdir()] == ["note.txt"]


# --- errors -----------------------------------------------------------------------------------------------------


def told_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert lines[-1].startswith("error: ") and "Traceback" not in shown.err and not shown.out
    return lines[-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--out": "{tmp}/a.pt"}, "must end in .safetensors"),
        ({"--out": "{tmp}/taken.safetensors"}, "is a folder. Give the name of a file"),
        ({"--out": "{tmp}/file/a.safetensors"}, "its folder cannot be written to"),
        ({"--video": "{tmp}/missing.mp4"}, "missing.mp4"),
        ({"--static-prompt": " "}, "The static prompt is empty"),
        ({"--dynamic-prompt": ""}, "The dynamic prompt is empty"),
        ({"--identity-token": "skz"}, "The identity token is 'skz', but the static prompt does not hold it"),
        ({"--motion-token": "zib"}, "The motion token is 'zib', but the motion prompt does not hold it"),
        ({"--config": "{tmp}/missing.toml"}, "missing.toml cannot be read"),
        ({"--rank": "2000"}, "'rank' is 2000; it must be from 1 to 1024"),
        ({"--model": "{tmp}/missing"}, "no such file or folder"),
        ({"--model": "{tmp}/file"}, "Give its VAE with --vae"),
        ({"--text-encoder": "{tmp}"}, "has no folder 'tokenizer'"),
        ({"--model": "embedded", "--vae": "{tmp}/vae"}, "leave out --vae"),
        ({"--model": "embedded", "--dtype": "bfloat16"}, "runs in float32"),
        ({"--frames": "81"}, "but 81 were asked for"),
        ({"--size": "50x50"}, "must be multiples of 16"),
        ({"--static-prompt": "a " * 600}, "tokens; Wan takes 512"),
    ],
)
def test_train_errors_are_one_clear_line_and_nothing_is_made(
    changes: dict[str, str], message: str, train: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken.safetensors").mkdir()
    (tmp_path / "file").write_text("not a model")
    arguments = [*train, "--out", f"{tmp_path}/a.safetensors"]
    for option, value in changes.items():
        if option in arguments:
            del arguments[arguments.index(option) : arguments.index(option) + 2]
        arguments += [option, value.format(tmp=tmp_path)]
    assert message in told_error(arguments, capsys)
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
    options: list[str], message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [option.format(tmp=tmp_path) for option in options]
    assert message in told_error(["sample", "--model", str(model), "--device", "cpu", *options], capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there(train: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*train, "--out", f"{tmp_path}/a.safetensors", "--device", "cuda"]
    assert "finds no CUDA device. Use --device cpu" in told_error(arguments, capsys)


def test_export_does_not_overwrite_its_concept(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = trained.read_bytes()
    assert "--out is the concept itself" in told_error(["export", str(trained), "--out", str(trained)], capsys)
    assert trained.read_bytes() == before


def test_inspect_of_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no file" in told_error(["inspect", f"{tmp_path}/missing.safetensors"], capsys)


# --- parts ------------------------------------------------------------------------------------------------------


def test_progress_is_a_line_now_and_then_where_it_cannot_be_rewritten() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    for stage in ("set stage", "sequence stage"):
        for step in range(1, 101):
            line.show(stage, step, 100, 100.0 - step, loss=1.0)
    assert stream.getvalue().splitlines() == [
        "set stage 1/100  loss 1.0000  1:39 left",
        "set stage 100/100  loss 1.0000  0:00 left",
        "sequence stage 1/100  loss 1.0000  1:39 left",
        "sequence stage 100/100  loss 1.0000  0:00 left",
    ]


def test_progress_is_one_line_a_stage_on_a_terminal_with_a_smooth_loss() -> None:
    stream = Terminal("never")
    line = ProgressLine(stream)
    for step, loss in enumerate((1.0, 0.0), start=1):
        line.show("set stage", step, 2, 0, loss)
    assert stream.getvalue() == (
        "\rset stage 1/2  loss 1.0000  0:00 left\x1b[K\rset stage 2/2  loss 0.4737  0:00 left\x1b[K\n"
    )


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 59.6, 61, 3600, 36_061)] == [
        "0:00",
        "1:00",
        "1:01",
        "1:00:00",
        "10:01:01",
    ]


def test_thumbnail_is_the_middle_frame_made_small_and_loops() -> None:
    frames_FHWC = torch.zeros(5, 300, 600, 3)
    frames_FHWC[2, ..., 1] = 1
    frames_FHWC[4, ..., 2] = 1
    image: Any = Image.open(io.BytesIO(thumbnail(frames_FHWC, 8.0)))
    assert (image.format, image.size, image.getpixel((5, 5))) == ("PNG", (256, 128), (0, 255, 0))
    image.seek(1)
    assert (image.convert("RGB").getpixel((5, 5)), image.info["duration"], image.info["loop"]) == ((0, 0, 0), 250, 0)
    image.seek(image.n_frames - 1)
    assert image.convert("RGB").getpixel((5, 5)) == (0, 0, 255)


def test_thumbnail_of_a_long_noisy_clip_is_small_enough() -> None:
    frames_FHWC = torch.rand(97, 300, 300, 3, generator=torch.Generator().manual_seed(0))
    file = thumbnail(frames_FHWC, 16.0)
    image: Any = Image.open(io.BytesIO(file))
    assert len(file) <= 2**20 and max(image.size) >= 64
    assert image.n_frames == 26
