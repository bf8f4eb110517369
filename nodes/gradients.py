"""Contexts for training that let gradients pass through ComfyUI's networks, which are written for sampling."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import ParamSpec, Protocol, TypeVar, cast
from weakref import WeakSet

import comfy.quant_ops
import comfy_kitchen.backends.eager.rope as plain_rope
import torch
from comfy.quant_ops import QuantizedTensor
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

Inputs = ParamSpec("Inputs")
Outputs = TypeVar("Outputs")
Forward = Callable[..., object]
FORCE_CAST = "comfy_force_cast_weights"
"""The attribute of ComfyUI's layers that makes them compute with unpacked weights."""


@contextmanager
def without_inference_tensors(module: nn.Module) -> Iterator[None]:
    """Replace tensors made in inference mode, except quantised ones, by plain tensors on the same memory."""
    before: list[tuple[MutableMapping[str, Tensor | None], str, Tensor]] = []
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            held = cast(MutableMapping[str, Tensor | None], tensors)
            for name, value in held.items():
                if value is not None and type(value) in (nn.Parameter, Tensor) and value.is_inference():
                    before.append((held, name, value))
    try:
        for held, name, value in before:
            plain = torch.empty(0, dtype=value.dtype, device=value.device)
            plain.set_(value.untyped_storage(), value.storage_offset(), value.shape, value.stride())
            held[name] = nn.Parameter(plain, requires_grad=False) if isinstance(value, nn.Parameter) else plain
        yield
    finally:
        for held, name, value in before:
            held[name] = value


@contextmanager
def unquantised(module: nn.Module) -> Iterator[None]:
    """Make layers with quantised weights compute with unpacked weights, which gradients can pass."""
    parts = [part for part in module.modules() if isinstance(getattr(part, "weight", None), QuantizedTensor)]
    before = [getattr(part, FORCE_CAST, False) for part in parts]
    for part in parts:
        setattr(part, FORCE_CAST, True)
    try:
        yield
    finally:
        for part, value in zip(parts, before, strict=True):
            setattr(part, FORCE_CAST, value)


class _PlainKernels:
    """ComfyUI's fused kernels, but with equivalents in plain PyTorch for those that compute rotary positions.

    The fused kernels have no backward pass; the equivalents give the same results.
    """

    def __init__(self, kernels: ModuleType):
        self._kernels = kernels

    def __getattr__(self, name: str) -> object:
        has_twin = "rope" in name and hasattr(plain_rope, name)
        return getattr(plain_rope if has_twin else self._kernels, name)


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Make networks compute rotary positions with PyTorch's own operations."""
    before = comfy.quant_ops.ck
    comfy.quant_ops.ck = _PlainKernels(before)  # networks look it up in every call
    try:
        yield
    finally:
        comfy.quant_ops.ck = before


def run_twice(forward: Callable[Inputs, Outputs], *args: Inputs.args, **kwargs: Inputs.kwargs) -> Outputs:
    """Run a block and keep only its inputs for the backward pass, which runs the block again.

    PyTorch's own checkpointing gives wrong gradients, without an error, if a block writes into its inputs, because it
    keeps the same memory, which is then overwritten. Here, each run gets copies. Use this inside
    `kept_before_writing`, which protects everything else that a block writes into.
    """
    leaves, structure = tree_flatten((args, kwargs))
    answer = _Answer()
    wanted = torch.zeros((), requires_grad=True)  # weights inside the block need a backward pass even if no input does
    outputs = _Recomputed.apply(wanted, forward, structure, answer, *leaves)
    return cast(Outputs, tree_unflatten(list(outputs), answer.structure))


class _Answer:
    """The structure (tuple, dict ...) of the tensors that a block returns."""

    structure: TreeSpec


class _Kept(Protocol):
    """Holds everything that a block keeps for its backward pass; PyTorch creates the object."""

    run: Forward
    structure: TreeSpec
    others: list[object]
    saved_tensors: tuple[Tensor | None, ...]

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _Kept, _: Tensor, run: Forward, structure: TreeSpec, answer: _Answer, *leaves: object
    ) -> tuple[object, ...]:
        ctx.run, ctx.structure = run, structure
        ctx.others = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        ctx.save_for_backward(*(leaf if isinstance(leaf, Tensor) else None for leaf in leaves))
        args, kwargs = tree_unflatten(_copies(leaves), structure)
        outputs, answer.structure = tree_flatten(run(*args, **kwargs))
        return tuple(outputs)

    @staticmethod
    def backward(ctx: _Kept, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        given = [_leaf_like(saved) for saved in ctx.saved_tensors]
        with torch.enable_grad():
            leaves = [other if leaf is None else leaf for leaf, other in zip(given, ctx.others, strict=True)]
            args, kwargs = tree_unflatten(_copies(leaves), ctx.structure)
            outputs, _ = tree_flatten(ctx.run(*args, **kwargs))
        pairs = [pair for pair in zip(outputs, grads, strict=True) if pair[1] is not None and pair[0].requires_grad]
        if pairs:  # all blocks share the factors of a step, so the graph of these is kept
            torch.autograd.backward([out for out, _ in pairs], [grad for _, grad in pairs], retain_graph=True)
        return None, None, None, None, *(None if leaf is None else leaf.grad for leaf in given)


def _copies(leaves: Sequence[object]) -> list[object]:
    return [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]


def _leaf_like(saved: Tensor | None) -> Tensor | None:
    return None if saved is None else saved.detach().requires_grad_(saved.requires_grad)


@contextmanager
def kept_before_writing() -> Iterator[None]:
    """Copy tensors that the backward pass needs just before a network writes into them. Run both passes inside.

    PyTorch's own `allow_mutation_on_saved_tensors` finds such tensors by their addresses. Once they are freed, other
    tensors get the same addresses, so the backward pass sometimes gets the wrong tensor, without an error.
    """
    saved = _SavedByMemory()
    with saved_tensors_hooks(saved.keep, _tensor_of), _CopyBeforeWriting(saved):
        yield


class _Saved:
    """A tensor that the backward pass needs: the original, or a copy once its memory is about to be overwritten."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


def _tensor_of(saved: _Saved) -> Tensor:
    return saved.tensor


class _SavedByMemory:
    def __init__(self) -> None:
        self._originals: dict[int, WeakSet[_Saved]] = {}
        """Saved tensors by the address of their storage, which is unique as long as one of them lives."""

    def keep(self, tensor: Tensor) -> _Saved:
        saved = _Saved(tensor)
        self._originals.setdefault(tensor.untyped_storage()._cdata, WeakSet()).add(saved)
        return saved

    def before_writing(self, tensor: Tensor) -> None:
        copies: dict[tuple[object, ...], Tensor] = {}  # one tensor is often saved by several operations
        for saved in self._originals.pop(tensor.untyped_storage()._cdata, ()):
            original = saved.tensor
            part = (original.dtype, original.storage_offset(), original.shape, original.stride())
            if part not in copies:
                copies[part] = original.clone()
            saved.tensor = copies[part]


class _CopyBeforeWriting(TorchDispatchMode):
    def __init__(self, saved: _SavedByMemory):
        super().__init__()
        self._saved = saved

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        given = kwargs or {}
        for index, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                written = args[index] if index < len(args) else given.get(argument.name)
                for tensor in written if isinstance(written, (list, tuple)) else [written]:
                    if isinstance(tensor, Tensor):
                        self._saved.before_writing(tensor)
        return func(*args, **given)
