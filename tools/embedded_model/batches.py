"""Batches that depend only on the number of their step; on a GPU, other processes make them."""

import os
from collections.abc import Iterator
from typing import Any, TypeVar

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Batch = TypeVar("Batch", bound=tuple[Any, ...])


def batches_from(dataset: Dataset[Batch], first: int, steps: int, device: str) -> Iterator[tuple[int, Batch]]:
    """Step numbers from `first` up to `steps`, each with its batch on the device."""
    workers = max((os.cpu_count() or 1) - 1, 1) if device == "cuda" else 0
    numbers = range(first, steps)
    loader = DataLoader(dataset, batch_size=None, sampler=numbers, num_workers=workers, pin_memory=device == "cuda")
    for step, batch in zip(numbers, loader, strict=True):
        moved = (value.to(device, non_blocking=True) if isinstance(value, Tensor) else value for value in batch)
        yield step, type(batch)(*moved)
