"""A training step on fake tensors: count its bytes and operations without needing its memory or time.

The network runs with two blocks of each kind, which show the cost of one block, on tensors that have shapes, types and
lifetimes but no values. Every storage is counted from the operation that makes it to its release.

Shape letters: B batch, C latent channels, F latent frames, H, W latent height and width, N tokens, D text width.
"""

# PyTorch leaves some types of the functions used here open, and has no public way to replace modules and weights.
# pyright: reportPrivateUsage=false, reportUnknownParameterType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import sys
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count
from torch.utils.hooks import RemovableHandle

from ..backbone import Backbone, Savings
from ..flow import flow_loss, interpolate, target_velocity
from ..lora import TrainableConcept, trainable_concept
from ..prompts import Condition
from .savings import block_lists

BLOCKS_RUN = 2
"""Blocks of each kind that run. The cost of a kind is counted at its last block."""
ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
"""Two operations that are missing from PyTorch's own table of operation counts."""
CACHED = type(lru_cache(len))
"""Type of functions that cache their results."""
READ_NUMBER = torch.ops.aten._local_scalar_dense.default
"""Operation that reads a number, such as how many tokens a mask leaves. Fake tensors hold none, so it returns 1."""
PLACES = torch.ops.aten.nonzero.default
"""Operation that finds places, such as that of the current time among the sampler's times. It returns one place."""


@dataclass(kw_only=True, slots=True)
class BlockCost:
    """Cost of one block of a kind."""

    run: int
    """Blocks of the kind that ran."""
    kept: int = 0
    """Bytes that the block keeps from its forward to its backward pass."""
    forward: int = 0
    """Floating-point operations of its forward pass."""
    backward: int = 0
    """Floating-point operations of its backward pass, including a repeated forward pass."""


@dataclass(kw_only=True, slots=True, frozen=True)
class StepCost:
    """Cost of a step with at most `BLOCKS_RUN` blocks of each kind."""

    factors: int
    """Bytes of the step's own factors: coefficients after dropout, and dropout masks."""
    inputs: int
    """Sum of the adapted layers' input features, to which the factors are proportional."""
    peak: int
    """Peak bytes, with the factors, but without the model, the concept and the optimizer."""
    forward: int
    """Floating-point operations of the forward pass."""
    operations: int
    """Floating-point operations of the step."""
    blocks: Mapping[str, BlockCost]
    """Cost of one block by the path of its list of blocks."""


def fake_step(
    backbone: Backbone,
    stage: str,
    shape_BCFHW: tuple[int, ...],
    rank: int,
    text: Condition,
    savings: Savings,
) -> StepCost:
    """Count one step of a stage on fake tensors; the real model is not loaded, run or changed.

    Args:
        stage: "set" or "sequence".
        shape_BCFHW: shape of the step's latents.
        text: any prompt, for its number of tokens.
        savings: whether all blocks are recomputed, and where their inputs wait; the rest is ignored.
    """
    with _shortened(backbone) as layers, backbone.running(shape_BCFHW, savings, load=False):
        concept_of = trainable_concept(backbone.module, layers, rank=rank, seed=0, device=backbone.device)
        with concept_of as concept:
            concept.begin_set_stage(0.5)
            if stage == "sequence":
                concept.begin_sequence_stage(0.5)
            with FakeTensorMode(allow_non_fake_inputs=True), _faked(backbone.module, backbone.device):
                return _counted_step(backbone, concept, shape_BCFHW, text, layers)


def _counted_step(
    backbone: Backbone,
    concept: TrainableConcept,
    shape: tuple[int, ...],
    text: Condition,
    layers: Mapping[str, str],
) -> StepCost:
    device = backbone.device
    tokens_ND = torch.empty(text.tokens_ND.shape, dtype=text.tokens_ND.dtype, device=device)
    texts = [text.with_tokens(tokens_ND)] * shape[0]
    x_0 = torch.empty(shape, device=device)
    ledger = Ledger()
    for value in (*backbone.module.parameters(), *backbone.module.buffers(), tokens_ND, x_0):
        ledger.ignore(value)
    with ledger, backbone.step(), concept.dropped_out():
        factors = ledger.bytes
        with _watched(block_lists(backbone.module, layers), ledger) as blocks:
            noise = torch.randn_like(x_0)
            time_B = torch.rand(shape[0], device=device)
            velocity = backbone.velocity(interpolate(x_0, noise, time_B), time_B, texts)
            forward = ledger.operations
            flow_loss(velocity, target_velocity(x_0, noise)).backward()
    adapted: list[Any] = [backbone.module.get_submodule(path) for path in layers.values()]
    return StepCost(
        factors=factors,
        inputs=sum(layer.in_features for layer in adapted),
        peak=ledger.peak,
        forward=forward,
        operations=ledger.operations,
        blocks=blocks,
    )


