"""How a training step grows with frames, resolution, rank, width and processes, and what that means for many cards.

    python -m benchmarks.growth            measures on the CPU and writes everything, in about six minutes
    python -m benchmarks.growth --stored   writes the figure and the tables again, from what was measured before

A random Wan of two blocks trains both stages. Each case differs from the base case in one value and takes turns with
it, so that a busy machine slows down both; the fastest step of each counts. Time is that of the processor, with one
thread; memory is what PyTorch's own profiler counts.
"""

import argparse
import json
import multiprocessing
import os
import platform
import socket
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from benchmarks.growth_models import counted_models
from benchmarks.growth_page import STORED, Record, write_page
from benchmarks.plan import peak_bytes
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.encode import FrameSequence, FrameSet, Material
from setandseq_core.concept import ConceptLayer
from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig
from setandseq_core.embedded.text import encode_prompt
from setandseq_core.train import train_identity, train_motion
from setandseq_core.training.processes import ALONE, Launched, Processes
from setandseq_core.training.progress import Progress

HEAD = 32
BLOCKS = 2
ROUNDS = 4
AXES = {
    "frames": (1, 5, 9, 17, 33, 65, 97),
    "side": (64, 96, 128, 192, 256, 384),
    "rank": (4, 8, 16, 32, 64),
    "width": (64, 128, 256, 512),
}
PROCESSES = (1, 2, 4)


@dataclass(kw_only=True, slots=True, frozen=True)
class Case:
    """Steps of one stage."""

    stage: str
    """"set" or "sequence"."""
    frames: int = 9
    side: int = 128
    """Height and width in pixels."""
    rank: int = 8
    width: int = 128
    """Width of the model."""
    batch: int = 1
    steps: int = 5

    @property
    def config(self) -> MethodConfig:
        """The settings of both stages, without prior clips."""
        return MethodConfig(
            rank=self.rank,
            prior=PriorConfig(share=0.0),
            set_stage=SetConfig(steps=self.steps, batch=self.batch),
            sequence_stage=SequenceConfig(steps=self.steps, batch=self.batch),
        )

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Shape (C, F, H, W) of one sample."""
        return random_wan(self.width).latent_shape(1 if self.stage == "set" else self.frames, self.side, self.side)

    @property
    def tokens(self) -> int:
        """Tokens of one sample."""
        _, num_frames, height, width = self.latent_shape
        return num_frames * height * width // random_wan(self.width).format.patch ** 2


BASE = {stage: Case(stage=stage) for stage in ("set", "sequence")}


@lru_cache
def random_wan(width: int) -> WanBackbone:
    """A Wan of this width with random weights."""
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=width // HEAD, attention_head_dim=HEAD, ffn_dim=4 * width, num_layers=BLOCKS
    )
    return WanBackbone(transformer, AutoencoderKLWan(base_dim=4), encode_prompt, "random")


@lru_cache
def untrained_look(width: int, rank: int) -> dict[str, ConceptLayer]:
    """The look that a sequence stage starts from."""
    case = Case(stage="set", width=width, rank=rank, steps=0)
    return train_identity(random_wan(width), frames_of(case), case.config).layers


def frames_of(case: Case) -> Material[FrameSet]:
    """Two frames of noise."""
    latents_SCFHW = torch.randn(2, *case.latent_shape)
    return Material(clips=[FrameSet(latents_SCFHW=latents_SCFHW, text=random_wan(case.width).encode_prompt("a bee"))])


def train(case: Case, processes: Processes = ALONE) -> float:
    """Train all steps; the seconds that the processor worked on the fastest, which is never the first."""
    backbone = random_wan(case.width)
    times: list[float] = []

    def progress(_: Progress) -> None:
        times.append(time.process_time())  # the clock would count what else the machine does

    if case.stage == "set":
        train_identity(backbone, frames_of(case), case.config, progress=progress, processes=processes)
    else:
        clip = FrameSequence(latents_CFHW=torch.randn(case.latent_shape), text=backbone.encode_prompt("a bee"))
        look = untrained_look(case.width, case.rank)
        train_motion(backbone, look, Material(clips=[clip]), case.config, progress=progress, processes=processes)
    return min(later - earlier for earlier, later in pairwise(times))


@lru_cache
def peak_of(case: Case) -> int:
    """Bytes that two steps take at most, beyond the model."""
    short = replace(case, steps=2)
    if case.stage == "sequence":
        untrained_look(case.width, case.rank)  # is made before the count begins

    def work() -> None:
        train(short)

    return peak_bytes(work)


def compared(axis: str, value: int, base: Case) -> Record:
    """A case beside the base case."""
    case = replace(base, **{axis: value})
    rounds = [(train(case), train(base)) for _ in range(ROUNDS)]
    seconds, base_seconds = (min(times) for times in zip(*rounds, strict=True))
    memory, base_memory = peak_of(case), peak_of(base)
    return {
        "axis": axis,
        "value": value,
        "stage": case.stage,
        "tokens": case.tokens,
        "seconds": seconds,
        "time": seconds / base_seconds,
        "bytes": memory,
        "memory": memory / base_memory,
    }


def cases() -> Iterator[Record]:
    """All cases of one process."""
    for stage, base in BASE.items():
        for axis, values in AXES.items():
            if (stage, axis) != ("set", "frames"):  # it sees single frames, however many there are
                yield from (compared(axis, value, base) for value in values)


# --- processes ------------------------------------------------------------------------------------------------------


def run_process(case: Case, number: int, count: int, port: int, answers: Any) -> None:
    """The work of one of several processes; the last one, which has the most samples, answers."""
    names = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    processes = Launched("cpu")
    seconds = train(case, processes)

    def work() -> None:
        train(replace(case, steps=2), processes)

    memory = peak_bytes(work)
    if number == count - 1:  # see `own_samples`
        answers.put((seconds, memory))


def together(case: Case, count: int) -> tuple[float, int]:
    """Processor seconds of a step and peak bytes, of the process that has the most samples."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.plan"])  # which imports all that takes long
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers = context.SimpleQueue()
    started = [context.Process(target=run_process, args=(case, n, count, port, answers)) for n in range(count)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    if any(process.exitcode for process in started):
        raise SystemExit("A process has failed; its error is above.")
    return answers.get()


def processes() -> Iterator[Record]:
    """Both stages on several processes; the base case is one process."""
    for stage, base in BASE.items():
        case = replace(base, batch=4)
        rounds = [[together(case, count) for count in PROCESSES] for _ in range(ROUNDS)]
        found = [min(times) for times in zip(*rounds, strict=True)]
        for count, (seconds, memory) in zip(PROCESSES, found, strict=True):
            yield {
                "axis": "processes",
                "value": count,
                "stage": stage,
                "tokens": case.tokens,
                "seconds": seconds,
                "time": seconds / found[0][0],
                "bytes": memory,
                "memory": memory / found[0][1],
            }


def measure() -> Record:
    """Everything that the page is made of."""
    warnings.filterwarnings("ignore", category=UserWarning)  # the profiler's, where there is no GPU
    torch.set_num_threads(1)
    models = counted_models()
    found: list[Record] = []
    for record in chain(cases(), processes()):
        print(json.dumps(record), flush=True)
        found.append(record)
    return {"python": platform.python_version(), "torch": torch.__version__, "cases": found, "models": models}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--stored", action="store_true", help="measure nothing")
    if not parser.parse_args().stored:
        STORED.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    write_page()


if __name__ == "__main__":
    main()
