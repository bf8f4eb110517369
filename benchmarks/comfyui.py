"""Compares seconds per step and peak memory of both train nodes with ComfyUI's own Train LoRA, in real servers.

    python -m benchmarks.comfyui [--model wan] [--stages "set stage"] [--rank 32] [--batch 4] [--steps 12] [--rounds 2]

Every variant trains the same model on batches of the same shape, in its own server. The variants take turns for several
rounds, and their medians are compared. The model is the embedded one, or a Wan of 24 blocks of width 512 with random
weights. A step's time is the difference between a long and a short training, divided by their difference in steps;
memory is the server's peak above what it held with the model loaded.
"""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from safetensors.torch import save_file

from setandseq_core.backbones.wan_names import native_transformer
from setandseq_core.embedded.files import TRANSFORMER_FILE
from tools.server.run import Run
from tools.server.server import Server
from tools.workflows.graphs import CONCEPT, Prompt, embedded_model, node, sampling, training

MODELS = {"embedded": TRANSFORMER_FILE.name, "wan": "random_wan.safetensors"}
"""The file of each model in ComfyUI's list."""
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


def write_wan(folder: Path) -> None:
    """Write the random Wan into the models folder of a server."""
    torch.manual_seed(0)
    model = WanTransformer3DModel(num_attention_heads=4, attention_head_dim=128, ffn_dim=1024, num_layers=24)
    weights = native_transformer(model.state_dict())
    models = folder / "models" / "diffusion_models"
    models.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, models / MODELS["wan"])


def loaded(prompt: Prompt, model: str) -> Prompt:
    """The prompt that loads one of `MODELS`."""
    prompt["loader"]["inputs"]["unet_name"] = MODELS[model]
    return prompt


def graph(variant: str, stage: str, model: str, *, steps: int, batch: int, rank: int) -> Prompt:
    """The prompt that trains `variant` for that many steps on batches of the stage's shape."""
    return loaded(_graph(variant, stage, steps, batch, rank), model)


def _graph(variant: str, stage: str, steps: int, batch: int, rank: int) -> Prompt:
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


def measure(variant: str, stage: str, model: str, *, steps: int, batch: int, rank: int) -> tuple[float, float]:
    """Seconds per step, and the peak memory in MiB above that of the server with its model loaded."""
    with TemporaryDirectory() as folder:
        if model == "wan":
            write_wan(Path(folder))
        with Server(Path(folder)) as server:

            def train(count: int) -> float:
                return seconds(server.run(graph(variant, stage, model, steps=count, batch=batch, rank=rank)))

            sample = embedded_model() | sampling(["model", 0], CONCEPT.motion_prompt, steps=1)
            server.run(loaded(sample, model)).succeeded()
            train(1)  # loads what is loaded once
            before = server.memory("VmRSS")
            server.reset_peak_memory()
            short = train(SHORT)
            long = train(SHORT + steps)
            return (long - short) / steps, server.memory("VmHWM") - before


def seconds(run: Run) -> float:
    """Time in seconds that a prompt takes."""
    times = {kind: data["timestamp"] for kind, data in run.succeeded().messages}
    return (times["execution_success"] - times["execution_start"]) / 1000


def rows(model: str, stages: list[str], *, steps: int, rounds: int, batch: int, rank: int) -> Iterator[str]:
    """The lines of the table."""
    variants = ("Set-and-Sequence", *PEERS)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for stage in stages:
            for variant in variants:
                value = measure(variant, stage, model, steps=steps, batch=batch, rank=rank)
                found.setdefault((stage, variant), []).append(value)
                yield f"{stage}, {variant}: {value[0]:.2f} s a step, {value[1]:.0f} MiB"
    yield ""
    yield f"{model}, rank {rank}, batch {batch}, {steps} steps, {rounds} rounds, {torch.get_num_threads()} threads"
    yield ""
    yield "| batches of | beside | its seconds per step, times ours | its peak memory, times ours |"
    yield "|---|---|---|---|"
    for stage in stages:
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
    parser.add_argument("--model", choices=tuple(MODELS), default="embedded")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    given = parser.parse_args()
    numbers = {"steps": given.steps, "rounds": given.rounds, "batch": given.batch, "rank": given.rank}
    for line in rows(given.model, given.stages, **numbers):
        print(line, flush=True)


if __name__ == "__main__":
    main()
