"""Measures seconds per step and peak memory of both stages, as ratios to a plain PEFT LoRA of that rank.

    python -m benchmarks.training [--rank 32] [--steps 12] [--rounds 3]

Each variant runs in its own process. The variants take turns for several rounds, and their medians are compared. The
plain LoRA sees the same batches of the embedded model in the same loop, without dropout, and trains both of its
matrices.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch

from setandseq_core.clips.encode import Material, encode_frame_sequence, encode_frame_set
from setandseq_core.config import MethodConfig, SequenceConfig, SetConfig
from setandseq_core.embedded.model import load_embedded
from setandseq_core.embedded.world.concepts import CONCEPTS, DEMO
from setandseq_core.lora import trainable_concept
from setandseq_core.train import run_sequence_stage, run_set_stage
from setandseq_core.training.run import StageRun

VARIANTS = ("set stage", "plain LoRA on frames", "sequence stage", "plain LoRA on the clip")
PAIRS = (("set stage", "plain LoRA on frames"), ("sequence stage", "plain LoRA on the clip"))


def measure(variant: str, rank: int, steps: int) -> tuple[float, float]:
    """Median seconds of a step after the first three, and peak MiB above those of the loaded model."""
    clip = CONCEPTS[DEMO]
    backbone = load_embedded()
    frame_set = encode_frame_set(backbone, clip.frames(), clip.static_prompt)
    sequence = encode_frame_sequence(backbone, clip.frames(), clip.motion_prompt)
    plain = variant.startswith("plain")
    on_frames = variant in PAIRS[0]
    stage = SetConfig if on_frames else SequenceConfig
    config = MethodConfig(rank=rank, set_stage=SetConfig(steps=steps), sequence_stage=SequenceConfig(steps=steps))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is reset here, because encoding takes more than training
    before = resident_mib("VmRSS")
    with trainable_concept(backbone.module, backbone.layers, rank=rank, seed=0) as concept:
        if plain:
            parameters = concept.begin_set_stage(0.0)
        elif on_frames:
            parameters = concept.begin_set_stage(0.8)
        else:
            concept.begin_set_stage(0.8)
            parameters = concept.begin_sequence_stage(0.5)
        times = [time.perf_counter()]
        run = StageRun(
            stage="set" if on_frames else "sequence",
            key="",
            parameters=parameters,
            config=stage(steps=steps),
            method=config,
            progress=lambda _: times.append(time.perf_counter()),
        )
        if on_frames:
            run_set_stage(backbone, concept, Material(clips=[frame_set]), config, run)
        else:
            run_sequence_stage(backbone, concept, Material(clips=[sequence]), config, run)
    laps = [later - earlier for earlier, later in pairwise(times[3:])]
    return statistics.median(laps), resident_mib("VmHWM") - before


def resident_mib(field: str) -> float:
    """This process's resident memory in MiB, on Linux: "VmRSS" now, "VmHWM" at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def rows(rank: int, steps: int, rounds: int) -> Iterator[str]:
    """The lines of the table."""
    context = multiprocessing.get_context("spawn")
    found: dict[str, list[tuple[float, float]]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant in VARIANTS:
            with context.Pool(1) as pool:
                found[variant].append(pool.apply(measure, (variant, rank, steps)))
    yield f"rank {rank}, batch 8, {steps} steps, {rounds} rounds, {torch.get_num_threads()} threads"
    yield ""
    yield "| stage | seconds per step, ratio to plain LoRA | peak memory above the model, ratio to plain LoRA |"
    yield "|---|---|---|"
    for ours, plain in PAIRS:
        ratios = []
        for index in (0, 1):
            medians = [statistics.median(value[index] for value in found[name]) for name in (ours, plain)]
            ratios.append(medians[0] / medians[1])
        yield f"| {ours} | {ratios[0]:.2f} | {ratios[1]:.2f} |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for line in rows(arguments.rank, arguments.steps, arguments.rounds):
        print(line)


if __name__ == "__main__":
    main()
