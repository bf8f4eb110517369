"""The embedded model as a backbone: a small Wan with its own text encoder, weights in `weights/`."""

import torch

from ..backbone import VideoFormat
from ..backbones.wan import WanBackbone
from ..backbones.wan_files import load_transformer, load_vae
from ..config import MethodConfig, SequenceConfig, SetConfig
from .files import TRANSFORMER_FILE, VAE_FILE
from .prior_prompts import world_prompts
from .text import encode_prompt
from .world.scene import FPS, FRAMES, SIZE

NAME = "Set-and-Sequence embedded model"
EMBEDDED_FORMAT = VideoFormat(fps=FPS, frames=FRAMES, size=(SIZE, SIZE), size_multiple=16)
EMBEDDED_CONFIG = MethodConfig(
    gradient_clipping=1.0,
    set_stage=SetConfig(steps=100, learning_rate=1.5e-3, batch=4, time_shift=1.0),
    sequence_stage=SequenceConfig(steps=200, learning_rate=3e-3, batch=4),
)
"""The method's settings for the embedded model: it is small and learns at higher rates than the large ones."""


def load_embedded() -> WanBackbone:
    """The embedded model on the CPU in float32."""
    transformer = load_transformer(TRANSFORMER_FILE, torch.float32)
    return WanBackbone(
        transformer,
        load_vae(VAE_FILE, torch.float32),
        encode_prompt,
        NAME,
        format=EMBEDDED_FORMAT,
        known_prompts=world_prompts,
    )
