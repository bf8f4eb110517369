"""Seconds per step and peak memory of both train nodes beside ComfyUI's own Train LoRA, in real ComfyUI servers.

    python -m benchmarks.comfyui [--rank 32] [--batch 4] [--steps 12] [--rounds 2]

Every variant trains the embedded model on batches of the same shape in a server of its own, the variants in turn,
several rounds; medians are compared. A step's time is the difference between a long and a short training, divided by
their difference in steps; memory is the server's peak above what it held with the model loaded.
"""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tools.server.run import Run
from tools.server.server import Server
from tools.workflows.graphs import CONCEPT, Prompt, embedded_model, node, sampling, training

STAGES = ("set stage", "sequence stage")
PEERS = {
    "Train LoRA, its defaults": {"training_dtype": "bf16", "lora_dtype": "bf16", "gradient_checkpointing": True},
    "Train LoRA, float32, no checkpointing": {
        "training_dtype": "fp32",
        "lora_dtype": "fp32",
        "gradient_checkpointing": False,
    },
}
SHORT = 2


def graph(variant: str, stage: str, *, steps: int, batch: int, rank: int) -> Prompt:
    """The prompt that trains `variant` for that many steps on batches of the stage's shape."""
    if variant not in PEERS:
        counts = {"set_steps": steps} if stage == STAGES[0] else {"set_steps": 1, "sequence_steps": steps}
        found = training(**counts, batch=batch, rank=rank)
        found["options"]["inputs"]["preview_every"] = 0
        if stage == STAGES[0]:
            del found["concept"], found["save"]
            found["end"] = node("PreviewAny", source=["identity", 0])
        return found
    options = PEERS[variant] | {"batch_size": batch, "grad_accumulation_steps": 1, "steps": steps, "rank": rank}
    options |= {"learning_rate": 1e-3, "optimizer": "AdamW", "loss_function": "MSE", "seed": 0, "algorithm": "LoRA"}
    options |= {"quantized_backward": False, "checkpoint_depth": 1, "offloading": False, "existing_lora": "[None]"}
    options |= {"bucket_mode": False, "bypass_mode": False}
    length = 1 if stage == STAGES[0] else 17
    return embedded_model() | {
        "latents": node("EmptyHunyuanLatentVideo", width=64, height=64, length=length, batch_size=batch),
        "positive": node("CLIPTextEncode", clip=["clip", 0], text=CONCEPT.motion_prompt),
        "train": node("TrainLoraNode", model=["model", 0], latents=["latents", 0], positive=["positive", 0], **options),
        "end": node("SaveLoRA", lora=["train", 0], prefix="loras/peer", steps=["train", 2]),
    }


def measure(variant: str, stage: str, *, steps: int, batch: int, rank: int) -> tuple[float, float]:
    """Seconds of a step, and MiB of the peak above the server with its model loaded."""
    options = {"batch": batch, "rank": rank}
    with TemporaryDirectory() as folder, Server(Path(folder)) as server:
        server.run(embedded_model() | sampling(["model", 0], CONCEPT.motion_prompt, steps=1)).succeeded()
        server.run(graph(variant, stage, steps=1, **options)).succeeded()  # loads what is loaded once
        before = server.memory("VmRSS")
        server.reset_peak_memory()
        short = seconds(server.run(graph(variant, stage, steps=SHORT, **options)))
        long = seconds(server.run(graph(variant, stage, steps=SHORT + steps, **options)))
        return (long - short) / steps, server.memory("VmHWM") - before


def seconds(run: Run) -> float:
    """Seconds from a prompt's start to its end."""
    times = {kind: data["timestamp"] for kind, data in run.succeeded().messages}
    return (times["execution_success"] - times["execution_start"]) / 1000


def rows(steps: int, rounds: int, batch: int, rank: int) -> Iterator[str]:
    """The table's lines."""
    variants = ("Set-and-Sequence", *PEERS)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for stage in STAGES:
            for variant in variants:
                value = measure(variant, stage, steps=steps, batch=batch, rank=rank)
                found.setdefault((stage, variant), []).append(value)
    yield f"rank {rank}, batch {batch}, {steps} steps, {rounds} rounds, {torch.get_num_threads()} threads"
    yield ""
    yield "| batches of | beside | its seconds per step, times ours | its peak memory, times ours |"
    yield "|---|---|---|---|"
    for stage in STAGES:
        ours, *peers = (
            [statistics.median(value[i] for value in found[stage, variant]) for i in (0, 1)] for variant in variants
        )
        for name, peer in zip(PEERS, peers, strict=True):
            yield f"| {stage} | {name} | {peer[0] / ours[0]:.1f} | {peer[1] / ours[1]:.1f} |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comfyui", description=__doc__)
    for name, default in (("rank", 32), ("batch", 4), ("steps", 12), ("rounds", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    for line in rows(arguments.steps, arguments.rounds, arguments.batch, arguments.rank):
        print(line, flush=True)


if __name__ == "__main__":
    main()
