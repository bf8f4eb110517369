"""Memory that a block of ComfyUI's Wan keeps for its backward pass, alone and with a concept in training."""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from setandseq_core.lora import trainable_concept

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
WIDTH = 384
"""A quarter of Wan 2.1 1.3B's, because many processors compute slowly in bfloat16; the rank is a quarter, too."""
RANK = 8
TOKENS = 640


@pytest.fixture
def block(comfyui: ModuleType, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A frozen block like those of Wan 2.1 1.3B with random weights, in bfloat16."""
    monkeypatch.setattr(import_module("comfy.model_management"), "in_training", True)
    settings = {"operations": import_module("comfy.ops").disable_weight_init, "device": "cpu", "dtype": torch.bfloat16}
    make: Any = import_module("comfy.ldm.wan.model").WanAttentionBlock
    made = make("t2v_cross_attn", WIDTH, 2240, 3, cross_attn_norm=True, operation_settings=settings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in made.parameters():
            weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))
    return made.requires_grad_(False)


@pytest.fixture
def kept(comfyui: ModuleType) -> Callable[[nn.Module], int]:
    """Counts the bytes that a block keeps between forward and backward, each storage once and without weights."""
    attention: Any = import_module("comfy.ldm.modules.attention").attention_pytorch
    positions: Any = import_module("comfy.ldm.flux.layers").EmbedND(dim=128, theta=10000.0, axes_dim=[44, 42, 42])
    generator = torch.Generator().manual_seed(1)
    places = torch.arange(TOKENS).float().view(1, TOKENS, 1).expand(1, TOKENS, 3)
    x, text, times = (torch.randn(1, count, WIDTH, generator=generator).bfloat16() for count in (TOKENS, 64, 6))
    others = (times, positions(places).movedim(1, 2), text)
    options = {"optimized_attention_override": lambda _, *args, **kwargs: attention(*args, **kwargs)}

    def count(module: nn.Module) -> int:
        known = {value.untyped_storage().data_ptr() for value in (*module.parameters(), *others)}
        found: dict[int, int] = {}

        def pack(value: Tensor) -> Tensor:
            storage = value.untyped_storage()
            if storage.data_ptr() not in known:
                found[storage.data_ptr()] = storage.nbytes()
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            answer = module(x.clone().requires_grad_(), *others, transformer_options=options)
        answer.float().square().mean().backward()
        return sum(found.values())

    return count


def test_a_concept_in_training_keeps_at_most_a_quarter_more(block: nn.Module, kept: Callable[[nn.Module], int]) -> None:
    alone = kept(block)
    layers = {name: name for name, layer in block.named_modules() if isinstance(layer, nn.Linear)}
    with trainable_concept(block, layers, rank=RANK, seed=0) as concept:
        for begin in (concept.begin_set_stage, concept.begin_sequence_stage):
            parameters = begin(0.5)
            with concept.dropped_out():
                assert kept(block) <= 1.25 * alone
            assert all(value.dtype == torch.float32 for value in parameters.values())
            assert all(value.grad is not None and value.grad.dtype == torch.float32 for value in parameters.values())
