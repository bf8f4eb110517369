"""Labels of base models for LoRA managers, spelled as Civitai spells them."""

import re

from ..concept import WHOLE_RANGE, ConceptInfo, noise_range

PIXELS_OF_480P = 480 * 832
"""Pixels of a frame; a concept trained on larger ones gets the label of the 720p image-to-video model."""

_WAN_BY_WIDTH = {1536: "Wan Video 1.3B t2v", 3072: "Wan Video 2.2 TI2V-5B", 5120: "Wan Video 14B t2v"}


def base_label(info: ConceptInfo) -> str:
    """Civitai's label of the base model, such as "Wan Video 14B t2v", or the base's own name if there is none."""
    by_shapes = _wan_label(info) if info.base.family == "wan" else ""
    return str(info.training.get("base_label", "")) or by_shapes or info.base_name


def _wan_label(info: ConceptInfo) -> str:
    label = _WAN_BY_WIDTH.get(_width(info), "")
    if label != _WAN_BY_WIDTH[5120]:
        return label
    from_image = "image-to-video" in info.base_name or "I2V" in info.base_name
    if any(".k_img" in layer for layer in info.base.layers):  # only Wan 2.1 attends to the first picture
        return f"Wan Video 14B i2v {'720p' if _pixels(info) > PIXELS_OF_480P else '480p'}"
    if from_image or _is_expert(info):
        return f"Wan Video 2.2 {'I2V' if from_image else 'T2V'}-A14B"
    return label


def _width(info: ConceptInfo) -> int:
    """Width of the transformer, from the input of its attention."""
    return next((shape[1] for layer, shape in info.base.layers.items() if layer.endswith("self_attn.q")), 0)


def _is_expert(info: ConceptInfo) -> bool:
    """Whether the concept was trained on only part of the noise levels, as for the experts of Wan 2.2 14B."""
    return noise_range(info) != WHOLE_RANGE


def _pixels(info: ConceptInfo) -> int:
    sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", str(info.training.get("resolution", "")))
    return int(sides[1]) * int(sides[2]) if sides else 0
