"""Real image and text models of transformers at tiny sizes, and the command that uses them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch.nn import functional
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
)

from setandseq_core.cli.main import main
from setandseq_core.clips.video import write_video
from setandseq_core.embedded.world.concepts import CONCEPTS
from setandseq_core.errors import BackboneError, MetricError
from setandseq_core.evaluate.embedders import load_embedder
from setandseq_core.evaluate.metrics import evaluate

PROMPT = "a large [v] creature [u] wandering on a blue plain background"
# imageio-ffmpeg leaves the pipes of an ffmpeg that ended by itself to the garbage collector.
FFMPEG = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture(scope="module")
def bee() -> torch.Tensor:
    return CONCEPTS["bee"].frames()


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP folder as transformers saves it, random and tiny."""
    folder = tmp_path_factory.mktemp("models") / "tiny_clip"
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = {**sizes, "vocab_size": 8, "max_position_embeddings": 10, "eos_token_id": 1, "bos_token_id": 0}
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(["<s>", "</s>", "<unk>", "a", "red", "blob"])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    special = {"unk_token": "<unk>", "pad_token": "</s>", "eos_token": "</s>", "bos_token": "<s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DINOv2 folder, random and tiny."""
    folder = tmp_path_factory.mktemp("models") / "tiny_dino"
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**sizes, image_size=28, patch_size=14)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=28).save_pretrained(folder)
    return folder


def test_clip_figures_are_those_of_transformers(clip_folder: Path, bee: torch.Tensor) -> None:
    embedder = load_embedder(clip_folder, reads_text=True)
    model = CLIPModel.from_pretrained(clip_folder)
    processor = CLIPImageProcessor.from_pretrained(clip_folder)
    images = [frame for frame in (bee * 255).round().byte().numpy()]
    with torch.no_grad():
        pixels = processor(images=images, return_tensors="pt")["pixel_values"]
        output = model(input_ids=torch.tensor([[0, 3, 4, 1]]), pixel_values=pixels)
    torch.testing.assert_close(embedder.embed_images(bee), output.image_embeds, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(embedder.embed_text("a red"), output.text_embeds[0], rtol=1e-4, atol=1e-5)
    expected = float((output.image_embeds @ output.text_embeds[0]).mean())
    found = evaluate(bee, bee, "a [v] red", text_model=embedder)
    assert found.prompt_adherence.value == pytest.approx(expected, abs=1e-4)
    assert found.identity.value == pytest.approx(1, abs=1e-4) and found.identity.by == "CLIPModel tiny_clip"
    assert embedder.embed_text("a red " * 30).shape == (12,)


def test_dino_figures_are_those_of_transformers(dino_folder: Path, bee: torch.Tensor) -> None:
    embedder = load_embedder(dino_folder)
    images = [frame for frame in (bee * 255).round().byte().numpy()]
    pixels = CLIPImageProcessor.from_pretrained(dino_folder)(images=images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = Dinov2Model.from_pretrained(dino_folder)(pixel_values=pixels).last_hidden_state[:, 0]
    torch.testing.assert_close(embedder.embed_images(bee), functional.normalize(expected, dim=1), rtol=1e-4, atol=1e-4)
    with pytest.raises(MetricError, match="does not read text"):
        embedder.embed_text("a bee")
    with pytest.raises(BackboneError, match="reads no text"):
        load_embedder(dino_folder, reads_text=True)


def test_folders_that_hold_no_model_are_refused(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"no config.json and no preprocessor_config.json"):
        load_embedder(tmp_path)
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((clip_folder / name).read_bytes())
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_embedder(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_embedder(tmp_path)


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def command(bee: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that compares a reference with the same clip played backwards."""
    folder = tmp_path_factory.mktemp("videos")
    for name, frames in (("clip", bee), ("new", bee.flip(0))):
        large = functional.interpolate(frames.movedim(-1, 1), scale_factor=2.0).movedim(1, -1)
        write_video(folder / f"{name}.mp4", large, 16)
    return ["evaluate", "--reference", f"{folder}/clip.mp4", "--video", f"{folder}/new.mp4", "--device", "cpu"]


@FFMPEG
def test_the_command_measures_videos_of_the_embedded_model(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "figures.json").write_text("older")
    assert main([*command, "--prompt", PROMPT, "--json", f"{tmp_path}/figures.json"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("probes of the embedded model") == 3 and "clip.mp4: read" in shown.err
    read = json.loads((tmp_path / "figures.json").read_text())
    assert read["identity"]["value"] > 0.9 and read["prompt_adherence"]["value"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


@FFMPEG
def test_the_command_takes_models_from_folders(
    command: list[str], clip_folder: Path, dino_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--clip", str(clip_folder), "--image-model", str(dino_folder)]
    assert main([*command, *models, "--prompt", "a sks blob", "--identity-token", "sks"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert "Dinov2Model tiny_dino" in lines["identity"] and "Dinov2Model tiny_dino" in lines["temporal coherence"]
    assert "CLIPModel tiny_clip" in lines["prompt adherence"] and "tracks of points" in lines["motion"]


@FFMPEG
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", " "], "The prompt is empty"),
        (["--prompt", "a bee", "--clip", "{tmp}"], "holds no config.json"),
        (["--prompt", "a bee", "--json", "{tmp}"], "which is a folder"),
        (["--prompt", "a bee", "--video", "{tmp}/no.mp4"], "no.mp4"),
    ],
)
def test_the_commands_errors_are_one_line(
    command: list[str], options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *(option.format(tmp=tmp_path) for option in options)]) == 2
    assert message in capsys.readouterr().err.rpartition("error: ")[2]
