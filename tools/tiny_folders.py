"""Tiny random models in diffusers folders as `save_pretrained` writes them, each with all parts of a release."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_ltx import AutoencoderKLLTXVideo
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_ltx import LTXVideoTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

Sizes = dict[str, Any]

TEXT_WIDTH = 16
ENCODER: Sizes = {"d_model": TEXT_WIDTH, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 8}
WAN: Sizes = {
    "num_attention_heads": 1,
    "attention_head_dim": 128,
    "ffn_dim": 32,
    "num_layers": 1,
    "text_dim": TEXT_WIDTH,
}
LTX: Sizes = {
    "num_attention_heads": 32,
    "attention_head_dim": 8,
    "cross_attention_dim": 256,
    "num_layers": 2,
    "caption_channels": TEXT_WIDTH,
}
"""ComfyUI's detection takes 32 heads for granted."""
LTX_VAE: Sizes = {
    "block_out_channels": (4, 4, 8, 8),
    "decoder_block_out_channels": (4, 4, 8, 8),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1, 1),
}
LTX_VAE_091: Sizes = LTX_VAE | {
    "decoder_block_out_channels": (8, 16, 32),
    "decoder_layers_per_block": (1, 1, 1, 1),
    "decoder_spatio_temporal_scaling": (True, True, True),
    "decoder_inject_noise": (False, True, True, True),
    "upsample_residual": (True, True, True),
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
}
"""The kind of VAE since 0.9.1, whose decoder takes a time and draws noise."""


def write_wan(folder: Path) -> Path:
    """Write a Wan of one block."""
    torch.manual_seed(0)
    WanTransformer3DModel(**WAN).save_pretrained(folder / "transformer")
    AutoencoderKLWan(base_dim=4).save_pretrained(folder / "vae")
    UMT5EncoderModel(UMT5Config(**ENCODER)).save_pretrained(folder / "text_encoder")
    _write_tokenizer(folder / "tokenizer")
    return folder


def write_ltx(folder: Path, pipeline: str = "LTXPipeline", vae: Mapping[str, Any] = LTX_VAE) -> Path:
    """Write an LTX-Video of two blocks, whose latents have a mean and a standard deviation of their own.

    Args:
        pipeline: class that its model_index.json names.
        vae: sizes of its VAE.
    """
    torch.manual_seed(0)
    LTXVideoTransformer3DModel(**LTX).save_pretrained(folder / "transformer")
    autoencoder: Any = AutoencoderKLLTXVideo(**vae)
    autoencoder.latents_mean.normal_(0, 0.1)
    autoencoder.latents_std.uniform_(0.5, 2)
    autoencoder.save_pretrained(folder / "vae")
    T5EncoderModel(T5Config(**ENCODER)).save_pretrained(folder / "text_encoder")
    _write_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    return folder


def _write_tokenizer(folder: Path) -> None:
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", "a", "sks", "blob", "zub"])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


_LTX_NATIVE = {"proj_in": "patchify_proj", "time_embed": "adaln_single", "norm_q": "q_norm", "norm_k": "k_norm"}


def native_ltx(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of an LTXVideoTransformer3DModel with the names of LTX-Video's own files, which ComfyUI reads."""
    return {".".join(_LTX_NATIVE.get(word, word) for word in key.split(".")): each for key, each in weights.items()}
