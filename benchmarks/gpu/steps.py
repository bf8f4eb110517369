"""Seconds, memory and operations of training steps on this machine."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.inside import GIB, card, taken_bytes

COUNTED = 1
"""The step whose operations are counted; the one before it warms up, those after it are timed."""


@dataclass(kw_only=True, slots=True)
class Steps:
    """What the steps of a training took."""

    ends: list[float] = field(default_factory=list)
    """When each step ended, in seconds of the clock."""
    operations: int = 0
    """Floating-point operations of one step, those of checkpointing included."""
    peak_bytes: int = 0
    """Most that tensors took of the card at once."""
    taken_bytes: int = 0
    """Most that the process held of the card at the end of a step."""

    @property
    def seconds(self) -> float:
        """Of a step, the median."""
        return median(later - earlier for earlier, later in pairwise(self.ends[COUNTED:]))

    def row(self, name: str, rate: float, planned_bytes: int | None = None) -> str:
        """A line of the table; `rate` is the card's, in operations a second."""
        share = self.operations / self.seconds / rate
        planned = "" if planned_bytes is None else f"{planned_bytes / GIB:.1f}"
        memory = f"{self.peak_bytes / GIB:.1f} | {self.taken_bytes / GIB:.1f} | {planned}"
        return f"| {name} | {self.seconds:.3f} | {memory} | {self.operations / 1e12:.3g} | {100 * share:.0f} % |"


HEADER = """\
| step | seconds | peak of tensors, GiB | taken of the card, GiB | planned, GiB | TFLOP | share of the card's rate |
|---|---|---|---|---|---|---|"""


@contextmanager
def watched_steps() -> Iterator[Steps]:
    """Watch every optimizer step in this process, whoever makes it."""
    found = Steps()
    counter = FlopCounterMode(display=False)
    _reset_peak()

    def after_step(*_: Any) -> None:
        if card().type == "cuda":
            torch.cuda.synchronize()
        found.ends.append(time.perf_counter())
        found.taken_bytes = max(found.taken_bytes, taken_bytes())
        if len(found.ends) == COUNTED:
            counter.__enter__()
        elif len(found.ends) == COUNTED + 1:
            counter.__exit__(None, None, None)
            found.operations = counter.get_total_flops()

    hook = register_optimizer_step_post_hook(after_step)
    try:
        yield found
    finally:
        hook.remove()
        if len(found.ends) == COUNTED:
            counter.__exit__(None, None, None)
        found.peak_bytes = torch.cuda.max_memory_allocated() if card().type == "cuda" else 0


def _reset_peak() -> None:
    if card().type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def product_rate(size: int = 8192, times: int = 20) -> float:
    """Operations a second of a large bfloat16 matrix product on this machine."""
    left, right = (torch.randn(size, size, device=card(), dtype=torch.bfloat16) for _ in range(2))

    def seconds() -> float:
        begun = time.perf_counter()
        for _ in range(times):
            torch.mm(left, right)
        if card().type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    seconds()
    return 2 * size**3 * times / seconds()


def hottest_kernels(run: Callable[[], object], lines: int = 25) -> str:
    """The kernels that `run` spends its time in, by PyTorch's profiler."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if card().type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        run()
    by = "self_cuda_time_total" if card().type == "cuda" else "self_cpu_time_total"
    return profile.key_averages().table(sort_by=by, row_limit=lines, max_name_column_width=70)
