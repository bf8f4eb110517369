"""Layer names of plain LoRAs: the spelling that is written, and all spellings that are read."""

import re
from collections.abc import Callable, Iterable, Iterator

DiffusersName = Callable[[str], str | None]
"""Maps a layer's native name to its name in diffusers; None if it is the same or unknown."""
PREFIX = "diffusion_model."
"""Prefix that stock ComfyUI accepts for every model, and diffusers for models whose native names it converts."""

_ORIGINAL_NAMES = (
    (r"^(double_blocks\.\d+\.(?:img|txt))_attn\.(qkv|proj)$", r"\1_attn_\2"),
    (r"^(double_blocks\.\d+\.(?:img|txt))_mlp\.0$", r"\1_mlp.fc1"),
    (r"^(double_blocks\.\d+\.(?:img|txt))_mlp\.2$", r"\1_mlp.fc2"),
)
"""Patterns that restore the names of the original release. ComfyUI renamed some layers of models with double blocks. It
still accepts the original names, and diffusers accepts only those."""
_DIFFUSERS_PREFIX = (r"^((?:text|visual)_transformer_blocks\.\d+\.)", r"transformer.\1")
"""Pattern for blocks with the same names in diffusers, which needs its own prefix for them; ComfyUI accepts it too."""


def portable_name(layer: str) -> str:
    """A layer's name, with prefix, in a plain LoRA that both stock ComfyUI and diffusers load.

    Most layers keep their native name after the prefix.

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
"""Prefixes of layer names: ComfyUI's, diffusers', a checkpoint's, PEFT's, and none."""
_JOINED_PREFIXES = ("lora_unet_", "lora_transformer_", "lycoris_")
"""Prefixes of layer names with underscores instead of dots, as kohya's programs write them."""


def native_names(layers: Iterable[str], in_diffusers: DiffusersName) -> dict[str, str]:
    """Maps every name that programs give a layer in a plain LoRA to its native name.

    Args:
        layers: native names of the model's layers.
        in_diffusers: gives the name of a layer in diffusers.
    """
    found: dict[str, str] = {}
    for layer in layers:
        for name in _names(layer, in_diffusers):
            found |= {prefix + name: layer for prefix in _PREFIXES}
            found |= {prefix + name.replace(".", "_"): layer for prefix in _JOINED_PREFIXES}
    return found


def _names(layer: str, in_diffusers: DiffusersName) -> Iterator[str]:
    """All names of a layer, without prefix."""
    yield layer
    yield portable_name(layer).removeprefix(PREFIX).removeprefix("transformer.")
    other = in_diffusers(layer)
    if other is not None:
        yield other
