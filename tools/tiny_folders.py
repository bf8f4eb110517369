"""Tiny random models in diffusers folders as `save_pretrained` writes them, each with all parts of a release."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_ltx import AutoencoderKLLTXVideo
from diffusers.models.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_ltx import LTXVideoTransformer3DModel
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

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

GEMMA: Sizes = {
    "vocab_size": 8,
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "sliding_window": 1024,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
    },
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
VISION: Sizes = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "image_size": 28,
    "patch_size": 14,
}
LTX2: Sizes = LTX | {
    "audio_attention_head_dim": 4,
    "audio_cross_attention_dim": 128,
    "rope_type": "split",
}
LTX23: Sizes = LTX2 | {
    "gated_attn": True,
    "audio_gated_attn": True,
    "cross_attn_mod": True,
    "audio_cross_attn_mod": True,
    "use_prompt_embeddings": False,
    "perturbed_attn": True,
}
"""The kind of transformer since LTX-2.3, whose attentions have gates and whose text is modulated by the time."""
CONNECTORS: Sizes = {
    "caption_channels": TEXT_WIDTH,
    "text_proj_in_factor": 4,
    "video_connector_num_attention_heads": 2,
    "video_connector_attention_head_dim": 8,
    "video_connector_num_layers": 1,
    "audio_connector_num_attention_heads": 2,
    "audio_connector_attention_head_dim": 8,
    "audio_connector_num_layers": 1,
    "rope_type": "split",
}
CONNECTORS_23: Sizes = CONNECTORS | {
    "video_connector_num_attention_heads": 32,
    "audio_connector_num_attention_heads": 32,
    "audio_connector_attention_head_dim": 4,
    "video_gated_attn": True,
    "audio_gated_attn": True,
    "per_modality_projections": True,
    "video_hidden_dim": 256,
    "audio_hidden_dim": 128,
    "proj_bias": True,
}
LTX2_VAE: Sizes = {
    "block_out_channels": (4, 8, 16, 32),
    "decoder_block_out_channels": (8, 16, 32),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1),
    "decoder_causal": False,
    "decoder_spatial_padding_mode": "zeros",
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
"""The released decoders pad by reflection, which takes clips of 64x64 and up."""


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


def write_ltx2(folder: Path, *, newer: bool = False, vae: Mapping[str, Any] = LTX2_VAE) -> Path:
    """Write an LTX-2 of two blocks without the parts that make sound.

    Args:
        newer: make it an LTX-2.3.
        vae: sizes of its VAE.
    """
    torch.manual_seed(0)
    LTX2VideoTransformer3DModel(**(LTX23 if newer else LTX2)).save_pretrained(folder / "transformer")
    LTX2TextConnectors(**(CONNECTORS_23 if newer else CONNECTORS)).save_pretrained(folder / "connectors")
    autoencoder: Any = AutoencoderKLLTX2Video(**vae)
    autoencoder.latents_mean.normal_(0, 0.1)
    autoencoder.latents_std.uniform_(0.5, 2)
    autoencoder.save_pretrained(folder / "vae")
    config = Gemma3Config(text_config=GEMMA, vision_config=VISION, mm_tokens_per_image=1)
    Gemma3ForConditionalGeneration(config).save_pretrained(folder / "text_encoder")
    _write_tokenizer(folder / "tokenizer", "</s> $A")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "LTX2Pipeline"}))
    return folder


def _write_tokenizer(folder: Path, template: str = "$A </s>") -> None:
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", "a", "sks", "blob", "zub"])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=[("</s>", 1)])
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


_LTX_NATIVE = {"proj_in": "patchify_proj", "time_embed": "adaln_single", "norm_q": "q_norm", "norm_k": "k_norm"}
_LTX2_NATIVE = _LTX_NATIVE | {
    "audio_proj_in": "audio_patchify_proj",
    "audio_time_embed": "audio_adaln_single",
    "prompt_adaln": "prompt_adaln_single",
    "audio_prompt_adaln": "audio_prompt_adaln_single",
    "av_cross_attn_video_scale_shift": "av_ca_video_scale_shift_adaln_single",
    "av_cross_attn_audio_scale_shift": "av_ca_audio_scale_shift_adaln_single",
    "av_cross_attn_video_a2v_gate": "av_ca_a2v_gate_adaln_single",
    "av_cross_attn_audio_v2a_gate": "av_ca_v2a_gate_adaln_single",
    "video_a2v_cross_attn_scale_shift_table": "scale_shift_table_a2v_ca_video",
    "audio_a2v_cross_attn_scale_shift_table": "scale_shift_table_a2v_ca_audio",
}
_CONNECTORS_NATIVE = {
    "video_connector": "video_embeddings_connector",
    "audio_connector": "audio_embeddings_connector",
    "transformer_blocks": "transformer_1d_blocks",
    "norm_q": "q_norm",
    "norm_k": "k_norm",
}


def _renamed(weights: Mapping[str, torch.Tensor], names: Mapping[str, str]) -> dict[str, torch.Tensor]:
    return {".".join(names.get(word, word) for word in key.split(".")): each for key, each in weights.items()}


def native_ltx(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of an LTXVideoTransformer3DModel with the names of LTX-Video's own files, which ComfyUI reads."""
    return _renamed(weights, _LTX_NATIVE)


def native_ltx2(weights: Mapping[str, torch.Tensor], connectors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of an LTX2VideoTransformer3DModel and its connectors with the names of LTX-2's own files, which ComfyUI
    reads. The projections of the connectors are left out: in ComfyUI they belong to the text encoder."""
    own = {key: each for key, each in connectors.items() if "_proj_in" not in key}
    return _renamed(weights, _LTX2_NATIVE) | _renamed(own, _CONNECTORS_NATIVE)


def ltx2_settings(*, newer: bool = False) -> dict[str, Any]:
    """The metadata of LTX-2's own files, from which ComfyUI takes what the weights do not say, at these sizes."""
    found: dict[str, Any] = {
        "caption_channels": TEXT_WIDTH,
        "attention_head_dim": LTX["attention_head_dim"],
        "audio_attention_head_dim": LTX2["audio_attention_head_dim"],
        "audio_cross_attention_dim": LTX2["audio_cross_attention_dim"],
        "connector_attention_head_dim": CONNECTORS["video_connector_attention_head_dim"],
        "connector_num_attention_heads": CONNECTORS["video_connector_num_attention_heads"],
        "connector_num_layers": CONNECTORS["video_connector_num_layers"],
        "causal_temporal_positioning": True,
        "use_middle_indices_grid": True,
        "rope_type": "split",
        "frequencies_precision": "float64",
    }
    if newer:
        found |= {
            "apply_gated_attention": True,
            "connector_apply_gated_attention": True,
            "cross_attention_adaln": True,
            "caption_proj_before_connector": True,
            "caption_projection_first_linear": False,
            "connector_num_attention_heads": CONNECTORS_23["video_connector_num_attention_heads"],
            "audio_connector_num_attention_heads": CONNECTORS_23["audio_connector_num_attention_heads"],
            "audio_connector_attention_head_dim": CONNECTORS_23["audio_connector_attention_head_dim"],
        }
    return {"transformer": found}