class Ledger(TorchDispatchMode):
    """Counts the bytes of all storages from creation to release, and floating-point operations."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = self.operations = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> object:
        """Run the operation and count its floating-point operations and new storages."""
        if func is READ_NUMBER:
            return 1
        if func is PLACES:
            return torch.zeros(1, args[0].ndim, dtype=torch.long, device=args[0].device)
        found = func(*args, **(kwargs or {}))
        self.operations += _operations(func, args, kwargs or {}, found)
        tree_map_only(Tensor, self._see, found)
        return found

    def ignore(self, tensor: Tensor) -> None:
        """Never count this tensor, because it existed before the step."""
        self._known.add(id(tensor.untyped_storage()))

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if id(storage) in self._known:
            return
        size = storage.nbytes()
        self._known.add(id(storage))
        weakref.finalize(storage, self._release, id(storage), size)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size


def _operations(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], found: Any) -> int:
    packet = func._overloadpacket
    if packet is ATTENTION:
        return sdpa_flop_count(*(tensor.shape for tensor in args[:3]))
    if packet is ATTENTION_BACKWARD:
        return sdpa_backward_flop_count(*(tensor.shape for tensor in args[:4]))
    count: Any = flop_registry.get(packet)
    return count(*args, **kwargs, out_val=found) if count else 0


@contextmanager
def _shortened(backbone: Backbone) -> Generator[dict[str, str]]:
    """Shorten each list of blocks to `BLOCKS_RUN` blocks; yields the remaining layers."""
    lists = block_lists(backbone.module, backbone.layers)
    before = {name: dict(blocks._modules) for name, blocks in lists.items()}
    try:
        for name, blocks in lists.items():
            for key in list(before[name])[BLOCKS_RUN:]:
                del blocks._modules[key]
        left = {path for path, _ in backbone.module.named_modules()}
        yield {name: path for name, path in backbone.layers.items() if path in left}
    finally:
        for name, blocks in lists.items():
            blocks._modules.update(before[name])


@contextmanager
def _faked(module: nn.Module, device: torch.device) -> Generator[None]:
    """Replace all weights by fake tensors of the same shapes and types; use it in a `FakeTensorMode`."""
    parts = list(module.modules())
    before: list[tuple[dict[str, Any], str, Tensor]] = []
    for part in parts:
        held: dict[str, Any]
        for held in (part._parameters, part._buffers):
            before += [(held, name, value) for name, value in held.items() if value is not None]
    try:
        for held, name, value in before:
            fake = torch.empty(value.shape, dtype=value.dtype, device=device)
            held[name] = nn.Parameter(fake, value.requires_grad) if isinstance(value, nn.Parameter) else fake
        for part in parts:
            part.__dict__["_apply"] = _staying(part)
        yield
    finally:
        for part in parts:
            part.__dict__.pop("_apply", None)
        _forget_cached(parts)
        for held, name, value in before:
            held[name] = value


def _forget_cached(parts: Sequence[nn.Module]) -> None:
    """Empty the caches of functions in the modules' source files, because their cached tensors are fake."""
    for name in {type(part).__module__ for part in parts}:
        for value in vars(sys.modules[name]).values():
            if isinstance(value, CACHED):
                value.cache_clear()


def _staying(part: nn.Module) -> Callable[..., nn.Module]:
    """An `_apply` that moves nothing: PyTorch cannot move fake weights, and some networks call `to` while they run."""
    return lambda *_args, **_kwargs: part


@contextmanager
def _watched(lists: Mapping[str, nn.ModuleList | nn.ModuleDict], ledger: Ledger) -> Generator[dict[str, BlockCost]]:
    """Record the memory and operations of the last block of each list."""
    found: dict[str, BlockCost] = {}
    with ExitStack() as hooks:
        for name, blocks in lists.items():
            found[name] = BlockCost(run=len(blocks))
            for handle in _watch(list(blocks.children())[-1], found[name], ledger):
                hooks.callback(handle.remove)
        yield found


def _watch(block: nn.Module, cost: BlockCost, ledger: Ledger) -> list[RemovableHandle]:
    """Hooks that fill `cost`; if a block runs again in the backward pass, its first forward pass counts."""
    at = {"runs": 0, "bytes": 0, "operations": 0, "backward": 0}

    def before(_block: nn.Module, _inputs: object) -> None:
        at.update(runs=at["runs"] + 1, bytes=ledger.bytes, operations=ledger.operations)

    def after(_block: nn.Module, inputs: Any, output: Any) -> None:
        if at["runs"] > 1:
            return
        cost.kept = ledger.bytes - at["bytes"]
        cost.forward = ledger.operations - at["operations"]
        for tensor, hook in ((_first(output), begins), (_first(inputs), ends)):
            if tensor is not None and tensor.requires_grad:
                tensor.register_hook(hook)

    def begins(_: Tensor) -> None:
        at["backward"] = ledger.operations

    def ends(_: Tensor) -> None:
        cost.backward = ledger.operations - at["backward"]

    return [block.register_forward_pre_hook(before), block.register_forward_hook(after)]


def _first(value: Any) -> Tensor | None:
    """The first tensor of a block's inputs or outputs: its tokens."""
    if isinstance(value, Tensor):
        return value
    values = value if isinstance(value, list | tuple) else ()
    return next((found for part in values if (found := _first(part)) is not None), None)
