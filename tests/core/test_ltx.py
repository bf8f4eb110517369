"""LTX-Video through diffusers: a tiny random model in a real folder, its times and its prompts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from setandseq_core.backbone import Backbone
from setandseq_core.backbones.families import LTX, WAN, family_of
from setandseq_core.backbones.folders import ModelFiles
from setandseq_core.backbones.ltx import CAUSAL, LTX_FORMAT, LTX_TEXT, LTXBackbone, load_ltx, token_places
from setandseq_core.backbones.t5 import T5Prompts
from setandseq_core.errors import BackboneError
from tools.tiny_folders import LTX_VAE, LTX_VAE_091, write_ltx, write_wan

SHAPE = (128, 3, 2, 2)


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ltx(tmp_path_factory.mktemp("models") / "tiny_ltx_0.9")


@pytest.fixture(scope="module")
def backbone(folder: Path) -> LTXBackbone:
    return load_ltx(ModelFiles(model=folder))


def test_the_backbone_has_all_that_the_method_needs(backbone: LTXBackbone) -> None:
    as_protocol: Backbone = backbone
    assert as_protocol.name == "tiny_ltx_0.9"
    assert len(backbone.layers) == 2 * 10 and all(name == path for name, path in backbone.layers.items())
    assert backbone.fingerprint().family == "ltxv"


@torch.no_grad()
def test_a_decoder_that_draws_noise_always_gives_the_same_and_changes_no_other_draw(tmp_path: Path) -> None:
    backbone = load_ltx(ModelFiles(model=write_ltx(tmp_path / "ltx", vae=LTX_VAE_091)))
    asked: list[Tensor] = []
    backbone.vae.decoder.register_forward_pre_hook(lambda _, args: asked.append(args[1]))
    latents = random(128, 2, 1, 1)
    before = torch.get_rng_state()
    first = backbone.decode_latents(latents)
    assert torch.equal(torch.get_rng_state(), before) and first.shape == (9, 32, 32, 3)
    torch.rand(1)
    assert torch.equal(backbone.decode_latents(latents), first)
    assert [time_B.tolist() for time_B in asked] == [[pytest.approx(0.05)]] * 2
    without = backbone.vae.decode(
        (latents * backbone._std + backbone._mean)[None], torch.tensor([0.05]), return_dict=False
    )
    assert not torch.equal(((without[0][0] + 1) / 2).clamp(0, 1).permute(1, 2, 3, 0), first)


@torch.no_grad()
def test_padding_of_a_shorter_prompt_has_no_effect(backbone: LTXBackbone) -> None:
    texts = [backbone.encode_prompt(prompt) for prompt in ("a sks blob zub", "")]
    assert [len(text.tokens_ND) for text in texts] == [5, 1]
    x_t, time_B = random(2, *SHAPE), torch.tensor([0.3, 0.8])
    together = backbone.velocity(x_t, time_B, texts)
    alone = [backbone.velocity(x_t[i : i + 1], time_B[i : i + 1], texts[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert (backbone.velocity(x_t, time_B, texts[::-1]) - together).abs().max() > 1e-4


def test_prompts_of_any_length_are_encoded(folder: Path) -> None:
    text = T5Prompts(LTX_TEXT, ModelFiles(model=folder))("a " * 600)
    assert text.shape == (601, 16)


def test_places_are_seconds_and_pixels() -> None:
    places_3S = token_places((3, 1, 2), LTX_FORMAT, causal=False)
    seconds = torch.tensor([0, 0, 8, 8, 16, 16]) / 25
    torch.testing.assert_close(places_3S, torch.stack([seconds, torch.zeros(6), torch.tensor([0.0, 32.0] * 3)]))
    causal_3S = token_places((3, 1, 2), LTX_FORMAT, causal=True)
    torch.testing.assert_close(causal_3S[0], torch.tensor([0, 0, 1, 1, 9, 9]) / 25)
    assert torch.equal(causal_3S[1:], places_3S[1:])


@torch.no_grad()
def test_releases_since_095_count_time_from_the_first_frame_of_each_latent_frame(tmp_path: Path) -> None:
    found: dict[str, Tensor] = {}
    for pipeline in CAUSAL:
        backbone = load_ltx(ModelFiles(model=write_ltx(tmp_path / pipeline, pipeline)))
        found[pipeline] = backbone.velocity(random(1, *SHAPE), torch.tensor([0.5]), [backbone.encode_prompt("a blob")])
    assert torch.equal(found["LTXPipeline"], found["LTXImageToVideoPipeline"])
    assert torch.equal(found["LTXConditionPipeline"], found["LTXI2VLongMultiPromptPipeline"])
    assert not torch.equal(found["LTXPipeline"], found["LTXConditionPipeline"])


def test_a_folder_is_recognised_by_the_class_of_its_transformer(folder: Path, tmp_path: Path) -> None:
    assert family_of(folder) is family_of(folder / "transformer") is LTX
    assert family_of(write_wan(tmp_path / "wan")) is WAN
    assert family_of(tmp_path / "wan.safetensors") is WAN


@pytest.mark.parametrize("kind", ["HunyuanVideoTransformer3DModel", "MochiTransformer3DModel"])
def test_a_folder_of_another_video_model_is_sent_to_comfyui(tmp_path: Path, kind: str) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(BackboneError, match=f"holds a {kind}, which the command line does not train") as caught:
        family_of(tmp_path)
    assert "in ComfyUI, by the node Train Concept" in caught.value.hint


def test_a_vae_of_another_compression_is_refused(folder: Path, tmp_path: Path) -> None:
    other: dict[str, Any] = {"block_out_channels": (4, 4, 8), "spatio_temporal_scaling": (True, True, False)}
    other |= {"decoder_block_out_channels": (4, 4, 8), "decoder_spatio_temporal_scaling": (True, True, False)}
    other |= {"layers_per_block": (1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1)}
    other |= {"down_block_types": ("LTXVideoDownBlock3D",) * 3}
    vae = write_ltx(tmp_path / "other", vae=LTX_VAE | other) / "vae"
    with pytest.raises(BackboneError, match="128 channels for 4 frames of 16x16 pixels; the transformer needs 128 for"):
        load_ltx(ModelFiles(model=folder, vae=vae))
