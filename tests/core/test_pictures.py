"""A look from pictures: each has its own size and is seen as often as any other, and the clip provides the motion."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.clip import Clip, Reference, Words
from setandseq_core.clips.pictures import pictures_in_words, seen_in_turn, with_pictures
from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig
from setandseq_core.errors import ConfigError, VideoError
from setandseq_core.learn import learn_concept, learn_identity
from setandseq_core.prompts import Condition

LOOK = Words(static_prompt="a sks blob", motion_prompt="a sks blob", identity_token="sks")
Fit = Callable[..., Reference]
CONFIG = MethodConfig(
    rank=2,
    prior=PriorConfig(share=0.0),
    set_stage=SetConfig(steps=4, batch=1, learning_rate=1e-2),
    sequence_stage=SequenceConfig(steps=2, batch=1, learning_rate=1e-2),
)


def photos(*sizes: tuple[int, int], seed: int = 0) -> list[Tensor]:
    """Random pictures (1, H, W, 3) of these sizes (height, width)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(1, height, width, 3, generator=generator) for height, width in sizes]


@pytest.fixture
def clip(tiny_frames: Tensor) -> Reference:
    """A clip of another subject."""
    words = Words(
        static_prompt="a skz ball", motion_prompt="a skz ball, zub hopping", identity_token="skz", motion_token="zub"
    )
    return Reference(clip=Clip(frames_FHWC=tiny_frames, fps=16.0, choice="random"), words=words)


@pytest.fixture
def fitted(clip: Reference) -> Fit:
    """The clip with the look of random pictures of these sizes, for a model that takes multiples of 16 up to 32x32."""

    def fit(*sizes: tuple[int, int], look_of_clip: bool = False, seed: int = 0) -> Reference:
        return with_pictures(
            clip, photos(*sizes, seed=seed), LOOK, multiple=16, max_pixels=32 * 32, look_of_clip=look_of_clip
        )

    return fit


def test_every_picture_keeps_its_shape_and_is_only_scaled_down(fitted: Fit) -> None:
    found = fitted((32, 32), (64, 16), (16, 16), (300, 100)).pictures
    assert [tuple(each.clip.frames_FHWC.shape[1:3]) for each in found] == [(32, 32), (64, 16), (16, 16), (48, 16)]
    assert torch.equal(found[0].clip.frames_FHWC[0], photos((32, 32))[0][0])
    assert all(each.clip.frames_FHWC.min() >= 0 and each.clip.frames_FHWC.max() <= 1 for each in found)


def test_pictures_of_one_size_are_seen_together_and_each_counts_the_same(fitted: Fit) -> None:
    found = fitted((32, 32), (32, 32), (16, 64), (32, 32))
    assert [len(each.clip.frames_FHWC) for each in found.pictures] == [3, 3, 1, 3]
    assert pictures_in_words(found) == "4 pictures: 3 of 32x32, 1 of 64x16"
    assert pictures_in_words(fitted((16, 16), look_of_clip=True)) == "1 picture: 1 of 16x16"


def test_the_clip_comes_after_every_picture_where_its_look_is_wanted(clip: Reference, fitted: Fit) -> None:
    joint = fitted((32, 32), (16, 16), look_of_clip=True)
    assert [each.words is LOOK for each in seen_in_turn([joint])] == [True, False] * 2
    assert all(each.words is LOOK for each in seen_in_turn([fitted((16, 16), (32, 32))]))
    assert seen_in_turn([clip]) == [clip]


def test_a_clip_beside_one_with_many_pictures_is_seen_as_often(clip: Reference, fitted: Fit) -> None:
    seen = seen_in_turn([fitted((32, 32), (16, 16), (32, 32)), clip])
    assert [each is clip for each in seen] == [False, True] * 3


def test_the_look_is_that_of_the_pictures_and_not_of_the_clip(tiny_backbone: WanBackbone, fitted: Fit) -> None:
    sizes = (32, 32), (16, 16)
    pictures = fitted(*sizes)
    darker = replace(pictures, clip=replace(pictures.clip, frames_FHWC=pictures.clip.frames_FHWC / 2))
    takes = pictures, darker, fitted(*sizes, seed=5), fitted(*sizes, look_of_clip=True)
    look, same, other, joint = (learn_identity(tiny_backbone, [each], CONFIG, name="blob") for each in takes)
    layer = "blocks.0.ffn.0"
    found = [each.layers[layer].coefficients_RI for each in (look, same, other, joint)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2]) and not torch.equal(found[0], found[3])
    assert joint.info.training["stitched_pairs"] == 4 and "stitched_pairs" not in look.info.training


def test_a_concept_has_the_look_of_pictures_and_the_motion_of_the_clip(tiny_backbone: WanBackbone, fitted: Fit) -> None:
    pictures = fitted((32, 32), (16, 16))
    look = learn_identity(tiny_backbone, [pictures], CONFIG, name="blob")
    concept = learn_concept(tiny_backbone, [pictures], CONFIG, name="blob")
    for name, layer in concept.layers.items():
        assert torch.equal(layer.identity_basis_OR, look.layers[name].identity_basis_OR)
        assert layer.motion_residual_RI.any()
    info = concept.info
    assert (info.static_prompt, info.identity_token) == ("a sks blob", "sks")
    assert (info.motion_prompt, info.motion_token) == ("a skz ball, zub hopping", "zub")
    assert info.training["pictures"] == ["2 pictures: 1 of 32x32, 1 of 16x16"] and info.training["clip"] == "random"


def test_pictures_and_a_clip_share_no_learned_token(tiny_backbone: WanBackbone, fitted: Fit) -> None:
    config = replace(CONFIG, token_learning_rate=1e-3)
    with pytest.raises(ConfigError, match="several: sks, skz"):
        learn_identity(tiny_backbone, [fitted((16, 16))], config, name="blob")


def test_every_picture_gets_its_turn(tiny_backbone: WanBackbone, fitted: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """With three pictures of one size and one of another, three of four steps show the first size."""
    seen: Counter[tuple[int, ...]] = Counter()
    velocity = tiny_backbone.velocity

    def counted(x_t: Tensor, time_B: Tensor, texts: list[Condition]) -> Tensor:
        if torch.is_grad_enabled():
            seen[tuple(x_t.shape[-2:])] += 1
        return velocity(x_t, time_B, texts)

    monkeypatch.setattr(tiny_backbone, "velocity", counted)
    learn_identity(tiny_backbone, [fitted((32, 32), (16, 16), (32, 32), (32, 32))], CONFIG, name="blob")
    assert seen == {(4, 4): 3, (2, 2): 1}


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "There are no pictures"),
        ([torch.zeros(1, 8, 8, 4)], r"shape \(1, 8, 8, 4\)"),
        ([torch.full((1, 8, 8, 3), torch.nan)], "not finite"),
    ],
)
def test_what_is_no_picture_is_refused(clip: Reference, batches: list[Tensor], message: str) -> None:
    with pytest.raises(VideoError, match=message):
        with_pictures(clip, batches, LOOK, multiple=16, max_pixels=1024)


def test_more_pictures_than_memory_are_refused(fitted: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("setandseq_core.clips.pictures.MAX_CLIP_MIB", 0)
    with pytest.raises(VideoError, match="1 pictures need 0 MiB of memory; at most 0 are used"):
        fitted((16, 16), (32, 32))
