"""Real classes at tiny sizes, shared by all tests."""

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.encode import FrameSequence, FrameSet, encode_frame_sequence, encode_frame_set
from setandseq_core.embedded.text import encode_prompt

TINY_TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 1,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 64,
    "num_layers": 2,
    "rope_max_seq_len": 64,
}
TINY_VAE = {"base_dim": 4, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}


@pytest.fixture
def tiny_backbone() -> WanBackbone:
    """A random Wan of two blocks with the embedded text encoder."""
    torch.manual_seed(0)
    transformer, vae = WanTransformer3DModel(**TINY_TRANSFORMER), AutoencoderKLWan(**TINY_VAE)
    return WanBackbone(transformer, vae, encode_prompt, "tiny")


@pytest.fixture
def tiny_frames() -> torch.Tensor:
    """Five frames of 32x32 noise that moves, (5, 32, 32, 3) in [0, 1]."""
    return torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tiny_set(tiny_backbone: WanBackbone, tiny_frames: torch.Tensor) -> FrameSet:
    """The tiny clip as the set stage sees it."""
    return encode_frame_set(tiny_backbone, tiny_frames, "a sks blob")


@pytest.fixture
def tiny_sequence(tiny_backbone: WanBackbone, tiny_frames: torch.Tensor) -> FrameSequence:
    """The tiny clip as the sequence stage sees it."""
    return encode_frame_sequence(tiny_backbone, tiny_frames, "a sks blob, zub hopping")
