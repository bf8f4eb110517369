"""Write a trained model as weight files for ComfyUI, diffusers and this project."""

from pathlib import Path
from random import Random
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor, nn

from setandseq_core.atomic import save_atomically
from setandseq_core.backbones.wan_names import native_transformer, native_vae
from setandseq_core.embedded.vae import encode_moments
from setandseq_core.embedded.world.scene import render

from .scenes import grammar_scene


@torch.no_grad()
def latent_statistics(vae: AutoencoderKLWan, clips: int = 48, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent channel over training clips, (16,) each."""
    rng = Random("latent statistics")
    nn.Module.to(vae, device)  # diffusers' own `to` has no types
    pixels = (render(grammar_scene(rng)).permute(3, 0, 1, 2).unsqueeze(0) * 2 - 1 for _ in range(clips))
    latents = [encode_moments(vae, pixels_BCFHW.to(device))[0].cpu() for pixels_BCFHW in pixels]
    nn.Module.to(vae, "cpu")
    channels = torch.cat(latents).movedim(1, 0).flatten(1)
    return channels.mean(1), channels.std(1)


@torch.no_grad()
def fold_latent_scale(vae: AutoencoderKLWan, mean: Tensor, std: Tensor) -> None:
    """Shift and scale the latents so that channels with this mean and std get those of Wan's config.

    ComfyUI and diffusers normalise every Wan latent by the released model's constants. The change is folded into the
    two 1x1x1 convolutions around the latents, so it is exact: encoding and decoding still give the same frames.
    """
    target_mean, target_std = (torch.tensor(vae.config[f"latents_{name}"]) for name in ("mean", "std"))
    scale = target_std / std
    offset = target_mean - mean * scale
    quant: Any = vae.quant_conv
    post: Any = vae.post_quant_conv
    count = len(scale)
    quant.weight[:count] *= scale.view(-1, 1, 1, 1, 1)
    quant.bias[:count] = quant.bias[:count] * scale + offset
    quant.bias[count:] += 2 * scale.log()
    post.weight /= scale.view(1, -1, 1, 1, 1)
    post.bias -= post.weight[:, :, 0, 0, 0] @ offset


def write_vae(vae: AutoencoderKLWan, path: Path) -> None:
    """Write a native Wan VAE file in float16."""
    _write(native_vae(vae.state_dict()), path, "A small Wan VAE for the embedded world of Set-and-Sequence.")


def write_transformer(transformer: WanTransformer3DModel, path: Path) -> None:
    """Write a native Wan transformer file in float16."""
    about = "A small Wan text-to-video transformer for the embedded world of Set-and-Sequence."
    _write(native_transformer(transformer.state_dict()), path, about)


def _write(tensors: dict[str, Tensor], path: Path, description: str) -> None:
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    save_atomically(halves, path, {"format": "pt", "modelspec.description": description})
