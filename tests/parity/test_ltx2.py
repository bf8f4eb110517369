"""LTX-2 gives the same velocity, text and latents in ComfyUI without sound and in diffusers."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_ltx2 import LTX2Attention
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Gemma3ForConditionalGeneration

from setandseq_core.backbones.folders import ModelFiles
from setandseq_core.backbones.ltx2 import LTX2Backbone, load_ltx2
from tools.tiny_folders import CONNECTORS_23, GEMMA, LTX2, LTX2_VAE, ltx2_settings, native_ltx2, write_ltx2

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
PROMPT = "a sks blob zub"


@pytest.fixture(scope="module", params=[False, True], ids=["LTX-2", "LTX-2.3"])
def newer(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, newer: bool) -> Path:
    return write_ltx2(tmp_path_factory.mktemp("models") / "ltx2", newer=newer)


@pytest.fixture(scope="module")
def connectors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "connectors" / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def backbone(folder: Path) -> LTX2Backbone:
    return load_ltx2(ModelFiles(model=folder))


@pytest.fixture(scope="module")
def patcher(
    comfyui: ModuleType, backbone: LTX2Backbone, connectors: dict[str, Tensor], folder: Path, newer: bool
) -> Any:
    """The same weights as ComfyUI's own loader reads them from a file with native names."""
    weights = native_ltx2(backbone.module.state_dict(), connectors)
    settings = {"config": json.dumps(ltx2_settings(newer=newer))}
    save_file({key: weight.contiguous() for key, weight in weights.items()}, folder / "native.safetensors", settings)
    options = {"dtype": torch.float32}
    loaded = comfyui.sd.load_diffusion_model(str(folder / "native.safetensors"), model_options=options)
    assert loaded.model.diffusion_model.state_dict().keys() == weights.keys()
    comfyui.model_management.load_models_gpu([loaded])
    return loaded


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def text_of_both(network: Any, text_BND: Tensor) -> Tensor:
    """ComfyUI's text, in which the picture's part is followed by the sound's: here one that means nothing."""
    width = network.audio_inner_dim if network.caption_proj_before_connector else network.caption_channels
    return torch.cat([text_BND, random(*text_BND.shape[:2], width, seed=3)], dim=-1)


