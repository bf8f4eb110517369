import dataclasses

import pytest
import torch

from setandseq_core.clips.clip import Clip, Reference, Words
from setandseq_core.clips.encode import Material
from setandseq_core.clips.stitch import REMOVED, join_prompts, stitch, stitched_references
from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig
from setandseq_core.errors import VideoError
from setandseq_core.learn import learn_concept


def reference(
    token: str, colour: float, frames: int = 5, mask: torch.Tensor | None = None, fps: float = 16.0
) -> Reference:
    clip = Clip(frames_FHWC=torch.full((frames, 32, 32, 3), colour), fps=fps, choice="whole.")
    words = Words(
        static_prompt=f"a {token} blob on a grey floor",
        motion_prompt=f"a {token} blob hopping on a grey floor",
        identity_token=token,
    )
    return Reference(clip=clip, words=words, mask_FHW=mask)


def test_clips_are_side_by_side_with_both_prompts():
    both = stitch(reference("[a]", 0.2, frames=9), reference("[b]", 0.8))
    frames = both.clip.frames_FHWC
    assert frames.shape == (5, 32, 32, 3) and both.mask_FHW is None
    assert torch.allclose(frames[:, :, :16], torch.tensor(0.2)) and torch.allclose(frames[:, :, 16:], torch.tensor(0.8))
    assert both.words.static_prompt == "a [a] blob and a [b] blob on a grey floor"
    assert both.words.motion_prompt == "a [a] blob hopping and a [b] blob hopping on a grey floor"


def test_shared_ends_are_said_once():
    assert join_prompts("a cat", "a dog") == "a cat and a dog"
    assert join_prompts("a cat in a wood", "a dog in a wood") == "a cat and a dog in a wood"
    assert join_prompts("a red cat", "a cat") == "a red cat and a cat"


def test_a_mask_takes_the_background_away_and_shows_the_box_of_its_subject():
    mask = torch.zeros(5, 32, 32)
    mask[:, 4:12, 20:28] = 1
    both = stitch(reference("[a]", 1.0, mask=mask), reference("[b]", 0.8))
    frames, found = both.clip.frames_FHWC, both.mask_FHW
    assert found is not None and found.shape == (5, 32, 32)
    assert found[:, :, 16:].min() == 1
    inside, outside = frames[:, :, :16][found[:, :, :16] > 0.99], frames[:, :, :16][found[:, :, :16] < 0.01]
    assert torch.allclose(inside, torch.tensor(1.0)) and torch.allclose(outside, torch.tensor(REMOVED))
    share = float((found[:, :, :16] > 0.5).float().mean())
    assert share > 2 * 64 / (32 * 32), "the subject is shown larger than in its clip"


def test_prompts_say_what_a_mask_leaves_of_the_place():
    mask = torch.zeros(5, 32, 32)
    mask[:, 4:12, 20:28] = 1
    cut = reference("[a]", 1.0, mask=mask)
    lantern = Words(
        static_prompt="a sks lantern, red paper, on a wall by the sea, at night",
        motion_prompt="In a garden, a sks lantern, red paper, under a tree zub swinging before a wall",
        identity_token="sks",
        motion_token="zub",
    )
    both = stitch(cut, dataclasses.replace(cut, words=lantern))
    assert both.words.static_prompt == "a [a] blob and a sks lantern, red paper on a grey plain background"
    assert both.words.motion_prompt == (
        "a [a] blob hopping and a sks lantern, red paper, under a tree zub swinging on a grey plain background"
    )
    assert (both.words.identity_token, both.words.motion_token) == ("[a]", "")
    half = stitch(cut, reference("[b]", 0.8))
    assert half.words.static_prompt == "a [a] blob on a grey plain background and a [b] blob on a grey floor"


def test_pairs_are_of_different_concepts_in_both_orders():
    a, b = reference("[a]", 0.2), reference("[b]", 0.8)
    assert stitched_references([a, a]) == [] and stitched_references([a]) == []
    prompts = [each.words.static_prompt for each in stitched_references([a, b, a])]
    assert prompts.count("a [a] blob and a [b] blob on a grey floor") == 2
    assert prompts.count("a [b] blob and a [a] blob on a grey floor") == 2 and len(prompts) == 4


def test_other_frame_rates_are_refused():
    with pytest.raises(VideoError, match="16 and 24 frames a second"):
        stitch(reference("[a]", 0.2), reference("[b]", 0.8, fps=24.0))


def test_stitched_clips_come_less_often_and_the_others_in_turn():
    config = MethodConfig(stitched_share=0.25)
    material = Material(clips=["a", "b"], stitched=["ab", "ba"])  # type: ignore[type-var]
    assert [material.of_step(step, config) for step in range(8)] == ["a", "b", "a", "ab", "b", "a", "b", "ba"]
    alone = Material(clips=["a", "b"])  # type: ignore[type-var]
    assert [alone.of_step(step, config) for step in range(4)] == ["a", "b", "a", "b"]


def test_joint_training_uses_stitched_clips(tiny_backbone):
    config = MethodConfig(
        rank=2,
        prior=PriorConfig(share=0.0),
        set_stage=SetConfig(steps=5, batch=1, learning_rate=1e-2),
        sequence_stage=SequenceConfig(steps=5, batch=1, learning_rate=1e-2),
    )
    pair = [reference("[a]", 0.2), reference("[b]", 0.8)]
    joint = learn_concept(tiny_backbone, pair, config, name="pair").info.training
    apart = learn_concept(
        tiny_backbone, pair, dataclasses.replace(config, stitched_share=0.0), name="pair"
    ).info.training
    for stage in ("set", "sequence"):
        assert joint[stage]["losses"][:4] == apart[stage]["losses"][:4] or stage == "sequence"
        assert joint[stage]["losses"][4] != apart[stage]["losses"][4]
    assert joint["motion_prompts"] == [each.words.motion_prompt for each in pair]
