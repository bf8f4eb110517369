"""Layer names of plain LoRAs: the spelling that is written, and all that are read."""

import re
from collections.abc import Callable, Iterable, Iterator

DiffusersName = Callable[[str], str | None]
"""The name that diffusers gives a layer, by its native name; None where it is the same or not known."""
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


_PREFIXES = (PREFIX, "transformer.", "model.diffusion_model.", "base_model.model.", "")
"""Before a layer's name: ComfyUI's, diffusers', a checkpoint's, PEFT's, and none."""
_JOINED_PREFIXES = ("lora_unet_", "lora_transformer_", "lycoris_")
"""Before a layer's name with underscores in place of dots, as kohya's programs write it."""


def native_names(layers: Iterable[str], in_diffusers: DiffusersName) -> dict[str, str]:
    """The native name of each layer by every name that programs give it in a plain LoRA.

    Args:
        layers: native names of the model's layers.
        in_diffusers: their names in diffusers.
    """
    found: dict[str, str] = {}
    for layer in layers:
        for name in _names(layer, in_diffusers):
            found |= {prefix + name: layer for prefix in _PREFIXES}
            found |= {prefix + name.replace(".", "_"): layer for prefix in _JOINED_PREFIXES}
    return found


def _names(layer: str, in_diffusers: DiffusersName) -> Iterator[str]:
    """The layer's names without a prefix."""
    yield layer
    yield portable_name(layer).removeprefix(PREFIX).removeprefix("transformer.")
    other = in_diffusers(layer)
    if other is not None:
        yield other
