"""One native file gives the same model in ComfyUI and in diffusers."""

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from setandseq_core.backbones.wan_files import load_transformer, load_vae
from setandseq_core.backbones.wan_names import native_layer_name, native_transformer, native_vae

EMBEDDED = Path(__file__).parents[2] / "setandseq_core" / "embedded" / "weights"

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings


@pytest.fixture(params=["random, 2 layers", "random, 6 layers", "embedded"])
def transformer_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "embedded":
        return embedded_file("patch_embedding.weight")
    torch.manual_seed(0)
    layers = int(request.param.split()[1])
    model = WanTransformer3DModel(num_attention_heads=2, ffn_dim=1024, num_layers=layers)
    save_file(native_transformer(model.state_dict()), tmp_path / "wan.safetensors")
    return tmp_path / "wan.safetensors"


@pytest.fixture(params=["random", "embedded"])
def vae_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "embedded":
        return embedded_file("decoder.conv1.weight")
    torch.manual_seed(0)
    save_file(native_vae(AutoencoderKLWan(base_dim=16).state_dict()), tmp_path / "vae.safetensors")
    return tmp_path / "vae.safetensors"


@pytest.fixture
def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "hidden_states": torch.randn(1, 16, 5, 8, 8, generator=generator),
        "timestep": torch.tensor([625.0]),
        "encoder_hidden_states": torch.randn(1, 48, 4096, generator=generator),
    }


def embedded_file(key: str) -> Path:
    for file in sorted(EMBEDDED.glob("*/*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            if key in set(weights.keys()):
                return file
    pytest.skip(f"no embedded weights with {key!r}")


def comfyui_transformer(comfyui: ModuleType, file: Path) -> Any:
    return comfyui.sd.load_diffusion_model(str(file), model_options={"dtype": torch.float32})


@torch.no_grad()
def velocity_in_comfyui(comfyui: ModuleType, patcher: Any, inputs: dict[str, Tensor]) -> Tensor:
    comfyui.model_management.load_models_gpu([patcher])
    x, timestep, context = inputs.values()
    return patcher.model.diffusion_model(x, timestep, context=context)


@torch.no_grad()
def velocity_in_diffusers(model: WanTransformer3DModel, inputs: dict[str, Tensor]) -> Tensor:
    return model(**inputs).sample


def assert_close(found: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Check that both are nearly equal and not zero; `-o log_cli_level=INFO` shows the difference."""
    difference = (found - expected).abs().max().item()
    logging.getLogger(__name__).info("%s: %.2e apart, spread %.2f", what, difference, expected.std().item())
    assert found.shape == expected.shape
    assert expected.std() > 100 * tolerance
    assert difference <= tolerance


def test_transformer_gives_the_same_velocity(
    comfyui: ModuleType, transformer_file: Path, inputs: dict[str, Tensor]
) -> None:
    expected = velocity_in_diffusers(load_transformer(transformer_file, torch.float32), inputs)
    found = velocity_in_comfyui(comfyui, comfyui_transformer(comfyui, transformer_file), inputs)
    assert_close(found, expected, 1e-5, "velocity")


@torch.no_grad()
def test_comfyui_samples_with_the_same_time(
    comfyui: ModuleType, transformer_file: Path, inputs: dict[str, Tensor]
) -> None:
    patcher = comfyui_transformer(comfyui, transformer_file)
    comfyui.model_management.load_models_gpu([patcher])
    x, timestep, context = inputs.values()
    sigma = timestep / 1000
    velocity = velocity_in_diffusers(load_transformer(transformer_file, torch.float32), inputs)
    found = patcher.model.apply_model(x, sigma, c_crossattn=context)
    assert_close(found, x - sigma * velocity, 1e-5, "denoised")


def test_plain_lora_reaches_every_layer_with_the_same_effect(
    comfyui: ModuleType,
    transformer_file: Path,
    inputs: dict[str, Tensor],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = load_transformer(transformer_file, torch.float32)
    layers = {
        name: module
        for name, module in model.named_modules()
        if name.startswith("blocks.") and isinstance(module, torch.nn.Linear)
    }
    rank, alpha = 4, 2.0
    lora = {}
    before = velocity_in_diffusers(model, inputs)
    for name, layer in layers.items():
        up, down = 0.1 * torch.randn(layer.out_features, rank), torch.randn(rank, layer.in_features) / 16
        key = f"diffusion_model.{native_layer_name(name)}"
        lora |= {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up, f"{key}.alpha": torch.tensor(alpha)}
        layer.weight.data += alpha / rank * up @ down
    save_file(lora, tmp_path / "lora.safetensors")

    patcher = comfyui_transformer(comfyui, transformer_file)
    key_map = comfyui.lora.model_lora_keys_unet(patcher.model, {})
    patches = comfyui.lora.load_lora(load_file(tmp_path / "lora.safetensors"), key_map)
    assert not [message for message in caplog.messages if "not loaded" in message]
    assert set(patches) == {f"diffusion_model.{native_layer_name(name)}.weight" for name in layers}
    patched = patcher.clone()
    assert set(patched.add_patches(patches, 1.0)) == set(patches)

    expected = velocity_in_diffusers(model, inputs)
    assert (expected - before).abs().max() > 1e-2
    assert_close(velocity_in_comfyui(comfyui, patched, inputs), expected, 1e-5, "velocity with LoRA")


@torch.no_grad()
def test_vae_gives_the_same_latents_and_frames(comfyui: ModuleType, vae_file: Path) -> None:
    ours = load_vae(vae_file, torch.float32)
    theirs = comfyui.sd.VAE(sd=comfyui.utils.load_torch_file(str(vae_file)), dtype=torch.float32)
    frames_FHWC = torch.rand(17, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    pixels = (2 * frames_FHWC - 1).permute(3, 0, 1, 2)[None]
    latents = ours.encode(pixels, return_dict=False)[0].mode()
    assert_close(theirs.encode(frames_FHWC), latents, 1e-4, "latents")
    decoded = (ours.decode(latents, return_dict=False)[0] / 2 + 0.5).permute(0, 2, 3, 4, 1)
    assert_close(theirs.decode(latents), decoded, 1e-4, "frames")


def test_latents_are_normalised_alike(comfyui: ModuleType) -> None:
    config = AutoencoderKLWan(base_dim=4).config
    mean, std = (torch.tensor(config[key]).view(1, 16, 1, 1, 1) for key in ("latents_mean", "latents_std"))
    latents = torch.randn(1, 16, 5, 8, 8, generator=torch.Generator().manual_seed(3))
    assert_close(comfyui.latent_formats.Wan21().process_in(latents), (latents - mean) / std, 1e-5, "normalised latents")