def with_comfyuis_norms(backbone: LTX2Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both norms of an attention add 1e-6 to a square in diffusers and 1e-5 in ComfyUI."""
    for layer in backbone.module.modules():
        if isinstance(layer, LTX2Attention):
            monkeypatch.setattr(layer.norm_q, "eps", 1e-5)
            monkeypatch.setattr(layer.norm_k, "eps", 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size_FHW", [(1, 2, 2), (3, 2, 4)], ids=["picture", "clip"])
def test_both_give_the_same_velocity_without_sound(
    backbone: LTX2Backbone, patcher: Any, size_FHW: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    x_t, time_B = random(2, 128, *size_FHW, seed=1), torch.tensor([0.25, 0.9])
    texts = [backbone.encode_prompt(prompt) for prompt in (PROMPT, "a")]
    network = patcher.model.diffusion_model
    assert type(network).__name__ == "LTXAVModel" and len(network.transformer_blocks) == LTX2["num_layers"]
    text_BND = text_of_both(network, torch.stack([text.tokens_ND for text in texts]))
    expected = network([x_t], time_B, text_BND, None, frame_rate=25)
    assert expected.std() > 0.1
    torch.testing.assert_close(backbone.velocity(x_t, time_B, texts), expected, rtol=0, atol=1e-4)
    with_comfyuis_norms(backbone, monkeypatch)
    torch.testing.assert_close(backbone.velocity(x_t, time_B, texts), expected, rtol=0, atol=3e-6)


@torch.no_grad()
def test_sound_would_change_the_velocity(backbone: LTX2Backbone, patcher: Any) -> None:
    x_t, time_B = random(1, 128, 2, 2, 2, seed=1), torch.tensor([0.5])
    text = backbone.encode_prompt(PROMPT)
    network = patcher.model.diffusion_model
    text_BND = text_of_both(network, text.tokens_ND[None])
    with_sound, _ = network([x_t, random(1, 8, 5, 16, seed=2)], time_B, text_BND, None, frame_rate=25)
    assert (with_sound - backbone.velocity(x_t, time_B, [text])).abs().max() > 1e-2


@torch.no_grad()
def test_comfyui_samples_with_the_same_time_from_the_same_text(backbone: LTX2Backbone, patcher: Any) -> None:
    x_t, sigma = random(1, 128, 2, 2, 2, seed=1), torch.tensor([0.6])
    text = backbone.encode_prompt(PROMPT)
    text_BND = text_of_both(patcher.model.diffusion_model, text.tokens_ND[None])
    options = {"c_crossattn": text_BND, "frame_rate": 25, "latent_shapes": [tuple(x_t.shape)]}
    found = patcher.model.apply_model(x_t, sigma, **options)
    torch.testing.assert_close(found, x_t - sigma * backbone.velocity(x_t, sigma, [text]), rtol=0, atol=1e-4)


def test_every_adapted_layer_and_the_shift_are_the_same_in_comfyui(
    backbone: LTX2Backbone, patcher: Any, same_layers_and_shift: Callable[[LTX2Backbone, Any], None]
) -> None:
    same_layers_and_shift(backbone, patcher)


def comfyuis_gemma(folder: Path) -> Any:
    """ComfyUI's network of Gemma 3 with the weights of a folder, at their size."""
    llama = import_module("comfy.text_encoders.llama")
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    sizes = (*sizes, "num_attention_heads", "num_key_value_heads")
    config = llama.Gemma3_12B_Config(**{name: GEMMA[name] for name in sizes})
    config.head_dim, config.sliding_attention = GEMMA["head_dim"], [1024, 1024, False]
    network = llama.Llama2_(config, device="cpu", dtype=torch.float32, ops=import_module("comfy.ops").manual_cast)
    ours = Gemma3ForConditionalGeneration.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    network.load_state_dict(ours.model.language_model.state_dict())
    return network


@torch.no_grad()
def test_the_text_is_that_of_comfyuis_encoder_and_connectors(
    backbone: LTX2Backbone, patcher: Any, connectors: dict[str, Tensor], folder: Path, newer: bool
) -> None:
    """ComfyUI fills a prompt up to 1024 tokens on the left, and removes these places after Gemma."""
    lt, gemma = import_module("comfy.text_encoders.lt"), comfyuis_gemma(folder)
    ids = [0] * 1019 + [1, 3, 4, 5, 6]
    mask_1N = torch.tensor([[int(number > 0) for number in ids]])

    def encoded(_: object) -> tuple[Tensor, None, dict[str, Tensor]]:
        states = gemma(torch.tensor([ids]), mask_1N, intermediate_output="all", final_layer_norm_intermediate=False)[1]
        return states, None, {"attention_mask": mask_1N}

    width, states = GEMMA["hidden_size"], GEMMA["num_hidden_layers"] + 1
    if newer:
        projection = nn.Module()
        outputs = CONNECTORS_23["video_hidden_dim"], CONNECTORS_23["audio_hidden_dim"]
        projection = lt.DualLinearProjection(width * states, *outputs, operations=nn)
        for part in ("video", "audio"):
            aggregate = getattr(projection, f"{part}_aggregate_embed")
            aggregate.weight.copy_(connectors[f"{part}_text_proj_in.weight"])
            aggregate.bias.copy_(connectors[f"{part}_text_proj_in.bias"])
    else:
        projection = nn.Linear(width * states, width, bias=False)
        projection.weight.copy_(connectors["text_proj_in.weight"])
    encoder = SimpleNamespace(
        gemma3_12b=SimpleNamespace(encode_token_weights=encoded),
        text_embedding_projection=projection,
        text_projection_type="dual_linear" if newer else "single_linear",
        execution_device="cpu",
        compat_mode=False,
    )
    theirs = lt.LTXAVTEModel.encode_token_weights(encoder, {"gemma3_12b": ids})[0]
    assert theirs.shape[1] == 5
    text = patcher.model.diffusion_model.preprocess_text_embeds(theirs, unprocessed=True)[0]
    found = backbone.encode_prompt(PROMPT).tokens_ND
    torch.testing.assert_close(found, text[:, : found.shape[1]], rtol=0, atol=1e-4)


VAE_BLOCKS = {
    "encoder_blocks": [
        *(["res_x", 1], ["compress_space_res", {"multiplier": 1}], ["res_x", 1]),
        *(["compress_time_res", {"multiplier": 1}], ["res_x", 1], ["compress_all_res", {"multiplier": 1}]),
        *(["res_x", 1], ["compress_all_res", {"multiplier": 1}], ["res_x", 1]),
    ],
    "decoder_blocks": [["res_x", 1], *(["compress_all", {"residual": True, "multiplier": 2}], ["res_x", 1]) * 3],
}
"""The blocks of LTX-2's VAE, each with one layer; ComfyUI reads both halves from the side of the pixels."""
VAE_WIDTHS = {"block_out_channels": (128, 128, 128, 128), "decoder_spatial_padding_mode": "reflect"}
VAE_NAMES = {
    "encoder": [
        *("down_blocks.0.resnets", "down_blocks.0.downsamplers.0", "down_blocks.1.resnets"),
        *("down_blocks.1.downsamplers.0", "down_blocks.2.resnets", "down_blocks.2.downsamplers.0"),
        *("down_blocks.3.resnets", "down_blocks.3.downsamplers.0", "mid_block.resnets"),
    ],
    "decoder": [
        *("mid_block.resnets", "up_blocks.0.upsamplers.0", "up_blocks.0.resnets", "up_blocks.1.upsamplers.0"),
        *("up_blocks.1.resnets", "up_blocks.2.upsamplers.0", "up_blocks.2.resnets"),
    ],
}
"""diffusers' names of the VAE's parts, in ComfyUI's order."""


def native_vae(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of an AutoencoderKLLTX2Video of those blocks with ComfyUI's names."""
    names: dict[str, str] = {}
    for half, blocks in {"encoder": "down_blocks", "decoder": "up_blocks"}.items():
        for number, name in enumerate(VAE_NAMES[half]):
            inner = ".res_blocks" if name.endswith("resnets") else ""
            names[f"{half}.{name}."] = f"{half}.{blocks}.{number}{inner}."
    names["latents_mean"] = "per_channel_statistics.mean-of-means"
    names["latents_std"] = "per_channel_statistics.std-of-means"
    found: dict[str, Tensor] = {}
    for key, weight in weights.items():
        start = next((name for name in names if key.startswith(name)), "")
        found[names.get(start, "") + key.removeprefix(start)] = weight.contiguous()
    return found


@torch.no_grad()
def test_the_vae_gives_the_same_latents_and_frames(comfyui: ModuleType, tmp_path: Path) -> None:
    backbone = load_ltx2(ModelFiles(model=write_ltx2(tmp_path / "ltx2", vae=LTX2_VAE | VAE_WIDTHS)))
    sizes = {"dims": 3, "latent_channels": 128, **VAE_BLOCKS, "patch_size": 4, "norm_layer": "pixel_norm"}
    sizes |= {"latent_log_var": "uniform", "causal_decoder": False, "timestep_conditioning": False}
    sizes |= {"encoder_base_channels": 128, "decoder_base_channels": 4}
    weights = native_vae(backbone.vae.state_dict())
    theirs = comfyui.sd.VAE(sd=weights, dtype=torch.float32, metadata={"config": json.dumps({"vae": sizes})})
    loaded = theirs.first_stage_model.state_dict()
    assert all(torch.equal(loaded[key], weight) for key, weight in weights.items())
    frames_FHWC = torch.rand(9, 64, 96, 3, generator=torch.Generator().manual_seed(2))
    expected = theirs.encode(frames_FHWC)[0]
    assert expected.std() > 0.01
    torch.testing.assert_close(backbone.encode_frames(frames_FHWC), expected, rtol=0, atol=1e-4)
    latents = random(128, 2, 2, 3, seed=3)
    torch.testing.assert_close(backbone.decode_latents(latents), theirs.decode(latents[None])[0], rtol=0, atol=1e-4)
