"""The plan of a training: its memory as measured, its operations, and what it chooses on small and large devices."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch.profiler import ProfilerActivity, profile

from setandseq_core.backbone import Savings
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.encode import FrameSequence, FrameSet, Material
from setandseq_core.condition import Condition
from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig
from setandseq_core.embedded.text import encode_prompt
from setandseq_core.train import train_identity, train_motion
from setandseq_core.training.plan import plan_stage

FRAMES, SIDE, BLOCKS = 9, 96, 3


@pytest.fixture(scope="module")
def backbone() -> WanBackbone:
    """A random Wan of three blocks, wide enough for its activations to be most of a training's memory."""
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=2, ffn_dim=1024, num_layers=BLOCKS, in_channels=16, out_channels=16
    )
    vae = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2)
    return WanBackbone(transformer, vae, encode_prompt, "random")


@pytest.fixture(scope="module")
def text(backbone: WanBackbone) -> Condition:
    """A prompt."""
    return backbone.encode_prompt("a sks blob")


def settings(batch: int) -> MethodConfig:
    """Two steps of each stage."""
    return MethodConfig(
        rank=8,
        prior=PriorConfig(share=0.0),
        set_stage=SetConfig(steps=2, batch=batch, still_frames=FRAMES),
        sequence_stage=SequenceConfig(steps=2, batch=batch),
    )


def allocated(events: Any) -> Iterator[int]:
    """Bytes that PyTorch had allocated after every allocation and release of a profile."""
    for event in events:
        if "Allocation" in str(event.tag):
            yield event.extra_fields.total_allocated
        yield from allocated(event.children)


def measured(backbone: WanBackbone, stage: str, config: MethodConfig, text: Condition, savings: Savings) -> int:
    """Bytes that a training takes at most, by PyTorch's own profiler."""
    latents = torch.randn(2, *backbone.latent_shape(FRAMES, SIDE, SIDE))
    identity = train_identity(
        backbone,
        Material(clips=[FrameSet(latents_SCFHW=latents, text=text)]),
        replace(config, set_stage=replace(config.set_stage, steps=0)),
    )
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as found:
        torch.empty(1)
        if stage == "set":
            material: Any = Material(clips=[FrameSet(latents_SCFHW=latents, text=text)])
            train_identity(backbone, material, config, savings=savings)
        else:
            material = Material(clips=[FrameSequence(latents_CFHW=latents[0], text=text)])
            train_motion(backbone, identity.layers, material, config, savings=savings)
    totals = list(allocated(found.profiler.kineto_results.experimental_event_tree()))  # type: ignore[union-attr]
    return max(totals) - totals[0]


@pytest.mark.filterwarnings("ignore::UserWarning")  # the profiler's, where there is no GPU
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("blocks", [0, 1, BLOCKS])
@pytest.mark.parametrize("stage", ["set", "sequence"])
def test_memory_is_within_a_tenth_of_what_is_measured(
    backbone: WanBackbone, text: Condition, stage: str, blocks: int, batch: int
) -> None:
    config, savings = settings(batch), Savings(recomputed=blocks)
    plan = plan_stage(backbone, stage, (FRAMES, SIDE, SIDE), config, text)
    planned = plan.memory(savings) - plan.material
    taken = measured(backbone, stage, config, text, savings)
    assert planned == pytest.approx(taken, rel=0.1)
