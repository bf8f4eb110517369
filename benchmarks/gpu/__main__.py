"""Measures seconds and memory of a training step on this machine's GPU, and checks that nothing is lost.

    python -m benchmarks.gpu [PART ...] [--size true] [--dynamic-vram] [--hold GIB] [--steps 5]

Everything runs in this process, without a network. The weights are random and are made on the card, in the true shapes
of Wan 2.1 1.3B (bfloat16) and 14B (8-bit floats). The clip has 33 frames of 480p, the rank is 32, a step has one
sample, and memory is saved as the plan says. If no part is named, all of them run: `rate` measures the card's rate of
bfloat16 products, `1.3B` and `14B` run both stages, `kernels` profiles a step of 1.3B, `node` and `peft` run the same
step of 1.3B with ComfyUI's TrainLoraNode and with plain PEFT on diffusers, and `checks` tries resuming, Cancel and too
little memory, and looks at the MODEL afterwards.

Dynamic VRAM and a memory limit can be set only once in a process, so a full table takes several runs. `--size small`
tries the script on any machine.
"""

import argparse
import gc
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from benchmarks.gpu.checks import CHECKS
from benchmarks.gpu.inside import Pack, card, start, taken_bytes, unload
from benchmarks.gpu.ours import Training
from benchmarks.gpu.steps import HEADER, Steps, hottest_kernels, product_rate
from benchmarks.gpu.wan import CLIP, SHAPES, SMALL_CLIP, SMALL_SHAPES, Clip, Shape, load_model, random_weights


@dataclass(kw_only=True, slots=True)
class Bench:
    """One run of the benchmark."""

    pack: Pack
    shapes: dict[str, Shape]
    clip: Clip
    steps: int
    rank: int
    batch: int
    recomputed: bool
    rate: float = 1.0
    """Operations per second of the card's bfloat16 products."""

    def training(self, shape: Shape, clip: Clip | None = None) -> Training:
        """The training of both stages on a MODEL of that shape."""
        model = load_model(random_weights(shape))
        return Training(pack=self.pack, model=model, clip=clip or self.clip, rank=self.rank, recomputed=self.recomputed)

    def measure_rate(self) -> Iterator[str]:
        """Measure the card's rate of bfloat16 products; the other parts give their rates as shares of it."""
        self.rate = product_rate(8192 if card().type == "cuda" else 512)
        yield f"bfloat16 products: {self.rate / 1e12:.3g} TFLOP/s"

    def stages(self, size: str) -> Iterator[str]:
        """Measure both stages on one model."""
        begun = time.perf_counter()
        training = self.training(self.shapes[size])
        yield f"<!-- {self.shapes[size].name}: made and loaded in {time.perf_counter() - begun:.1f} s -->"
        for stage in ("set", "sequence"):
            plan = training.plan(stage, self.batch)
            yield self._row(
                f"{self.shapes[size].name}, {training.savings_in_words(plan)}, {stage} stage",
                lambda stage=stage: training.watched(stage, steps=self.steps, batch=self.batch),
                plan.memory,
            )

    def kernels(self) -> Iterator[str]:
        """Measure the time that a step of the sequence stage spends in each kernel."""
        training = self.training(self.shapes["1.3B"])
        for stage in ("set", "sequence"):
            training.watched(stage, steps=1)
            yield f"{stage} stage:\n{hottest_kernels(lambda stage=stage: training.watched(stage, steps=1))}"

    def train_lora_node(self) -> Iterator[str]:
        """Measure the same step with ComfyUI's own node, which trains its LoRA on all layers."""
        from benchmarks.gpu.peers import train_lora_node

        model = load_model(random_weights(self.shapes["1.3B"]))
        name = f"{self.shapes['1.3B'].name}, the clip, TrainLoraNode"
        yield self._row(name, lambda: train_lora_node(model, self.clip, steps=self.steps, rank=self.rank))

    def peft(self) -> Iterator[str]:
        """Measure the same step with plain PEFT on diffusers."""
        from benchmarks.gpu.peers import peft_on_diffusers

        shape = self.shapes["1.3B"]
        name = f"{shape.name}, the clip, PEFT on diffusers"
        yield self._row(name, lambda: peft_on_diffusers(shape, self.clip, steps=self.steps, rank=self.rank))

    def checks(self) -> Iterator[str]:
        """Run the checks on the first blocks of 1.3B and a small clip."""
        training = self.training(replace(self.shapes["1.3B"], blocks=2), SMALL_CLIP)
        for check in CHECKS.values():
            yield f"- {check(training)}"

    def _row(self, name: str, run: Callable[[], Steps], planned: int | None = None) -> str:
        try:
            return run().row(name, self.rate, planned)
        except torch.OutOfMemoryError as error:
            return f"| {name} | out of memory: {str(error).splitlines()[0][:200]} | | | | | |"


def parts(bench: Bench) -> dict[str, Callable[[], Iterator[str]]]:
    """All parts of the benchmark by name."""
    return {
        "rate": bench.measure_rate,
        "1.3B": lambda: bench.stages("1.3B"),
        "14B": lambda: bench.stages("14B"),
        "node": bench.train_lora_node,
        "peft": bench.peft,
        "checks": bench.checks,
        "kernels": bench.kernels,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*")
    parser.add_argument("--size", choices=("true", "small"), default="true")
    parser.add_argument("--dynamic-vram", action="store_true")
    parser.add_argument(
        "--hold", type=float, default=0.0, metavar="GIB", help="use the card as if it had only that much"
    )
    parser.add_argument("--checkpointing", action="store_true", help="of all blocks; without, as the plan wants it")
    parser.add_argument("--steps", type=int, default=5, help="at least 3: one warms up, one is counted")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=0, help="of each model; 0 is all")
    parser.add_argument("--log", action="store_true", help="show ComfyUI's log")
    return parser.parse_args()


def main() -> None:
    """The command line."""
    arguments = _arguments()
    if not arguments.log:
        logging.disable(logging.INFO)
    pack = start(dynamic_vram=arguments.dynamic_vram, hold_gib=arguments.hold)
    is_small = arguments.size == "small"
    shapes = SMALL_SHAPES if is_small else SHAPES
    if arguments.blocks:
        shapes = {name: replace(shape, blocks=arguments.blocks) for name, shape in shapes.items()}
    bench = Bench(
        pack=pack,
        shapes=shapes,
        clip=SMALL_CLIP if is_small else CLIP,
        steps=arguments.steps,
        rank=arguments.rank,
        batch=arguments.batch,
        recomputed=arguments.checkpointing,
    )
    known = parts(bench)
    name = torch.cuda.get_device_name() if card().type == "cuda" else "the CPU"
    placement = "dynamic VRAM" if arguments.dynamic_vram else "no dynamic VRAM"
    limit = f", held to {arguments.hold:g} GiB" if arguments.hold else ""
    print(f"{name}, PyTorch {torch.__version__}, {placement}{limit}\n\n{HEADER}", flush=True)
    for part in dict.fromkeys(["rate", *(arguments.part or known)]):
        for line in known[part]():
            print(line, flush=True)
        unload()
        gc.collect()
        print(f"<!-- {part} done, {taken_bytes() / 2**30:.1f} GiB taken -->", flush=True)


if __name__ == "__main__":
    main()
