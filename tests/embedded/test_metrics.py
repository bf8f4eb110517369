"""The figures distinguish the same look and motion from others, at any place and on any background."""

from dataclasses import replace
from random import Random

import pytest
import torch

from setandseq_core.embedded.probes.metrics import (
    clip_figures,
    identity_similarity,
    motion_similarity,
    prompt_adherence,
)
from setandseq_core.embedded.world.looks import OBJECT_COLOURS, Look, Part
from setandseq_core.embedded.world.scene import (
    BACKGROUND_COLOURS,
    Caption,
    Path,
    Scene,
    Sprite,
    SpriteWords,
    background_tones,
    clip_times,
    make_path,
    place_sprite,
    render,
)
from setandseq_core.errors import VideoError
from setandseq_core.evaluate.metrics import mse, temporal_coherence
from tools.embedded_model.accuracy import degraded

BEE: Look = (
    Part(shape="circle", colour=(0.92, 0.96, 1.0), offset=(0.0, -0.6), scale=(0.4, 0.6)),
    Part(
        shape="circle",
        colour=(0.98, 0.75, 0.08),
        second_colour=(0.5, 0.1, 0.3),
        pattern="halves",
        offset=(0.0, 0.15),
        scale=(1.0, 0.7),
    ),
)
FLOWER: Look = (
    Part(shape="star", colour=(0.2, 0.9, 0.8), second_colour=(0.9, 0.3, 0.7), pattern="quarters"),
    Part(shape="circle", colour=(1.0, 1.0, 0.5), scale=(0.4, 0.4)),
)
RED_SQUARE: Look = (Part(shape="square", colour=OBJECT_COLOURS["red"]),)


def _eight(reach: float = 1.0) -> Path:
    turn = 2 * torch.pi * clip_times()
    return make_path(clip_times(), x=reach * 8 * torch.sin(turn), y=reach * 7 * torch.sin(2 * turn))


def _clip(*sprites: Sprite, background: str = "grey", texture: str = "plain") -> torch.Tensor:
    tones = background_tones(BACKGROUND_COLOURS[background])
    return render(Scene(sprites=sprites, tones=tones, texture=texture))


def _sprite(look: Look, path: Path | None = None, place: tuple[float, float] = (32, 32)) -> Sprite:
    return Sprite(look=look, radius=12, place=place, path=_eight() if path is None else path)


def _still() -> Path:
    return make_path(clip_times())


@pytest.fixture(scope="module")
def reference() -> torch.Tensor:
    return _clip(_sprite(BEE))


def test_identity_is_one_for_the_same_look_elsewhere(reference: torch.Tensor):
    moved = _clip(_sprite(BEE, _still(), (20, 40)), background="green", texture="striped")
    assert identity_similarity(reference, reference) == pytest.approx(1, abs=0.02)
    assert identity_similarity(reference, moved) > 0.9


def test_identity_survives_a_lossy_model_and_a_turn(reference: torch.Tensor):
    turned = make_path(clip_times(), angle=torch.full_like(clip_times(), 2.0))
    assert identity_similarity(reference, degraded(_clip(_sprite(BEE, turned)), torch.Generator().manual_seed(0))) > 0.7


@pytest.mark.parametrize("other", [FLOWER, RED_SQUARE])
def test_identity_is_low_for_another_look(reference: torch.Tensor, other: Look):
    assert identity_similarity(reference, _clip(_sprite(other))) < 0.35


def test_identity_takes_the_sprite_that_matches(reference: torch.Tensor):
    pair = _clip(_sprite(RED_SQUARE, _still(), (14, 32)), _sprite(BEE, _still(), (48, 32)))
    assert identity_similarity(reference, pair) > 0.85
    assert identity_similarity(reference, pair, which="right") > 0.85
    assert identity_similarity(reference, pair, which="left") < 0.35


def test_figures_of_a_clip_without_a_sprite_are_zero(reference: torch.Tensor):
    empty = torch.full_like(reference, 0.4)
    assert identity_similarity(reference, empty) == 0
    assert motion_similarity(reference, empty) == 0


def test_motion_does_not_see_the_look(reference: torch.Tensor):
    other = _clip(_sprite(FLOWER, place=(28, 36)), background="brown", texture="dotted")
    assert motion_similarity(reference, other) > 0.93


def test_motion_of_a_sprite_that_stands_still_is_zero(reference: torch.Tensor):
    assert abs(motion_similarity(reference, _clip(_sprite(BEE, _still())))) < 0.05


def test_opposite_motion_is_negative(reference: torch.Tensor):
    path = _eight()
    assert motion_similarity(reference, _clip(_sprite(BEE, replace(path, x=-path.x, y=-path.y)))) < -0.7


@pytest.mark.parametrize(("strength", "expected"), [(0.5, 0.8), (1.5, 0.92)])
def test_motion_of_another_size_follows_the_formula(reference: torch.Tensor, strength: float, expected: float):
    clip = _clip(_sprite(BEE, _eight(strength)))
    assert motion_similarity(reference, clip) == pytest.approx(expected, abs=0.03)


def test_motion_allows_one_frame_of_delay(reference: torch.Tensor):
    late = torch.cat([reference[:1], reference[:-1]])
    assert motion_similarity(reference, late) > 0.95


def test_spinning_and_pulsing_are_movements():
    for motion in ("spinning", "pulsing"):
        clips = [
            _clip(replace(place_sprite(FLOWER, motion, 12, Random(0)), place=place)) for place in ((32, 32), (26, 30))
        ]
        assert motion_similarity(*clips) > 0.9
        assert abs(motion_similarity(clips[0], _clip(_sprite(FLOWER, _still())))) < 0.1


def test_adherence_is_the_share_of_what_was_asked():
    creature = SpriteWords(size="large", colour="white", shape="creature", motion="wandering")
    square = SpriteWords(size="large", colour="red", shape="square", motion="standing still")
    clip = _clip(
        _sprite(BEE, _still(), (16, 32)), replace(_sprite(RED_SQUARE, _still(), (47, 32)), radius=14), texture="striped"
    )
    asked = Caption(sprites=(creature, square), background="grey", texture="striped")
    assert prompt_adherence(clip, asked) == 1
    assert prompt_adherence(clip, replace(asked, background="pink")) == pytest.approx(5 / 6)
    assert prompt_adherence(clip, replace(asked, background="pink", camera="zooming in")) == pytest.approx(5 / 7)


def test_coherence_is_one_for_a_still_clip_and_lower_for_noise(reference: torch.Tensor):
    noise = torch.rand(reference.shape, generator=torch.Generator().manual_seed(0))
    assert temporal_coherence(reference[:1].expand_as(reference)) == pytest.approx(1)
    assert temporal_coherence(noise) < 0.1 < temporal_coherence(reference) < 1


def test_mse_of_another_length_names_both_shapes(reference: torch.Tensor):
    assert mse(reference, reference + 0.1) == pytest.approx(0.01, rel=1e-3)
    with pytest.raises(VideoError, match=r"\(17, 64, 64, 3\).*\(9, 64, 64, 3\)"):
        mse(reference, reference[:9])


def test_figures_of_the_reference_itself(reference: torch.Tensor):
    creature = SpriteWords(size="large", colour="white", shape="creature", motion="wandering")
    figures = clip_figures(reference, reference, Caption(sprites=(creature,), background="grey", texture="plain"))
    assert figures.identity > 0.98 and figures.motion > 0.99
    assert figures.adherence == 1 and figures.mse == 0
