"""Ways to train in less memory without changing the result: recompute blocks, and move tensors to main memory."""

# PyTorch leaves some types of the functions used here open.
# pyright: reportUnknownVariableType=false

import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from ..backbone import Savings

Again = Callable[..., Any]
"""Runs a function with arguments now, and again in the backward pass."""
EVERY_BLOCK = 10_000
"""A number larger than the number of blocks in any network."""
SMALLEST_MOVED = 2**20
"""Smallest tensor, in bytes, that is worth moving to main memory and back."""
FREE_SHARE = 0.9
"""Fraction of the free main memory that training may use."""


def block_lists(module: nn.Module, layers: Mapping[str, str]) -> dict[str, nn.ModuleList | nn.ModuleDict]:
    """A network's lists of blocks by path: the outermost module lists that hold the adapted layers."""
    found: dict[str, nn.ModuleList | nn.ModuleDict] = {}
    for path in layers.values():
        parts = path.split(".")
        for end in range(1, len(parts)):
            name = ".".join(parts[:end])
            at = module.get_submodule(name)
            if isinstance(at, nn.ModuleList | nn.ModuleDict):
                found[name] = at
                break
    return found


@contextmanager
def recomputed(blocks: Iterable[nn.Module], savings: Savings, again: Again | None = None) -> Generator[None]:
    """Let the first `savings.recomputed` blocks keep only their inputs and run again in the backward pass.

    Args:
        again: a function that runs a block twice; None for PyTorch's own checkpointing.
    """
    found = list(blocks)
    twice: Again = again or partial(checkpoint, use_reentrant=False)
    for index, block in enumerate(found):
        block.forward = partial(_run, block.forward, index, savings, twice)
    try:
        yield
    finally:
        for block in found:
            del block.forward


def _run(forward: Callable[..., Any], index: int, savings: Savings, twice: Again, *args: Any, **kwargs: Any) -> Any:
    if index >= savings.recomputed or not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return twice(forward, *args, **kwargs)


def save_more(savings: Savings, batch: int, device: torch.device) -> bool:
    """Change `savings` in place to use less memory; return False if nothing is left to save.

    First take fewer samples at once, then recompute all blocks, then move their inputs to main memory.
    """
    samples = savings.samples_at_once or batch
    if samples > 1:
        savings.samples_at_once = -(-samples // 2)
    elif savings.recomputed < EVERY_BLOCK:
        savings.recomputed = EVERY_BLOCK
    elif not savings.in_main_memory and device.type != "cpu":
        savings.in_main_memory = True
    else:
        return False
    return True


def in_words(savings: Savings) -> str:
    """The savings in words, such as "with checkpointing, 2 samples at a time"; "" if there are none."""
    parts: list[str] = []
    if savings.recomputed:
        parts.append("with checkpointing")
    if savings.in_main_memory:
        parts.append("checkpoints in main memory")
    if savings.samples_at_once:
        count = savings.samples_at_once
        parts.append(f"{count} sample{'s' if count > 1 else ''} at a time")
    return ", ".join(parts)


def waiting(savings: Savings) -> AbstractContextManager[object]:
    """A context around a step's forward pass: if the savings say so, the inputs of blocks wait in main memory.

    Tensors that need no gradient, such as the text, are the same for all blocks and stay on the device.
    """
    return saved_tensors_hooks(_moved_out, _moved_back) if savings.in_main_memory else nullcontext()


def _moved_out(tensor: Tensor) -> tuple[Tensor, torch.device | None]:
    if not tensor.requires_grad or tensor.is_leaf or tensor.nbytes < SMALLEST_MOVED:
        return tensor, None
    waiting = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    waiting.copy_(tensor, non_blocking=tensor.is_cuda)
    return waiting, tensor.device


def _moved_back(moved: tuple[Tensor, torch.device | None]) -> Tensor:
    tensor, device = moved
    return tensor if device is None else tensor.to(device, non_blocking=True)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device, or in main memory for the CPU."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + reserved
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return int(FREE_SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return 2**63 - 1
