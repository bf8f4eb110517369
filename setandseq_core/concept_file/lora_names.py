"""Layer names of a plain LoRA that both ComfyUI and diffusers find."""

import re

PREFIX = "diffusion_model."
"""Stock ComfyUI takes it for every model; diffusers takes it for models whose native names it converts."""

_ORIGINAL_NAMES = (
    (r"^(double_blocks\.\d+\.(?:img|txt))_attn\.(qkv|proj)$", r"\1_attn_\2"),
    (r"^(double_blocks\.\d+\.(?:img|txt))_mlp\.0$", r"\1_mlp.fc1"),
    (r"^(double_blocks\.\d+\.(?:img|txt))_mlp\.2$", r"\1_mlp.fc2"),
)
"""ComfyUI renamed some layers of models with double blocks. Both programs still take the names of the original release,
and diffusers takes no others."""
_DIFFUSERS_PREFIX = (r"^((?:text|visual)_transformer_blocks\.\d+\.)", r"transformer.\1")
"""Blocks that have the same names in diffusers, which takes them under its own prefix only; ComfyUI takes that too."""


def portable_name(layer: str) -> str:
    """The name of a layer in a plain LoRA that stock ComfyUI and diffusers both load, with its prefix.

    Layers that need no other spelling keep their native name.

    Args:
        layer: native name, such as "blocks.0.self_attn.q".
    """
    pattern, replacement = _DIFFUSERS_PREFIX
    if re.match(pattern, layer):
        return re.sub(pattern, replacement, layer)
    for pattern, replacement in _ORIGINAL_NAMES:
        layer = re.sub(pattern, replacement, layer)
    return PREFIX + layer
