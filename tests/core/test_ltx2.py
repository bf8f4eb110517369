"""LTX-2 through diffusers: its picture without sound, and its text."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.pipeline_ltx2 import LTX2Pipeline
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, Gemma3ForConditionalGeneration

from setandseq_core.backbone import Backbone
from setandseq_core.backbones.families import LTX2, family_of
from setandseq_core.backbones.folders import ModelFiles
from setandseq_core.backbones.gemma import gemma_prompts
from setandseq_core.backbones.ltx2 import LTX2Backbone, load_ltx2
from setandseq_core.errors import VideoError
from tools.tiny_folders import LTX2_VAE, write_ltx2

SHAPE = (128, 3, 2, 2)


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=[False, True], ids=["LTX-2", "LTX-2.3"])
def newer(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, newer: bool) -> Path:
    return write_ltx2(tmp_path_factory.mktemp("models") / "tiny_ltx_2.0", newer=newer)


@pytest.fixture(scope="module")
def backbone(folder: Path) -> LTX2Backbone:
    return load_ltx2(ModelFiles(model=folder))


def test_the_backbone_has_all_that_the_method_needs(backbone: LTX2Backbone, newer: bool) -> None:
    as_protocol: Backbone = backbone
    assert as_protocol.name == "tiny_ltx_2.0"
    assert len(backbone.layers) == 2 * (12 if newer else 10)
    assert all(name == path for name, path in backbone.layers.items())
    assert backbone.fingerprint().family == "ltx2"


def test_no_layer_of_the_sound_is_adapted_or_has_an_effect(folder: Path) -> None:
    backbone = load_ltx2(ModelFiles(model=folder))
    inputs = random(1, *SHAPE), torch.tensor([0.5]), [backbone.encode_prompt("a sks blob")]
    with torch.no_grad():
        before = backbone.velocity(*inputs)
        changed = [weight for name, weight in backbone.module.named_parameters() if "audio" in name]
        assert len(changed) > 40
        for weight in changed:
            weight.normal_(generator=torch.Generator().manual_seed(2))
        assert torch.equal(backbone.velocity(*inputs), before)
        for name in backbone.layers:
            weight = backbone.module.get_parameter(f"{name}.weight")
            kept = weight.clone()
            weight.mul_(1.5)
            assert not torch.equal(backbone.velocity(*inputs), before), name
            weight.copy_(kept)


@torch.no_grad()
def test_times_are_those_of_the_frames_of_a_video(backbone: LTX2Backbone) -> None:
    """The network is told the same as by diffusers' pipeline for 25 frames per second."""
    asked: list[Tensor] = []
    hook = backbone.module.rope.register_forward_pre_hook(lambda _, args: asked.append(args[0]))
    backbone.velocity(random(1, *SHAPE), torch.tensor([0.5]), [backbone.encode_prompt("a blob")])
    hook.remove()
    starts_S, ends_S = asked[0][0, 0].unbind(-1)
    torch.testing.assert_close(starts_S, torch.tensor([0.0, 1, 9]).repeat_interleave(4) / 25)
    torch.testing.assert_close(ends_S, torch.tensor([1.0, 9, 17]).repeat_interleave(4) / 25)


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["a sks blob zub", ""])
def test_the_text_is_that_of_diffusers_pipeline(backbone: LTX2Backbone, folder: Path, prompt: str) -> None:
    """The pipeline fills a prompt up on the left and lets Gemma run on all 1024 places."""
    pipeline: Any = SimpleNamespace(
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=Gemma3ForConditionalGeneration.from_pretrained(folder / "text_encoder", dtype=torch.float32),
        _execution_device=torch.device("cpu"),
    )
    states, mask = LTX2Pipeline._get_gemma_prompt_embeds(pipeline, prompt)
    connectors = LTX2TextConnectors.from_pretrained(folder / "connectors")
    expected, _, left = connectors(states, mask, padding_side="left")
    found = backbone.encode_prompt(prompt).tokens_ND
    assert left.all() and found.shape == expected[0].shape
    torch.testing.assert_close(found, expected[0], rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_longer_prompt_takes_more_places_and_has_no_effect_on_a_shorter_one(backbone: LTX2Backbone) -> None:
    texts = [backbone.encode_prompt(prompt) for prompt in ("a sks blob", "a " * 1024)]
    assert [len(text.tokens_ND) for text in texts] == [1024, 1152]
    x_t, time_B = random(2, *SHAPE), torch.tensor([0.3, 0.8])
    together = backbone.velocity(x_t, time_B, texts)
    alone = [backbone.velocity(x_t[i : i + 1], time_B[i : i + 1], texts[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert (backbone.velocity(x_t, time_B, texts[::-1]) - together).abs().max() > 1e-4


def test_kept_text_of_other_connectors_is_not_used(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "ltx2")
    first, _ = gemma_prompts(ModelFiles(model=folder))
    assert gemma_prompts(ModelFiles(model=tmp_path / "ltx2"))[0] == first
    weights = tmp_path / "ltx2" / "connectors" / "diffusion_pytorch_model.safetensors"
    save_file({name: each + 1 for name, each in load_file(weights).items()}, weights, {"format": "pt"})
    other, _ = gemma_prompts(ModelFiles(model=tmp_path / "ltx2"))
    assert other != first


def test_a_clip_that_a_released_decoder_cannot_make_is_refused_before_the_work(tmp_path: Path) -> None:
    mirroring = write_ltx2(tmp_path / "ltx2", vae=LTX2_VAE | {"decoder_spatial_padding_mode": "reflect"})
    backbone = load_ltx2(ModelFiles(model=mirroring))
    for refused in (
        lambda: backbone.latent_shape(9, 64, 32),
        lambda: backbone.encode_frames(torch.zeros(9, 32, 64, 3)),
    ):
        with pytest.raises(VideoError, match="makes clips of 64x64 and up"):
            refused()
    latents_CFHW = backbone.encode_frames(torch.zeros(9, 64, 64, 3))
    assert backbone.decode_latents(latents_CFHW).shape == (9, 64, 64, 3)


def test_a_folder_is_recognised_by_the_class_of_its_transformer(folder: Path) -> None:
    assert family_of(folder) is family_of(folder / "transformer") is LTX2
