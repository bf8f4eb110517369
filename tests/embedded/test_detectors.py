"""The detectors read rendered clips whose captions are known."""

from random import Random

import pytest
import torch
from torch import Tensor

from setandseq_core.embedded.probes.backdrop import fit_backdrop
from setandseq_core.embedded.probes.detectors import detect, score
from setandseq_core.embedded.probes.sprites import label_blobs
from setandseq_core.embedded.world.concepts import CONCEPTS
from setandseq_core.embedded.world.looks import OBJECT_COLOURS, Look, Part
from setandseq_core.embedded.world.scene import (
    BACKGROUND_COLOURS,
    SIZE,
    Caption,
    Scene,
    Sprite,
    SpriteWords,
    background_tones,
    clip_times,
    make_path,
    random_caption,
    render,
    scene_of,
)
from setandseq_core.errors import VideoError
from tools.embedded_model.accuracy import accuracy, degraded, truth

RED_CIRCLE = SpriteWords(size="large", colour="red", shape="circle", motion="bouncing")
BLUE_STAR = SpriteWords(size="small", colour="blue", shape="star", motion="spinning")
CREATURE = SpriteWords(size="large", colour="white", shape="creature", motion="wandering")


def _caption(*sprites: SpriteWords) -> Caption:
    return Caption(sprites=sprites, background="green", texture="striped")


@pytest.mark.parametrize(("count", "degrade"), [(60, False), (20, True)])
def test_every_attribute_is_read_right(count: int, degrade: bool):
    for attribute, share in accuracy(count, seed=3, degrade=degrade).items():
        assert share >= 0.95, attribute


def test_two_sprites_are_numbered_from_the_left():
    seen = detect(render(scene_of(_caption(RED_CIRCLE, BLUE_STAR), Random(0))))
    assert [(s.colour, s.shape, s.motion) for s in seen.sprites] == [
        ("red", "circle", "bouncing"),
        ("blue", "star", "spinning"),
    ]


def test_mask_and_track_follow_the_sprite():
    scene = scene_of(_caption(RED_CIRCLE), Random(1))
    (seen,) = detect(render(scene)).sprites
    (sprite,) = scene.sprites
    assert torch.allclose(seen.track_F3[:, 1], sprite.place[1] + sprite.path.y, atol=0.3)
    assert torch.allclose(seen.track_F3[:, 2], torch.tensor(torch.pi * sprite.radius**2), rtol=0.03)
    assert seen.mask_FHW[0, int(seen.track_F3[0, 1]), int(seen.track_F3[0, 0])]


def test_score_says_which_sprite_is_wrong():
    frames = render(scene_of(_caption(RED_CIRCLE, BLUE_STAR), Random(0)))
    asked = _caption(RED_CIRCLE, SpriteWords(size="small", colour="green", shape="star", motion="spinning"))
    assert {name for name, right in score(detect(frames), asked).items() if not right} == {
        "sprite 2 colour",
        "sprite 2 object",
    }


def test_score_of_a_missing_sprite_is_wrong():
    frames = render(scene_of(_caption(RED_CIRCLE), Random(0)))
    result = score(detect(frames), _caption(RED_CIRCLE, BLUE_STAR))
    assert not result["count"]
    assert not (result["sprite 1 object"] and result["sprite 2 object"])


def test_what_has_no_name_is_not_scored():
    caption = _caption(CREATURE, BLUE_STAR)
    result = score(detect(render(scene_of(caption, Random(4)))), caption)
    assert not any(name.startswith("sprite 1") for name in result)
    assert result["sprite 2 colour"] and result["sprite 2 shape"]


def test_an_empty_scene_has_no_sprites():
    empty = Scene(sprites=(), tones=background_tones((0.4, 0.4, 0.4)), texture="plain")
    seen = detect(render(empty))
    assert seen.sprites == ()
    assert not score(seen, _caption(RED_CIRCLE))["sprite 1 object"]


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_short_clips_are_read(frames: int):
    caption = random_caption(Random(5), sprites=2)
    seen = detect(render(scene_of(caption, Random(5)))[:frames])
    assert (seen.background, seen.texture) == (caption.background, caption.texture)
    assert [s.colour for s in seen.sprites] == [s.colour for s in caption.sprites]


def test_noise_is_read_without_an_error():
    detect(torch.rand(17, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0)))


def test_fitted_background_equals_the_rendered_one():
    scene = scene_of(_caption(RED_CIRCLE), Random(6))
    empty = render(Scene(sprites=(), tones=scene.tones, texture=scene.texture, phase=scene.phase))
    assert (fit_backdrop(render(scene)).frames_FHWC - empty).abs().mean() < 0.02


def test_blobs_touching_at_a_corner_are_one():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :2, :2] = mask[0, 2:4, 2:4] = mask[0, 6:, :2] = True
    assert len(label_blobs(mask).unique()) == 3


def test_degraded_clips_are_the_same_for_the_same_seed():
    (_, one), (_, two) = (next(truth(1, 7, degrade=True)) for _ in range(2))
    assert torch.equal(one, two)
    clean = next(truth(1, 7))[1]
    assert 0.0005 < float((one - clean).square().mean()) < 0.01
    assert degraded(clean, torch.Generator().manual_seed(0)).shape == clean.shape


def test_wrong_size_says_what_is_read():
    with pytest.raises(VideoError, match=r"\(17, 32, 32, 3\).*64, 64"):
        detect(torch.zeros(17, 32, 32, 3))


def _touching(left: Look, right: Look) -> Tensor:
    """Two sprites that hop side by side and touch in every frame."""
    path = make_path(clip_times(), y=6 * torch.cos(2 * torch.pi * clip_times()))
    one = Sprite(look=left, radius=13, place=(21, 30), path=path)
    two = Sprite(look=right, radius=9, place=(45, 31), path=path)
    return render(Scene(sprites=(one, two), tones=background_tones(BACKGROUND_COLOURS["grey"]), texture="plain"))


@pytest.mark.parametrize("degrade", [False, True])
def test_sprites_of_one_colour_that_always_touch_are_two(degrade: bool):
    look: Look = (Part(shape="circle", colour=OBJECT_COLOURS["yellow"]),)
    frames = _touching(look, look)
    seen = detect(degraded(frames, torch.Generator().manual_seed(0)) if degrade else frames)
    assert [(s.colour, s.shape, s.size) for s in seen.sprites] == [
        ("yellow", "circle", "large"),
        ("yellow", "circle", "small"),
    ]


def test_an_object_that_always_touches_a_concept_is_seen():
    frames = _touching(CONCEPTS["bee"].look, (Part(shape="square", colour=OBJECT_COLOURS["red"]),))
    assert [(s.colour, s.shape, s.size) for s in detect(frames).sprites][1:] == [("red", "square", "small")]


@pytest.mark.parametrize("name", CONCEPTS)
def test_a_concept_is_one_sprite(name: str):
    frames = degraded(CONCEPTS[name].frames(), torch.Generator().manual_seed(0))
    assert len(detect(frames).sprites) == 1
