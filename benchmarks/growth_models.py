"""The operations of Wan's true sizes, counted on tensors without memory."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor

from setandseq_core.backbones.wan import WAN_TEXT, WanBackbone
from setandseq_core.config import PAPER
from setandseq_core.training.plan import plan_stage

WIDTH_OF_TEXT = 4096
SIZE = (480, 832)
COUNTED_FRAMES = (1, 17, 33, 81)
"""One more than a fit of tokens and their square needs, so that it shows how well the fit holds."""
CLIP_FRAMES = 33
"""Number of frames in the clip that the table on paper describes."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Shape:
    """A released Wan."""

    name: str
    heads: int
    feed_forward: int
    blocks: int


SHAPES = (
    Shape(name="Wan 1.3B", heads=12, feed_forward=8960, blocks=30),
    Shape(name="Wan 14B", heads=40, feed_forward=13824, blocks=40),
)


def without_memory(shape: Shape) -> WanBackbone:
    """The model in bfloat16, its weights without memory."""
    with torch.device("meta"):
        transformer = WanTransformer3DModel(
            num_attention_heads=shape.heads, ffn_dim=shape.feed_forward, num_layers=shape.blocks
        )
    for weight in transformer.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    return WanBackbone(transformer, AutoencoderKLWan(base_dim=4), _text, shape.name)


def _text(_: str) -> Tensor:
    return torch.zeros(WAN_TEXT.places, WIDTH_OF_TEXT)


def counted(shape: Shape) -> dict[str, Any]:
    """Tokens and operations of a sample at several lengths, and sizes in bytes."""
    backbone = without_memory(shape)
    text = backbone.encode_prompt("")
    sequence = {frames: plan_stage(backbone, "sequence", (frames, *SIZE), PAPER, text) for frames in COUNTED_FRAMES}
    still = plan_stage(backbone, "set", (CLIP_FRAMES, *SIZE), PAPER, text)
    sizes = [backbone.module.get_parameter(f"{path}.weight").shape for path in backbone.layers.values()]
    inputs = PAPER.rank * sum(width for _, width in sizes)
    outputs = PAPER.rank * sum(width for width, _ in sizes)
    return {
        "name": shape.name,
        "blocks": shape.blocks,
        "weights": still.weights,
        "lengths": [
            {"frames": frames, "tokens": plan.tokens, "operations": plan.recomputing.operations(1)}
            for frames, plan in sequence.items()
        ],
        "set": {"operations": still.recomputing.operations(1), "trained": inputs + outputs},
        "sequence": {"operations": sequence[CLIP_FRAMES].recomputing.operations(1), "trained": inputs},
        "forward": sequence[CLIP_FRAMES].keeping.forward(),
    }


def counted_models() -> list[dict[str, Any]]:
    """Both models."""
    return [counted(shape) for shape in SHAPES]
