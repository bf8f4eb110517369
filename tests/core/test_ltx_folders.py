"""Folders of LTX-Video and LTX-2 that do not fit are refused in words, and nothing pickled is read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Gemma3ForConditionalGeneration

from setandseq_core.backbones.families import family_of
from setandseq_core.backbones.folders import ModelFiles
from setandseq_core.errors import BackboneError
from tools.tiny_folders import write_ltx, write_ltx2

Write = Callable[[Path], Path]
Change = Callable[[Path], object]


def rewritten(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def with_encoder_of_ltx_video(folder: Path) -> None:
    shutil.rmtree(folder / "text_encoder")
    shutil.move(write_ltx(folder / "ltx") / "text_encoder", folder / "text_encoder")


def with_smaller_encoder(folder: Path) -> None:
    model = Gemma3ForConditionalGeneration.from_pretrained(folder / "text_encoder")
    text: Any = model.config.text_config
    text.num_hidden_layers, text.layer_types = 2, text.layer_types[:2]
    Gemma3ForConditionalGeneration(model.config).save_pretrained(folder / "text_encoder")


BOTH: dict[str, tuple[Change, str]] = {
    "blocks missing": (
        lambda at: rewritten(at / "transformer/config.json", num_layers=3),
        "weights do not fit its config.json",
    ),
    "no VAE": (lambda at: shutil.rmtree(at / "vae"), "no readable config.json in it or in its folder 'vae'"),
    "pickled encoder": (lambda at: pickled(at / "text_encoder"), "cannot be loaded"),
}
"""Each entry changes a folder and names the text that its refusal must contain."""
LTX_VIDEO: dict[str, tuple[Change, str]] = {
    "no index": (lambda at: (at / "model_index.json").unlink(), r"no readable model_index\.json"),
    "upsampler": (
        lambda at: rewritten(at / "model_index.json", _class_name="LTXLatentUpsamplePipeline"),
        "names LTXLatentUpsamplePipeline; for LTX-Video",
    ),
    "image channels": (
        lambda at: rewritten(at / "transformer/config.json", in_channels=256),
        "256 channels in, 128 out",
    ),
    "patches": (lambda at: rewritten(at / "transformer/config.json", patch_size=2), r"patches \(2, 1\)"),
    "VAE of other patches": (lambda at: rewritten(at / "vae/config.json", patch_size=2), "do not fit|shape"),
    "VAE of Wan": (
        lambda at: rewritten(at / "vae/config.json", _class_name="AutoencoderKLWan"),
        "not a AutoencoderKLLTXVideo",
    ),
    "no tokenizer": (lambda at: shutil.rmtree(at / "tokenizer"), "has no folder 'tokenizer'. LTX-Video needs"),
    "encoder of Wan": (
        lambda at: rewritten(at / "text_encoder/config.json", model_type="umt5"),
        "holds a umt5, not a t5",
    ),
}
LTX_2: dict[str, tuple[Change, str]] = {
    "LTX-2.5": (lambda at: rewritten(at / "transformer/config.json", ff_bias=False), "this is LTX-2.5"),
    "image channels": (
        lambda at: rewritten(at / "transformer/config.json", in_channels=256),
        "variant of LTX-2 .256 channels in",
    ),
    "VAE of Wan": (
        lambda at: rewritten(at / "vae/config.json", _class_name="AutoencoderKLWan"),
        "not a AutoencoderKLLTX2Video",
    ),
    "no connectors": (
        lambda at: shutil.rmtree(at / "connectors"),
        "no readable config.json in it or in its folder 'connectors'",
    ),
    "no tokenizer": (lambda at: shutil.rmtree(at / "tokenizer"), "has no folder 'tokenizer'. LTX-2 needs"),
    "encoder of LTX-Video": (with_encoder_of_ltx_video, "holds a t5, not a gemma3"),
    "smaller encoder": (
        with_smaller_encoder,
        "gives 3 states of width 16; the connectors of the model need 4 of width 16",
    ),
}


@pytest.mark.parametrize(
    ("write", "change", "message"),
    [
        *(pytest.param(write_ltx, *row, id=f"LTX-Video, {name}") for name, row in (BOTH | LTX_VIDEO).items()),
        *(pytest.param(write_ltx2, *row, id=f"LTX-2, {name}") for name, row in (BOTH | LTX_2).items()),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_in_words(
    tmp_path: Path, write: Write, change: Change, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    folder = write(tmp_path / "model")
    change(folder)
    with pytest.raises(BackboneError, match=message):
        family_of(folder).load(ModelFiles(model=folder))
