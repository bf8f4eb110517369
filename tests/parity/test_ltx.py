"""LTX-Video gives the same velocity and latents in ComfyUI and in diffusers, and uses the same times."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from setandseq_core.backbones.folders import ModelFiles
from setandseq_core.backbones.ltx import LTXBackbone, load_ltx
from tools.tiny_folders import LTX, LTX_VAE, TEXT_WIDTH, native_ltx, write_ltx

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings


@pytest.fixture(params=[False, True], ids=["LTXPipeline", "LTXConditionPipeline"])
def causal(request: pytest.FixtureRequest) -> bool:
    """Whether the release counts the time of a latent frame from the first of its frames."""
    return request.param


@pytest.fixture
def backbone(tmp_path: Path, causal: bool) -> LTXBackbone:
    return load_ltx(ModelFiles(model=write_ltx(tmp_path / "ltx", "LTXConditionPipeline" if causal else "LTXPipeline")))


@pytest.fixture
def patcher(comfyui: ModuleType, backbone: LTXBackbone, tmp_path: Path, causal: bool) -> Any:
    """The same weights as ComfyUI's own loader reads them from a file with native names."""
    settings = {"transformer": {"caption_channels": TEXT_WIDTH, "causal_temporal_positioning": causal}}
    weights = {key: weight.contiguous() for key, weight in native_ltx(backbone.module.state_dict()).items()}
    save_file(weights, tmp_path / "ltx.safetensors", {"config": json.dumps(settings)})
    loaded = comfyui.sd.load_diffusion_model(str(tmp_path / "ltx.safetensors"), model_options={"dtype": torch.float32})
    comfyui.model_management.load_models_gpu([loaded])
    return loaded


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("size_FHW", [(1, 2, 2), (3, 2, 4)], ids=["picture", "clip"])
def test_both_give_the_same_velocity_for_padded_prompts(
    backbone: LTXBackbone, patcher: Any, size_FHW: tuple[int, int, int]
) -> None:
    x_t, time_B = random(2, 128, *size_FHW, seed=1), torch.tensor([0.25, 0.9])
    texts = [backbone.encode_prompt(prompt) for prompt in ("a sks blob zub", "a")]
    places = 128  # of ComfyUI's text encoder
    text_BND, mask_BN = 5 * random(2, places, TEXT_WIDTH, seed=2), torch.zeros(2, places, dtype=torch.long)
    for row, text in enumerate(texts):
        text_BND[row, : len(text.tokens_ND)] = text.tokens_ND
        mask_BN[row, : len(text.tokens_ND)] = 1
    network = patcher.model.diffusion_model
    assert type(network).__name__ == "LTXVModel" and len(network.transformer_blocks) == LTX["num_layers"]
    expected = network(x_t, time_B, text_BND, mask_BN, frame_rate=25)
    found = backbone.velocity(x_t, time_B, texts)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_comfyui_samples_with_the_same_time(backbone: LTXBackbone, patcher: Any) -> None:
    x_t, sigma = random(1, 128, 2, 2, 2, seed=1), torch.tensor([0.6])
    text = backbone.encode_prompt("a sks blob")
    tokens_BND = text.tokens_ND.unsqueeze(0)
    mask_BN = torch.ones(tokens_BND.shape[:2], dtype=torch.long)
    found = patcher.model.apply_model(x_t, sigma, c_crossattn=tokens_BND, attention_mask=mask_BN, frame_rate=25)
    torch.testing.assert_close(found, x_t - sigma * backbone.velocity(x_t, sigma, [text]), rtol=0, atol=1e-5)


def test_every_adapted_layer_and_the_shift_are_the_same_in_comfyui(
    backbone: LTXBackbone, patcher: Any, same_layers_and_shift: Callable[[LTXBackbone, Any], None]
) -> None:
    same_layers_and_shift(backbone, patcher)


VAE_BLOCKS = [
    *(["res_x", 1], ["compress_all", 1], ["res_x_y", 1]),
    *(["res_x", 1], ["compress_all", 1], ["res_x_y", 1]),
    *(["res_x", 1], ["compress_all", 1], ["res_x", 1], ["res_x", 1]),
]
"""The blocks of LTX-Video 0.9.0's VAE, each with one layer; ComfyUI reads them from the encoder's side."""
VAE_WIDTHS = {"block_out_channels": (4, 8, 16, 16), "decoder_block_out_channels": (4, 8, 16, 16)}
VAE_NAMES = [
    *("encoder.down_blocks.0.resnets", "encoder.down_blocks.0.downsamplers.0", "encoder.down_blocks.0.conv_out"),
    *("encoder.down_blocks.1.resnets", "encoder.down_blocks.1.downsamplers.0", "encoder.down_blocks.1.conv_out"),
    *("encoder.down_blocks.2.resnets", "encoder.down_blocks.2.downsamplers.0", "encoder.down_blocks.3.resnets"),
    *("encoder.mid_block.resnets", "decoder.mid_block.resnets", "decoder.up_blocks.0.resnets"),
    *("decoder.up_blocks.1.upsamplers.0", "decoder.up_blocks.1.resnets", "decoder.up_blocks.2.conv_in"),
    *("decoder.up_blocks.2.upsamplers.0", "decoder.up_blocks.2.resnets", "decoder.up_blocks.3.conv_in"),
    *("decoder.up_blocks.3.upsamplers.0", "decoder.up_blocks.3.resnets"),
]
"""diffusers' names of the VAE's parts, in ComfyUI's order: ten of the encoder, then ten of the decoder."""


def native_vae(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of an AutoencoderKLLTXVideo of those blocks with ComfyUI's names."""
    found: dict[str, Tensor] = {}
    for key, weight in weights.items():
        for number, name in enumerate(VAE_NAMES):
            if key.startswith(f"{name}."):
                half = "encoder.down_blocks" if number < 10 else "decoder.up_blocks"
                blocks = ".res_blocks" if name.endswith("resnets") else ""
                key = key.replace(name, f"{half}.{number % 10}{blocks}")
                break
        key = key.replace("latents_mean", "per_channel_statistics.mean-of-means")
        key = key.replace("latents_std", "per_channel_statistics.std-of-means")
        key = key.replace(".conv_shortcut.conv.", ".conv_shortcut.").replace(".norm3.", ".norm3.norm.")
        found[key] = weight.contiguous()
    return found


@torch.no_grad()
def test_the_vae_gives_the_same_latents_and_frames(comfyui: ModuleType, tmp_path: Path) -> None:
    backbone = load_ltx(ModelFiles(model=write_ltx(tmp_path / "ltx", vae=LTX_VAE | VAE_WIDTHS)))
    sizes = {"dims": 3, "latent_channels": 128, "blocks": VAE_BLOCKS, "patch_size": 4, "norm_layer": "pixel_norm"}
    sizes |= {"latent_log_var": "uniform", "spatial_padding_mode": "zeros"}
    sizes |= {"encoder_base_channels": 4, "decoder_base_channels": 4}
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
