"""Translate names of Wan weights from diffusers to the native ones, which Wan's own files and ComfyUI use.

Both formats hold the same tensors in the same shapes. Concept files use the native names.
"""

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from ..errors import BackboneError

_TOP = {
    "patch_embedding": "patch_embedding",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "scale_shift_table": "head.modulation",
    "proj_out": "head.head",
}
_ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o", "norm_q": "norm_q", "norm_k": "norm_k"}
_IN_BLOCK = {
    **{f"attn1.{ours}": f"self_attn.{native}" for ours, native in _ATTENTION.items()},
    **{f"attn2.{ours}": f"cross_attn.{native}" for ours, native in _ATTENTION.items()},
    "norm2": "norm3",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "scale_shift_table": "modulation",
}

_DIFFUSERS_IN_BLOCK = {native: ours for ours, native in _IN_BLOCK.items()}

_VAE_TOP = {
    "quant_conv": "conv1",
    "post_quant_conv": "conv2",
    **{f"{half}.conv_in": f"{half}.conv1" for half in ("encoder", "decoder")},
    **{f"{half}.norm_out": f"{half}.head.0" for half in ("encoder", "decoder")},
    **{f"{half}.conv_out": f"{half}.head.2" for half in ("encoder", "decoder")},
}
_VAE_MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}
_IN_RESIDUAL = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}
_VAE_LAYERS_PER_UP_BLOCK = 4


def native_layer_name(name: str) -> str:
    """Native name of a module or table of WanTransformer3DModel: `blocks.0.attn1.to_q` -> `blocks.0.self_attn.q`.

    Raises:
        BackboneError: a text-to-video Wan has no such layer.
    """
    block = re.fullmatch(r"(blocks\.\d+\.)(.+)", name)
    stem, table, rest = (block[1], _IN_BLOCK, block[2]) if block else ("", _TOP, name)
    if rest not in table:
        raise BackboneError(
            f"Layer {name!r} has no native name: only the layers of a text-to-video Wan have one.",
            hint="Use a Wan 2.1 or Wan 2.2 14B text-to-video model.",
        )
    return stem + table[rest]


def diffusers_layer_name(name: str) -> str | None:
    """Name in diffusers of a layer in a block, the inverse of `native_layer_name`; None for other layers."""
    block = re.fullmatch(r"(blocks\.\d+\.)(.+)", name)
    if block is None or block[2] not in _DIFFUSERS_IN_BLOCK:
        return None
    return block[1] + _DIFFUSERS_IN_BLOCK[block[2]]


def native_vae_name(name: str) -> str:
    """Native name of a module of AutoencoderKLWan (Wan 2.1 layout): `decoder.conv_in` -> `decoder.conv1`."""
    if name in _VAE_TOP:
        return _VAE_TOP[name]
    if found := re.fullmatch(r"(encoder|decoder)\.mid_block\.(\w+\.\d)\.(.+)", name):
        stem, rest = f"{found[1]}.middle.{_VAE_MIDDLE[found[2]]}.", found[3]
    elif found := re.fullmatch(r"encoder\.down_blocks\.(\d+)\.(.+)", name):
        stem, rest = f"encoder.downsamples.{found[1]}.", found[2]
    elif found := re.fullmatch(r"decoder\.up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)\.(.+)", name):
        index = int(found[3]) if found[2] == "resnets" else _VAE_LAYERS_PER_UP_BLOCK - 1
        stem, rest = f"decoder.upsamples.{_VAE_LAYERS_PER_UP_BLOCK * int(found[1]) + index}.", found[4]
    else:
        raise BackboneError(
            f"Layer {name!r} has no native name: only the layers of a Wan 2.1 VAE have one.",
            hint="Use the VAE of Wan 2.1.",
        )
    return stem + _IN_RESIDUAL.get(rest, rest)


def native_transformer(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A WanTransformer3DModel state dict with native names and contiguous tensors, ready to save as a native file."""
    return {native_key(key, native_layer_name): tensor.contiguous() for key, tensor in state_dict.items()}


def native_vae(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An AutoencoderKLWan state dict with native names and contiguous tensors, ready to save as a native file."""
    return {native_key(key, native_vae_name): tensor.contiguous() for key, tensor in state_dict.items()}


def native_key(key: str, native_name: Callable[[str], str]) -> str:
    """Native name of one weight; `native_name` gives that of its module."""
    module, _, leaf = key.rpartition(".")
    return native_name(key) if leaf == "scale_shift_table" else f"{native_name(module)}.{leaf}"
