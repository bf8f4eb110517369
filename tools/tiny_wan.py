"""Tiny random models under the names that the Wan workflows ask for."""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor

from setandseq_core.backbones.wan_names import native_transformer, native_vae
from tools.workflows import wan

TINY_TRANSFORMER: dict[str, Any] = {"num_attention_heads": 1, "attention_head_dim": 128, "ffn_dim": 64, "num_layers": 2}
TINY_VAE: dict[str, Any] = {"base_dim": 4, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}


def write_wan_files(models: Path) -> None:
    """Write the transformers, the VAE and, because ComfyUI knows only one size of it, an empty text encoder.

    Args:
        models: the folder of ComfyUI's models.
    """
    for seed, file in enumerate((wan.SMALL, wan.HIGH, wan.LOW)):
        torch.manual_seed(seed)
        save_as(native_transformer(WanTransformer3DModel(**TINY_TRANSFORMER).state_dict()), models, file)
    save_as(native_vae(AutoencoderKLWan(**TINY_VAE).state_dict()), models, wan.VAE)
    save_as({"never": torch.zeros(1)}, models, wan.TEXT)


def save_as(weights: dict[str, Tensor], models: Path, file: dict[str, str]) -> None:
    """Write weights into the folder and under the name of a workflow's file."""
    path = models / file["directory"] / file["name"]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
