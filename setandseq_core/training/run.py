"""Training runs that lose nothing: seeded steps, saved state, resume, progress and a clean stop.

A stage's state is one file, named by a hash of everything that its steps depend on and by the number of steps asked
for. The same content resumes where it stopped, even for more steps than before; any other content starts afresh.
"""

# PyTorch leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..atomic import remove_leftovers
from ..backbone import Savings
from ..concept import EMBEDDINGS
from ..config import MethodConfig, StageConfig
from ..errors import StorageError, TrainingError
from .checkpoint import load_named, load_training, read_record, save_training
from .memory import is_out_of_memory, shortage
from .processes import ALONE, Processes, add_gradients, any_of, check_same, most_samples, own_samples
from .progress import Progress, ProgressCallback, StopTraining
from .savings import in_words, save_more
from .validation import BEST, Validation

SAVE_SECONDS = 20.0
"""Maximum seconds of work that a crash can lose, as long as saving is quick."""
SAVE_SHARE = 0.02
"""Largest share of the time that saving may take."""
STEP_SEEDS = 1_000_003
"""Distance between the step seeds of two runs, so that no step of one has the random numbers of a step of the other; a
prime above any number of steps."""
LOWERED = 0.5
"""Factor for the learning rate after a loss that is not finite."""


@dataclass(kw_only=True, slots=True)
class StageRun:
    """One stage in training: iterate over `steps()` and give each step's loss to `learn` or `learn_in_parts`."""

    stage: str
    key: str
    parameters: dict[str, nn.Parameter]
    config: StageConfig
    method: MethodConfig
    folder: Path | None = None
    """Folder of the saved state; None saves nothing."""
    progress: ProgressCallback | None = None
    validation: Validation | None = None
    """Validation losses and best state; None skips validation."""
    losses: list[float] = field(default_factory=list[float])
    seconds: float = 0.0
    date: str = ""
    """Time of the last step, ISO 8601 in UTC."""
    stopped: bool = False
    """Whether the progress callback stopped the stage with StopTraining."""
    unsaved: str = ""
    """Reason why the state could not be saved the last time; "" if it was saved."""
    lowered_at: int | None = None
    """The step before which the learning rate was lowered; None if it never was."""
    savings: Savings = field(default_factory=Savings)
    processes: Processes = ALONE
    saved_more: str = ""
    """The changes made when memory ran out, in words; "" if it never did."""
    _optimizer: torch.optim.AdamW = field(init=False)
    _in_step: bool = field(init=False, default=False)
    """Whether a step has changed some parameters but not yet all; such a state is never saved."""
    _start: dict[str, Tensor] = field(init=False)
    """The parameters before the first step, on the CPU."""

    def __post_init__(self) -> None:
        matrices = [value for name, value in self.parameters.items() if name not in EMBEDDINGS]
        tokens = [value for name, value in self.parameters.items() if name in EMBEDDINGS]
        groups: list[dict[str, Any]] = []
        if matrices:
            groups.append({"params": matrices})
        if tokens:
            groups.append({"params": tokens, "lr": self.method.token_learning_rate, "weight_decay": 0.0})
        self._optimizer = torch.optim.AdamW(
            groups,
            lr=self.config.learning_rate,
            betas=self.method.betas,
            weight_decay=self.method.weight_decay,
        )
        self._start = {name: value.detach().to("cpu", copy=True) for name, value in self.parameters.items()}

    def steps(self) -> Iterator[int]:
        """The remaining steps, each with the random generator seeded by its number.

        Saves the state at intervals, at the end, and when the caller leaves its loop early. Ends on StopTraining.
        """
        self._resume()
        check_same(len(self.losses), self.key, self.processes, self._device)
        self._validate()
        first = len(self.losses)
        before = self.seconds
        begun = time.monotonic()
        next_save = begun + SAVE_SECONDS
        try:
            while len(self.losses) < self.config.steps:
                step = len(self.losses)
                torch.manual_seed(self.method.seed * STEP_SEEDS + step)
                yield step
                now = time.monotonic()
                self.seconds = before + now - begun
                if len(self.losses) <= step or not self._validate():  # the loss was not finite, and the run went back
                    first = min(first, len(self.losses))
                    continue
                if now > next_save:
                    self.save()
                    next_save = time.monotonic() + max(SAVE_SECONDS, (time.monotonic() - now) / SAVE_SHARE)
                self._report(time.monotonic() - begun, len(self.losses) - first)
        except StopTraining:
            self.stopped = True
        finally:
            if len(self.losses) > first and not self._in_step:
                self.save()

    def learn(self, loss: Tensor) -> None:
        """Take one optimizer step down the gradient of the loss.

        If the loss or its gradient is not finite, the run takes no step. It returns to its last saved state and
        continues at a lower learning rate, once.

        Raises:
            TrainingError: the loss is not finite again.
        """
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._step(loss.detach())

    def learn_in_parts(self, backward: Callable[[slice], Tensor]) -> None:
        """Like `learn`, but sum the gradient from parts of the step's samples.

        Every part starts from the same random numbers, and each process computes its own parts. If memory runs out,
        the step is repeated with more savings.

        Args:
            backward: runs the forward and backward pass of these samples and returns their share of the loss.
        Raises:
            TrainingError: no savings are left, or the loss is not finite again.
        """
        while True:
            loss, reason = self._gradient(backward)
            if not any_of(bool(reason), self.processes, self._device):
                break
            self._save_more(reason)  # not where the error is caught: it would keep the step's tensors alive
        add_gradients(list(self.parameters.values()), self.processes)
        self._step(*self.processes.sums([loss]))

    def _gradient(self, backward: Callable[[slice], Tensor]) -> tuple[Tensor, str]:
        """Compute the gradient of this process's samples into the parameters.

        Returns:
            Their share of the loss, and "" or how memory ran out.
        """
        own = own_samples(self.config.batch, self.processes)
        at_once = 1 if self.processes.sharded else self.savings.samples_at_once or self.config.batch
        parts = [slice(first, min(first + at_once, own.stop)) for first in range(own.start, own.stop, at_once)]
        none = torch.zeros((), device=self._device)
        try:
            self._ask_along(backward, len(parts))
            self._optimizer.zero_grad(set_to_none=True)
            return torch.stack([self._seeded(backward, part) for part in parts] or [none]).sum(), ""
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if self.processes.sharded:  # retrying would deadlock: the others already wait
                raise self._too_large(shortage(error)) from error
            return none, shortage(error)

    def _ask_along(self, backward: Callable[[slice], Tensor], own: int) -> None:
        """Call a model that is spread over the processes as often as the process with the most samples does.

        It runs only if all processes call it. The gradients of these calls are thrown away.

        Args:
            own: number of calls that this process makes for its own samples.
        """
        if self.processes.sharded:
            for _ in range(most_samples(self.config.batch, self.processes) - own):
                self._seeded(backward, slice(0, 1))

    def _seeded(self, backward: Callable[[slice], Tensor], part: slice) -> Tensor:
        torch.manual_seed(self.method.seed * STEP_SEEDS + len(self.losses))
        return backward(part)

    def _save_more(self, reason: str) -> None:
        """Free memory, and save more in this step and all later ones.

        Raises:
            TrainingError: no savings are left.
        """
        self._optimizer.zero_grad(set_to_none=True)
        device = self._device
        if device.type == "cuda":
            torch.cuda.empty_cache()
        step = len(self.losses) + 1
        if not save_more(self.savings, most_samples(self.config.batch, self.processes), device):
            raise self._too_large(reason)
        self.saved_more = f"Out of memory at step {step}; from there on {in_words(self.savings)}."

    def _too_large(self, reason: str) -> TrainingError:
        step = len(self.losses) + 1
        return TrainingError(
            f"There is not enough memory for step {step} of the {self.stage} stage, one sample at a time "
            f"and with all that saves memory. {reason}",
            hint="Take fewer frames or a smaller size of the clip, or a lower rank.",
        )

    def _step(self, loss: Tensor) -> None:
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.method.gradient_clipping)
        if not (loss.isfinite() and norm.isfinite()):
            self._go_back()
            return
        self._in_step = True
        self._optimizer.step()
        self.losses.append(loss.item())
        self.date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._in_step = False

    def take_best(self) -> int | None:
        """Return to the best validated state if the last one is worse than no training; return its step, or None."""
        validation = self.validation
        if validation is None or not self.losses:
            return None
        validation.check(len(self.losses), self.config.steps, self.parameters, ends=True)
        if not validation.is_worse:
            return None
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(validation.best[name])
        return validation.best_step

    def _validate(self) -> bool:
        """Validate if it is due; if the loss is not finite, go back and return False.

        Raises:
            TrainingError: the loss is not finite again, or is not finite before the first step.
        """
        step = len(self.losses)
        if self.validation is None or self.validation.check(step, self.config.steps, self.parameters):
            return True
        if not step:
            raise TrainingError(
                f"The loss of the {self.stage} stage is not a finite number before the first step.",
                hint="Raise the precision of the model, or load another file of it.",
            )
        self._go_back()
        return False

    def save(self) -> None:
        """Write the state if there is a folder. If writing fails, training continues and `unsaved` says why."""
        if self.folder is None or self.processes.number:
            return
        record = {"losses": json.dumps(self.losses), "seconds": str(self.seconds), "date": self.date}
        if self.lowered_at is not None:
            record["lowered_at"] = str(self.lowered_at)
        kept: dict[str, Tensor] = dict(self.parameters)
        if self.validation is not None:
            record |= self.validation.record()
            kept |= self.validation.tensors(len(self.losses))
        try:
            save_training(self._path(self.folder, self.config.steps), kept, self._optimizer, record)
        except StorageError as error:
            self.unsaved = f"The training state is not saved. {error}"
        else:
            self.unsaved = ""

    @property
    def _device(self) -> torch.device:
        return next(iter(self.parameters.values())).device

    def _path(self, folder: Path, steps: int) -> Path:
        return folder / f"{self.stage}_{self.key}_{steps:06}.safetensors"

    def _resume(self) -> None:
        """Load the most advanced state that has no more steps than asked for."""
        if self.folder is None:
            return
        remove_leftovers(self.folder)  # a stage that is already done writes nothing, which would remove them too
        done: dict[int, Path] = {}
        for path in sorted(self.folder.glob(f"{self.stage}_{self.key}_*.safetensors")):
            with _readable(path):
                steps = len(json.loads(read_record(path)["losses"]))
            if steps <= self.config.steps:
                done[steps] = path
        if done:
            self._load(done[max(done)])

    def _load(self, path: Path) -> None:
        with _readable(path):
            record = load_training(path, self.parameters, self._optimizer)
            if self.validation is not None:
                self.validation.restore(record, load_named(path, BEST), self.parameters)
            self.losses[:] = json.loads(record["losses"])
            self.seconds = float(record["seconds"])
            self.date = record["date"]
        if "lowered_at" in record:
            self._lower(int(record["lowered_at"]))

    def _go_back(self) -> None:
        """Return to the last saved state, or to the start, and lower the learning rate.

        Raises:
            TrainingError: the learning rate was lowered before.
        """
        step = len(self.losses) + 1
        if self.lowered_at is not None:
            raise TrainingError(
                f"The loss of the {self.stage} stage is not a finite number at step {step}, also after the learning "
                f"rate was lowered to {LOWERED * self.config.learning_rate:g}.",
                hint="Lower the learning rate, or raise the precision of the model. The last good state was kept.",
            )
        self._optimizer.zero_grad(set_to_none=True)
        self._optimizer.state.clear()
        self.losses.clear()
        if self.validation is not None:
            self.validation.restore({}, {})
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(self._start[name])
        self._resume()
        self._lower(len(self.losses) + 1)

    def _lower(self, before_step: int) -> None:
        self.lowered_at = before_step
        for group in self._optimizer.param_groups:
            group["lr"] *= LOWERED

    def _report(self, elapsed: float, done: int) -> None:
        """Report the state of the stage.

        Raises:
            StopTraining: the callback raised it in at least one process.
        """
        stops = False
        try:
            if self.progress is not None:
                self.progress(self._standing(elapsed, done))
        except StopTraining:
            stops = True
        if any_of(stops, self.processes, self._device):
            raise StopTraining

    def _standing(self, elapsed: float, done: int) -> Progress:
        return Progress(
            stage=self.stage,
            step=len(self.losses),
            steps=self.config.steps,
            loss=self.losses[-1],
            losses=self.losses,
            seconds_left=(self.config.steps - len(self.losses)) * elapsed / done,
            unsaved=self.unsaved,
            lowered_at=self.lowered_at,
            validation=self.validation,
            saved_more=self.saved_more,
        )


@contextmanager
def _readable(path: Path) -> Generator[None]:
    """Turn any error from reading a damaged state into an error that says what to do."""
    try:
        yield
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise TrainingError(
            f"The unfinished training in {path} cannot be read: {error}.", hint="Delete that file to train anew."
        ) from error
