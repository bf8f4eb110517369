"""Measures seconds, memory and operations of training steps on this machine."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.gpu.inside import GIB, card, taken_bytes

COUNTED = 1
"""Index of the step whose operations are counted; the step before it warms up, and the steps after it are timed."""


@dataclass(kw_only=True, slots=True)
class Steps:
    """Times and operations of a training's steps."""

    ends: list[float] = field(default_factory=list)
    """The time at which each step ended, in seconds on the clock."""
    operations: int = 0
    """Floating-point operations of one step, including those of checkpointing."""
    peak_bytes: int = 0
    """Peak memory of all tensors on the card."""
    taken_bytes: int = 0
    """Most memory of the card that the process held at the end of a step."""

    @property
    def seconds(self) -> float:
        """The median time of a step."""
        return median(later - earlier for earlier, later in pairwise(self.ends[COUNTED:]))

    def row(self, name: str, rate: float, planned_bytes: int | None = None) -> str:
        """A line of the table; `rate` is the card's rate in operations per second."""
        share = self.operations / self.seconds / rate
        planned = "" if planned_bytes is None else f"{planned_bytes / GIB:.1f}"
        memory = f"{self.peak_bytes / GIB:.1f} | {self.taken_bytes / GIB:.1f} | {planned}"
        return f"| {name} | {self.seconds:.3f} | {memory} | {self.operations / 1e12:.3g} | {100 * share:.0f} % |"


HEADER = """\
| step | seconds | peak of tensors, GiB | taken of the card, GiB | planned, GiB | TFLOP | share of the card's rate |
|---|---|---|---|---|---|---|"""


class _Counter(TorchDispatchMode):
    """Counts floating-point operations; PyTorch's own counter also keeps every activation alive."""

    operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.operations += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


@contextmanager
def watched_steps() -> Iterator[Steps]:
    """Measure every optimizer step in this process, whatever code makes it."""
    found = Steps()
    counter = _Counter()
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
            found.operations = counter.operations
            _reset_peak()  # the first steps also create the optimizer's state

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
    """Operations per second of a large bfloat16 matrix product on this machine."""
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


def hottest_kernels(run: Callable[[], object], lines: int = 22) -> str:
    """The time of `run` by kernel on a card, or by PyTorch operation without a card."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if card().type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        run()
    device = torch.autograd.DeviceType.CUDA if card().type == "cuda" else torch.autograd.DeviceType.CPU
    found: list[Any] = [event for event in profile.key_averages() if event.device_type == device]
    times = {event.key: _own_microseconds(event) for event in found}
    calls = {event.key: event.count for event in found}
    hottest = sorted(times, key=lambda name: -times[name])[:lines]
    total = f"{sum(times.values()) / 1e3:.0f} ms in all"
    return "\n".join([total, *(f"{times[name] / 1e3:8.1f} ms {calls[name]:6} x {name[:110]}" for name in hottest)])


def _own_microseconds(event: Any) -> float:
    return event.self_device_time_total if card().type == "cuda" else event.self_cpu_time_total
