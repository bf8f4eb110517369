"""Checks on a GPU: training resumes, Cancel and running out of memory lose nothing, and the MODEL stays unchanged."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.gpu.inside import card, start, total_bytes
from benchmarks.gpu.ours import Training
from benchmarks.gpu.wan import SMALL_CLIP, SMALL_SHAPES, load_model, random_weights

STEPS = 4
AT = 2
CLOSE = 0.02
"""Largest relative difference of losses: a GPU's kernels do not always add up in the same order."""


def state_of(model: Any) -> tuple[str, list[str]]:
    """A hash of all weights of a MODEL, and the layers whose forward is replaced, with the replacements."""
    digest = blake2b(digest_size=16)
    layers = []
    for name, part in model.model.diffusion_model.named_modules():
        layers.append(f"{name} {type(part).__name__} {sorted(vars(part).keys() & {'forward', 'parametrizations'})}")
        for value in part._parameters.values():
            if value is not None:
                held = getattr(value, "_qdata", value).detach().cpu().contiguous()
                digest.update(held.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest(), layers


def same_model_afterwards(training: Training) -> str:
    """Check that both stages leave the MODEL as it was."""
    before = state_of(training.model)
    for stage in ("set", "sequence"):
        training.run(stage, steps=1)
    _need(state_of(training.model) == before, "The MODEL is another one after training.")
    return "the MODEL's weights and layers are the same after both stages"


def resumes(training: Training) -> str:
    """Check that a stopped training resumes where it was, with the same losses."""
    stop: Any = training.pack("setandseq_core.training.progress").StopTraining

    def stop_at(progress: Any) -> None:
        if progress.step == AT:
            raise stop

    whole = training.run("set", steps=STEPS).record["losses"]
    with TemporaryDirectory() as folder:
        half = training.run("set", steps=STEPS, folder=Path(folder), progress=stop_at)
        rest = training.run("set", steps=STEPS, folder=Path(folder)).record["losses"]
    _need(not half.finished and len(half.record["losses"]) == AT, "The training did not stop where it should.")
    _need(rest[:AT] == half.record["losses"], "The resumed training forgot its first steps.")
    far = max(abs(one - other) / other for one, other in zip(rest, whole, strict=True))
    _need(far < CLOSE, f"A resumed training's losses are {far:.1%} from those of one in one go.")
    return f"a stopped training resumes; its losses are within {far:.2%} of those of one in one go"


def is_cancelled(training: Training) -> str:
    """Check that Cancel ends a training within a step and leaves nothing behind."""
    memory = import_module("comfy.model_management")
    before = state_of(training.model)

    def cancel(progress: Any) -> None:
        if progress.step == AT:
            memory.interrupt_current_processing(True)

    try:
        training.run("sequence", steps=STEPS, progress=cancel)
    except memory.InterruptProcessingException:
        pass
    else:
        raise AssertionError("Cancel did not end the training.")
    finally:
        memory.interrupt_current_processing(False)
    _need(state_of(training.model) == before, "The MODEL is another one after Cancel.")
    training.run("sequence", steps=1)
    return "Cancel ends a training in the same step, the MODEL is the same and trains again"


@contextmanager
def _too_little_memory() -> Iterator[None]:
    """Leave the process hardly more of the card's memory than it holds now."""
    gc.collect()
    torch.cuda.empty_cache()
    fraction = torch.cuda.get_per_process_memory_fraction()
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / total_bytes() + 0.0005)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(fraction)


def survives_too_little_memory(training: Training) -> str:
    """Check that running out of memory leads to a message or a smaller step, never to a broken MODEL or a leak."""
    if card().type == "cpu":
        return "out of memory: not tried, there is no card"
    before = state_of(training.model)
    held = _held_after(lambda: training.run("sequence", steps=1))
    said = "the step was made smaller"
    with _too_little_memory():
        try:
            training.run("sequence", steps=1)
        except (torch.OutOfMemoryError, training.pack("setandseq_core.errors").SetAndSequenceError) as error:
            said = str(error).splitlines()[0][:120]
    _need(state_of(training.model) == before, "The MODEL is another one after running out of memory.")
    lost = _held_after(lambda: training.run("sequence", steps=1)) - held
    _need(lost < 2**26, f"{lost / 2**20:.0f} MiB are lost after running out of memory.")
    return f"out of memory ({said}): nothing is lost, and the MODEL trains again"


def _held_after(run: Callable[[], object]) -> int:
    run()
    gc.collect()
    return torch.cuda.memory_allocated()


def _need(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


CHECKS: dict[str, Callable[[Training], str]] = {
    "same": same_model_afterwards,
    "resume": resumes,
    "cancel": is_cancelled,
    "memory": survives_too_little_memory,
}


@cache
def _training(dynamic_vram: bool) -> Training:
    """A training of two blocks of a small Wan on a small clip, in ComfyUI in this process."""
    pack = start(dynamic_vram=dynamic_vram)
    model = load_model(random_weights(SMALL_SHAPES["14B"]))
    return Training(pack=pack, model=model, clip=SMALL_CLIP, rank=4)


def check_here(name: str, dynamic_vram: bool) -> str:
    """Run one of the checks on a small model, in ComfyUI in this process, which must not have loaded ComfyUI yet."""
    return CHECKS[name](_training(dynamic_vram))
