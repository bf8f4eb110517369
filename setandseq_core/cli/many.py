"""Run many trainings on Ray workers: each task trains one concept, and a lost task runs again on another worker."""

# Ray leaves the types of the functions used here open.
# pyright: reportMissingTypeStubs=false, reportMissingImports=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false

import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..clips.prior_prompts import SUBJECTS
from ..errors import BackboneError, TrainingError
from ..prompts import two_part_prompt
from .manifest import Entry
from .many_results import FAILED, STARTED, WAITING, Result
from .many_work import Job, finished, make_prior_clip, make_text, prior_kind, train_one, training_folder
from .options import EMBEDDED

RETRIES = 5
"""Maximum restarts of a task after its worker was lost."""
ANSWER_SECONDS = 10.0
"""How long a cluster may take to answer."""
LOOK_SECONDS = 1.0
"""Seconds between two checks of the workers."""


def train_all(
    entries: Sequence[Entry], job: Job, *, address: str | None, workers: int, tell: Callable[[Sequence[Result]], None]
) -> list[Result]:
    """Train all concepts that are not finished yet.

    Args:
        address: address of a Ray cluster; None runs Ray on this machine until all is done.
        workers: number of processes on this machine; each has its own GPU if the model runs on GPUs.
        tell: called with all results at the start and after every change.
    Raises:
        BackboneError: Ray is missing.
        SetAndSequenceError: the model cannot be loaded, or a prompt is too long for it.
    """
    results = {entry.name: finished(entry, job) or Result(name=entry.name) for entry in entries}
    left = [entry for entry in entries if results[entry.name].state == WAITING]
    tell([*results.values()])
    if not left:
        return [*results.values()]
    ray = _started_ray(address, workers)
    try:
        remote = ray.remote(num_cpus=1, num_gpus=_cards(ray, job), max_retries=RETRIES)
        _prepare(ray, remote, left, job)
        running = {remote(train_one).remote(entry, job): entry for entry in left}
        while running:
            ended, _ = ray.wait([*running], timeout=LOOK_SECONDS)
            for task in ended:
                entry = running.pop(task)
                results[entry.name] = _result(ray, task, entry)
            begun = [entry.name for entry in running.values() if training_folder(entry, job).exists()]
            begun = [name for name in begun if results[name].state == WAITING]
            results |= {name: replace(results[name], state=STARTED) for name in begun}
            if ended or begun:
                tell([*results.values()])
    finally:
        ray.shutdown()
    return [*results.values()]


def _prepare(ray: Any, remote: Any, entries: Sequence[Entry], job: Job) -> None:
    """Make what the concepts share: encoded prompts, so that no other worker needs the text encoder, then prior clips.

    Raises:
        SetAndSequenceError: the model cannot be loaded, a prompt is too long for it, or all workers are lost.
    """
    try:
        if job.model.model != EMBEDDED:  # the embedded model encodes text without files
            ray.get(remote(make_text).options(max_calls=1).remote(_prompts(entries), job))
        tasks = [remote(prior_kind).remote(entry, job) for entry in entries]
        kinds = {kind for kind in ray.get(tasks) if kind is not None}
        make = remote(make_prior_clip)
        ray.get([make.remote(kind, number, job) for kind in kinds for number in range(kind.count)])
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise TrainingError(
            f"A worker was lost {RETRIES + 1} times before the first training. {_line(error)}",
            hint="Look for memory that ran out there. --resume goes on with what was made.",
        ) from error


def _prompts(entries: Sequence[Entry]) -> list[str]:
    """All different prompts of the trainings and their prior clips, including the empty prompt."""
    words = [entry.words for entry in entries]
    own = [prompt for each in words for prompt in (each.static_prompt, each.motion_prompt)]
    shared = [two_part_prompt(*parts) for parts in SUBJECTS]
    prior = [prompt for each in shared for prompt in (each.appearance, each.motion)]
    return list(dict.fromkeys(["", *own, *prior]))


def _started_ray(address: str | None, workers: int) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray must not use the network
    try:
        import ray
    except ImportError as error:
        raise BackboneError(
            "Training many concepts needs the package 'ray'.",
            hint="Install it with: python -m pip install ray",
        ) from error
    if address is not None:
        _check_that_it_answers(address)
    checkout = str(Path(__file__).parents[2])
    variables = {"PYTHONPATH": checkout}
    if address is None:  # by default Ray gives a worker one thread
        variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(_threads(workers)))
    ray.init(
        address=address,
        num_cpus=None if address else workers,
        include_dashboard=None if address else False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": variables},
    )
    return ray


def _check_that_it_answers(address: str) -> None:
    """Ask a cluster for a connection, since Ray itself would try for minutes.

    Raises:
        BackboneError: nothing answers.
    """
    host, _, port = address.rpartition("/")[2].rpartition(":")  # of HOST:PORT or ray://HOST:PORT
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise BackboneError(
            f"--address {address}: no Ray cluster answers there ({error}).",
            hint="Give HOST:PORT as 'ray start --head' prints it, or leave --address out to use this machine.",
        ) from error


def _threads(workers: int) -> int:
    return max(1, (os.cpu_count() or 1) // workers)


def _cards(ray: Any, job: Job) -> int:
    """Number of GPUs for each worker: 1 if the model runs on a GPU, else 0.

    Raises:
        BackboneError: a GPU is required, and there is none.
    """
    found = bool(ray.cluster_resources().get("GPU"))
    if job.model.device == "cuda" and not found:
        raise BackboneError(
            "--device cuda: Ray finds no card.",
            hint="Use --device cpu, or start Ray on machines with a card.",
        )
    return int(found and job.model.device != "cpu")


def _result(ray: Any, task: Any, entry: Entry) -> Result:
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        reason = f"{type(error.cause).__name__}: {_line(error.cause)}"
    except ray.exceptions.RayError as error:
        reason = f"Its worker was lost {RETRIES + 1} times. {_line(error)}"
    return Result(name=entry.name, state=FAILED, message=reason)


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]
