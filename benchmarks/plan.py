"""Compares the memory that a training's plan predicts with the measured peak, on the CPU.

    python -m benchmarks.plan

A random Wan of three blocks, wide enough for its activations to take most of a training's memory, trains two steps of
each stage with every setting of `SETTINGS`. PyTorch's own profiler measures the peak. The plan is made before the
training, from a step on fake tensors.
"""

import argparse
import gc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch.profiler import ProfilerActivity, profile

from setandseq_core.backbone import Savings
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.encode import FrameSequence, FrameSet, Material
from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig
from setandseq_core.embedded.text import encode_prompt
from setandseq_core.prompts import Condition
from setandseq_core.train import train_identity, train_motion
from setandseq_core.training.plan import plan_stage

FRAMES = 9
SIDE = 96
BLOCKS = 3
MIB = 2**20


@dataclass(kw_only=True, slots=True, frozen=True)
class Setting:
    """A training to plan and to measure."""

    stage: str
    """"set" or "sequence"."""
    recomputed: int
    """Blocks that run again in the backward pass."""
    batch: int

    @property
    def savings(self) -> Savings:
        return Savings(recomputed=self.recomputed)

    @property
    def config(self) -> MethodConfig:
        """Two steps of each stage."""
        return MethodConfig(
            rank=8,
            prior=PriorConfig(share=0.0),
            set_stage=SetConfig(steps=2, batch=self.batch, still_frames=FRAMES),
            sequence_stage=SequenceConfig(steps=2, batch=self.batch),
        )


SETTINGS = tuple(
    Setting(stage=stage, recomputed=blocks, batch=batch)
    for stage, blocks, batch in product(("set", "sequence"), (0, 1, BLOCKS), (1, 3))
)


def random_wan() -> WanBackbone:
    """The random Wan as a backbone."""
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=2, ffn_dim=1024, num_layers=BLOCKS, in_channels=16, out_channels=16
    )
    vae = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2)
    return WanBackbone(transformer, vae, encode_prompt, "random")


def planned(backbone: WanBackbone, setting: Setting, text: Condition) -> int:
    """Bytes that the plan predicts for the training, without its material."""
    plan = plan_stage(backbone, setting.stage, (FRAMES, SIDE, SIDE), setting.config, text)
    return plan.memory(setting.savings) - plan.material


def measured(backbone: WanBackbone, setting: Setting, text: Condition) -> int:
    """Peak memory of the training in bytes, measured by PyTorch's own profiler."""
    config = setting.config
    latents = torch.randn(2, *backbone.latent_shape(FRAMES, SIDE, SIDE))
    frames = Material(clips=[FrameSet(latents_SCFHW=latents, text=text)])
    untrained = train_identity(backbone, frames, replace(config, set_stage=replace(config.set_stage, steps=0)))
    clip = Material(clips=[FrameSequence(latents_CFHW=latents[0], text=text)])

    def train() -> None:
        if setting.stage == "set":
            train_identity(backbone, frames, config, savings=setting.savings)
        else:
            train_motion(backbone, untrained.layers, clip, config, savings=setting.savings)

    return peak_bytes(train)


def peak_bytes(work: Callable[[], None]) -> int:
    """Bytes that work allocates at most, beyond what was there before it, by PyTorch's own profiler."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        torch.empty(1)
        work()
    totals = list(_allocated(found.profiler.kineto_results.experimental_event_tree()))  # type: ignore[union-attr]
    return max(totals) - totals[0]


def _allocated(events: Any) -> Iterator[int]:
    """Bytes allocated by PyTorch after each allocation and release in a profile."""
    for event in events:
        if "Allocation" in str(event.tag):
            yield event.extra_fields.total_allocated
        yield from _allocated(event.children)


def rows() -> Iterator[str]:
    """The lines of the table."""
    backbone = random_wan()
    text = backbone.encode_prompt("a sks blob")
    yield "| stage | blocks that run again | batch | planned, MiB | measured, MiB | planned / measured |"
    yield "|---|---|---|---|---|---|"
    for setting in SETTINGS:
        plan = planned(backbone, setting, text)
        taken = measured(backbone, setting, text)
        numbers = f"{plan / MIB:.1f} | {taken / MIB:.1f} | {plan / taken:.2f}"
        yield f"| {setting.stage} | {setting.recomputed} of {BLOCKS} | {setting.batch} | {numbers} |"


def main() -> None:
    """The command line."""
    argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__).parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)  # a warning of the profiler without a GPU
    for line in rows():
        print(line, flush=True)


if __name__ == "__main__":
    main()
