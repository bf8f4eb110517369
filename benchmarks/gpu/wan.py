"""Makes Wan models of the true shapes, with random weights made on the card, as MODEL, CLIP and VAE of a graph."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.inside import card
from setandseq_core.embedded.files import VAE_FILE

TEXT_TOKENS = 512
TEXT_WIDTH = 4096


@dataclass(kw_only=True, slots=True, frozen=True)
class Shape:
    """The sizes of a Wan."""

    name: str
    width: int
    feed_forward: int
    heads: int
    blocks: int
    eight_bits: bool = False
    """Whether the blocks' weights are 8-bit floats, each with a scale, as in the files that fit consumer cards."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Clip:
    """The sizes of a clip in pixels."""

    frames: int
    height: int
    width: int

    def pixels(self) -> Tensor:
        """Random frames (F, H, W, 3) in [0, 1]."""
        return torch.rand(self.frames, self.height, self.width, 3, generator=torch.Generator().manual_seed(1))

    def latents(self) -> Tensor:
        """Random latents (1, C, F, H, W) of a clip of this size."""
        shape = (1, 16, (self.frames - 1) // 4 + 1, self.height // 8, self.width // 8)
        return torch.randn(shape, generator=torch.Generator().manual_seed(1))


SHAPES = {
    "1.3B": Shape(name="Wan 2.1 1.3B, bf16", width=1536, feed_forward=8960, heads=12, blocks=30),
    "14B": Shape(name="Wan 2.1 14B, fp8", width=5120, feed_forward=13824, heads=40, blocks=40, eight_bits=True),
}
SMALL_SHAPES = {
    "1.3B": Shape(name="small Wan, bf16", width=128, feed_forward=256, heads=1, blocks=2),
    "14B": Shape(name="small Wan, fp8", width=256, feed_forward=512, heads=2, blocks=2, eight_bits=True),
}
CLIP = Clip(frames=33, height=480, width=832)
SMALL_CLIP = Clip(frames=5, height=32, width=48)


def random_weights(shape: Shape) -> dict[str, Tensor]:
    """Weights by their native names. They are made on the card and kept in main memory, as if read from a file."""
    generator = torch.Generator(card()).manual_seed(0)
    found = {name: _random(like, shape, name, generator) for name, like in _empty(shape).items()}
    if shape.eight_bits:
        found["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
        scales = {_scale(name): torch.tensor(0.02) for name in found if found[name].dtype == torch.float8_e4m3fn}
        found |= {name: value for name, value in scales.items() if name.startswith("blocks.")}
    return found


def _scale(name: str) -> str:
    return f"{name.removesuffix('weight')}scale_weight"


def _random(like: Tensor, shape: Shape, name: str, generator: torch.Generator) -> Tensor:
    values = torch.randn(like.shape, generator=generator, device=card(), dtype=torch.float32)
    is_matrix = name.startswith("blocks.") and name.endswith(".weight") and like.ndim == 2
    if shape.eight_bits and is_matrix:
        return values.to(torch.float8_e4m3fn).cpu()
    return (0.02 * values).to(torch.bfloat16).cpu()


def _empty(shape: Shape) -> dict[str, Tensor]:
    """The names and shapes of the weights according to ComfyUI's own class, without allocating memory."""
    make: Any = import_module("comfy.ldm.wan.model").WanModel
    operations = import_module("comfy.ops").disable_weight_init
    placement: Any = import_module("comfy.memory_management")
    was_dynamic = placement.aimdo_enabled
    placement.aimdo_enabled = False  # otherwise its layers have no weights yet
    try:
        return make(
            dim=shape.width,
            ffn_dim=shape.feed_forward,
            num_heads=shape.heads,
            num_layers=shape.blocks,
            device="meta",
            dtype=torch.bfloat16,
            operations=operations,
        ).state_dict()
    finally:
        placement.aimdo_enabled = was_dynamic


def load_model(weights: dict[str, Tensor], disable_dynamic: bool = False) -> Any:
    """Load such weights as a MODEL with ComfyUI's own loader."""
    with torch.inference_mode():
        load = import_module("comfy.sd").load_diffusion_model_state_dict
        model = load(dict(weights), disable_dynamic=disable_dynamic)
    model.cached_patcher_init = (load_model, (weights,))  # ComfyUI needs it for deep copies
    return model


def load_vae() -> Any:
    """The embedded model's VAE, which makes latents of Wan's shape."""
    weights = import_module("comfy.utils").load_torch_file(str(VAE_FILE))
    with torch.inference_mode():
        return import_module("comfy.sd").VAE(sd=weights)


class RandomText:
    """A CLIP that encodes every prompt as random tokens of UMT5's size, because UMT5 itself is not available here."""

    def tokenize(self, text: str) -> str:
        """Return the prompt unchanged."""
        return text

    def encode_from_tokens_scheduled(self, text: str) -> list[tuple[Tensor, dict[str, Any]]]:
        """Random tokens (1, 512, 4096), always the same for the same prompt."""
        generator = torch.Generator().manual_seed(sum(text.encode()))
        return [(torch.randn(1, TEXT_TOKENS, TEXT_WIDTH, generator=generator), {})]
