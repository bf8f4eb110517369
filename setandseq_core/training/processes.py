"""Processes that train one concept together, each with the same parameters and its own part of every step's samples.

`accelerate launch` starts them, and Hugging Face Accelerate connects them. All of them do the same work in the same
order, except that each computes the gradient of its own samples and only the first one writes files.
"""

# Accelerate leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ..config import MethodConfig
from ..errors import BackboneError, TrainingError


class Processes(Protocol):
    """The processes of a training, as seen by one of them."""

    @property
    def number(self) -> int:
        """Number of this process, from 0; the first one writes files."""
        ...

    @property
    def count(self) -> int:
        """Number of processes."""
        ...

    @property
    def sharded(self) -> bool:
        """Whether the model's weights are spread over the processes, all of which must then call it."""
        ...

    def sums(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Each tensor's sum over all processes.

        Raises:
            TrainingError: another process has ended.
        """
        ...


class OneProcess:
    """A process that trains alone."""

    number = 0
    count = 1
    sharded = False

    def sums(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors, unchanged."""
        return list(tensors)


ALONE = OneProcess()


class Launched:
    """The processes that `accelerate launch` started.

    Args:
        device: "cpu" or "cuda"; with "cuda", every process takes its own GPU.
    Raises:
        BackboneError: Accelerate is missing.
    """

    def __init__(self, device: str):
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise BackboneError(
                "Training on several processes needs the package 'accelerate'.",
                hint="Install it with: python -m pip install accelerate",
            ) from error
        self._accelerator = Accelerator(cpu=device == "cpu")
        self.number: int = self._accelerator.process_index
        self.count: int = self._accelerator.num_processes
        self.sharded = os.environ.get("ACCELERATE_USE_FSDP") == "true"

    def sums(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Each tensor's sum over all processes.

        Raises:
            TrainingError: another process has ended.
        """
        try:
            return cast("list[Tensor]", self._accelerator.reduce(list(tensors), reduction="sum"))
        except RuntimeError as error:  # from gloo or NCCL, when the connection breaks
            raise TrainingError(
                f"Process {self.number + 1} of {self.count} lost the others, because one of them has ended.",
                hint="Look for its error above. The same command resumes with the steps that were saved.",
            ) from error


def launched_count() -> int:
    """Number of processes that a launcher started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_samples(batch: int, processes: Processes) -> slice:
    """This process's samples of a step; may be empty if there are fewer samples than processes."""
    first, after = (batch * number // processes.count for number in (processes.number, processes.number + 1))
    return slice(first, after)


def most_samples(batch: int, processes: Processes) -> int:
    """Number of samples of a step in the process that has the most."""
    return -(-batch // processes.count)


def share_of(config: MethodConfig, processes: Processes) -> MethodConfig:
    """The settings with the batch sizes of one process, to plan its needs."""
    set_stage, sequence_stage = config.set_stage, config.sequence_stage
    return replace(
        config,
        set_stage=replace(set_stage, batch=most_samples(set_stage.batch, processes)),
        sequence_stage=replace(sequence_stage, batch=most_samples(sequence_stage.batch, processes)),
    )


def add_gradients(parameters: Sequence[nn.Parameter], processes: Processes) -> None:
    """Give every process the sum of all gradients. A process without samples adds zeros."""
    if processes.count == 1:
        return
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
    for parameter, gradient in zip(parameters, processes.sums(gradients), strict=True):
        parameter.grad = gradient


def any_of(here: bool, processes: Processes, device: torch.device) -> bool:
    """Whether something is true in at least one process."""
    if processes.count == 1:
        return here
    (found,) = processes.sums([torch.tensor(float(here), device=device)])
    return bool(found)


def of_the_first(value: float, processes: Processes, device: torch.device) -> float:
    """The first process's value, for decisions that must be the same in all processes although each computed its own
    value."""
    if processes.count == 1:
        return value
    mine = value if processes.number == 0 else 0.0
    (found,) = processes.sums([torch.tensor(mine, dtype=torch.float64, device=device)])
    return float(found)


def check_same(step: int, key: str, processes: Processes, device: torch.device) -> None:
    """Check that all processes run the same training and continue from the same step.

    Args:
        key: a hash of everything that the steps depend on, in hex digits.
    Raises:
        TrainingError: the processes differ, for example because each has its own disk.
    """
    if processes.count == 1:
        return
    known = torch.tensor([step, int(key[:8], 16)], dtype=torch.float64, device=device)
    (total,) = processes.sums([known])
    if any_of(not torch.equal(total, processes.count * known), processes, device):
        raise TrainingError(
            "The processes do not go on from the same step of the same training.",
            hint="Give all of them the same files, and a folder for the result on a disk that all of them share.",
        )
