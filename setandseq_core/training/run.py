"""Training runs that lose nothing: seeded steps, saved state, resume, progress and a clean stop.

A stage's state is one file named by a hash of everything that went into it. The same content goes on where it
stopped, or is not trained again; any other content starts anew.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..concept import EMBEDDINGS
from ..config import MethodConfig, StageConfig
from ..errors import SetAndSequenceError
from .checkpoint import load_training, save_training

SAVE_SECONDS = 20.0
"""How much work a crash can cost at most, as long as saving is quick."""
SAVE_SHARE = 0.02
"""Share of the time that saving may take."""


class StopTraining(Exception):
    """Raised by a progress callback to stop and keep what was learned so far."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Progress:
    """Where a stage stands after a step."""

    stage: str
    step: int
    """Steps done, 1 to `steps`."""
    steps: int
    loss: float
    seconds_left: float
    """Of this stage, from its own pace so far."""


ProgressCallback = Callable[[Progress], None]


def content_key(*parts: Tensor | Mapping | str | int) -> str:
    """A hash of tensors (by their bytes and shape) and plain values, 32 hex digits."""
    digest = blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, Tensor):
            tensor = part.detach().cpu().contiguous()
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
        digest.update(b"|")
    return digest.hexdigest()


@dataclass(kw_only=True, slots=True)
class StageRun:
    """One stage in training: iterate over `steps()` and give each step's loss to `learn`."""

    stage: str
    key: str
    parameters: dict[str, nn.Parameter]
    config: StageConfig
    method: MethodConfig
    folder: Path | None = None
    """Where the state is kept; None keeps none."""
    progress: ProgressCallback | None = None
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    date: str = ""
    """When its last step was done, ISO 8601 in UTC."""
    stopped: bool = False
    """Whether the progress callback ended it with StopTraining."""
    _optimizer: torch.optim.AdamW = field(init=False)
    _in_step: bool = field(init=False, default=False)
    """Whether parameters and optimizer are between two steps; such a state is never saved."""

    def __post_init__(self) -> None:
        matrices = [value for name, value in self.parameters.items() if name not in EMBEDDINGS]
        tokens = [value for name, value in self.parameters.items() if name in EMBEDDINGS]
        groups: list[dict[str, Any]] = [{"params": matrices}] if matrices else []
        groups += [{"params": tokens, "lr": self.method.token_learning_rate, "weight_decay": 0.0}] if tokens else []
        self._optimizer = torch.optim.AdamW(
            groups,
            lr=self.config.learning_rate,
            betas=self.method.betas,
            weight_decay=self.method.weight_decay,
        )

    def steps(self) -> Iterator[int]:
        """The steps that are left to do, each with the random generator seeded by its number.

        Saves the state now and then, at the end, and when the caller's loop is left early. Ends on StopTraining.
        """
        self._resume()
        first, begun, next_save = len(self.losses), time.monotonic(), time.monotonic() + SAVE_SECONDS
        before = self.seconds
        try:
            for step in range(first, self.config.steps):
                torch.manual_seed(self.method.seed * 1_000_003 + step)
                yield step
                self.seconds = before + time.monotonic() - begun
                if (now := time.monotonic()) > next_save:
                    self.save()
                    next_save = time.monotonic() + max(SAVE_SECONDS, (time.monotonic() - now) / SAVE_SHARE)
                self._report(time.monotonic() - begun, len(self.losses) - first)
        except StopTraining:
            self.stopped = True
        finally:
            if len(self.losses) > first and not self._in_step:
                self.save()

    def learn(self, loss: Tensor) -> None:
        """One optimizer step down the loss's gradient."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), self.method.gradient_clipping)
        self._in_step = True
        self._optimizer.step()
        self.losses.append(loss.item())
        self.date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._in_step = False

    def save(self) -> None:
        """Write the state, if it has a folder; what is finished needs no optimizer any more."""
        if self.folder is None:
            return
        record = {"losses": json.dumps(self.losses), "seconds": str(self.seconds), "date": self.date}
        optimizer = self._optimizer if len(self.losses) < self.config.steps else None
        save_training(self._path, self.parameters, optimizer, record)

    @property
    def _path(self) -> Path:
        assert self.folder is not None
        return self.folder / f"{self.stage}_{self.key}.safetensors"

    def _resume(self) -> None:
        if self.folder is None or not self._path.exists():
            return
        try:
            record = load_training(self._path, self.parameters, self._optimizer)
            self.losses[:] = json.loads(record["losses"])
            self.seconds = float(record["seconds"])
            self.date = record["date"]
        except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise SetAndSequenceError(
                f"The unfinished training in {self._path} cannot be read: {error}.",
                hint="Delete that file to train anew.",
            ) from error

    def _report(self, elapsed: float, done: int) -> None:
        if self.progress is None:
            return
        left = (self.config.steps - len(self.losses)) * elapsed / done
        step = Progress(
            stage=self.stage,
            step=len(self.losses),
            steps=self.config.steps,
            loss=self.losses[-1],
            seconds_left=left,
        )
        self.progress(step)
