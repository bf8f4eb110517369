"""The embedded model as a backbone: a small Wan with its own text encoder and its weights in `weights/`."""

import torch

from ..backbones.wan import WanBackbone
from ..backbones.wan_files import load_transformer, load_vae
from .files import TRANSFORMER_FILE, VAE_FILE
from .prior_prompts import world_prompts
from .settings import EMBEDDED_CONFIG, EMBEDDED_FORMAT
from .text import encode_prompt

__all__ = ["EMBEDDED_CONFIG", "EMBEDDED_FORMAT", "NAME", "load_embedded"]

NAME = "Set-and-Sequence embedded model"


def load_embedded() -> WanBackbone:
    """Load the embedded model on the CPU in float32."""
    transformer = load_transformer(TRANSFORMER_FILE, torch.float32)
    return WanBackbone(
        transformer,
        load_vae(VAE_FILE, torch.float32),
        encode_prompt,
        NAME,
        format=EMBEDDED_FORMAT,
        known_prompts=world_prompts,
    )
