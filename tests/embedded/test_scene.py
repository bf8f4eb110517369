from random import Random

import pytest
import torch

from setandseq_core.embedded.world.concepts import CONCEPTS, with_tokens
from setandseq_core.embedded.world.looks import SHAPES
from setandseq_core.embedded.world.scene import (
    FRAMES,
    MOTIONS,
    SIZE,
    Caption,
    SpriteWords,
    clip_times,
    random_caption,
    render,
    scene_of,
    wide_scene,
)


def caption(**changes) -> Caption:
    words = {"size": "large", "colour": "red", "shape": "circle", "motion": "moving left", **changes}
    return Caption(sprites=(SpriteWords(**words),), background="grey", texture="plain")


def centre(frames):
    """Mean x and y of the red pixels in every frame."""
    mask = ((frames[..., 0] - frames[..., 1]) > 0.3).float()
    grid = torch.arange(SIZE).float()
    total = mask.sum((1, 2))
    return (mask.sum(1) @ grid) / total, (mask.sum(2) @ grid) / total


def test_prompts_say_look_motion_background_and_camera():
    second = SpriteWords(size="small", colour="blue", shape="star", motion="spinning")
    whole = Caption(
        sprites=(*caption(motion="bouncing").sprites, second),
        background="green",
        texture="striped",
        camera="panning left",
    )
    assert str(whole) == (
        "a large red circle bouncing and a small blue star spinning on a green striped background, camera panning left"
    )
    assert whole.static == "a large red circle and a small blue star on a green striped background"
    assert whole.motion == f"{whole.static}, bouncing and spinning, camera panning left"
    assert "creature" in str(caption(shape="creature")) and "red" not in str(caption(shape="creature"))


@pytest.mark.parametrize("scene", ["caption", "wide"])
def test_same_seed_same_clip(scene):
    def clip():
        rng = Random(3)
        return render(
            scene_of(random_caption(rng, sprites=2, creatures=0.5), rng) if scene == "caption" else wide_scene(rng)
        )

    frames = clip()
    assert frames.shape == (FRAMES, SIZE, SIZE, 3) and float(frames.min()) >= 0 and float(frames.max()) <= 1
    assert torch.equal(frames, clip())


def test_one_frame_of_a_clip_is_that_frame():
    rng = Random(5)
    scene = scene_of(random_caption(rng, sprites=2, creatures=0.5), rng)
    assert torch.equal(render(scene, 7)[0], render(scene)[7])


def test_motions_move_as_they_say():
    x, y = centre(render(scene_of(caption(motion="moving left"), Random(0))))
    assert float(x[-1] - x[0]) < -15 and float((y - y[0]).abs().max()) < 1
    x, y = centre(render(scene_of(caption(motion="falling"), Random(0))))
    assert float(y[-1] - y[0]) > 15 and float((x - x[0]).abs().max()) < 1
    x, y = centre(render(scene_of(caption(motion="circling"), Random(0))))
    assert float((x[-1] - x[0]).abs()) < 1.5 and float(x.max() - x.min()) > 15 and float(y.max() - y.min()) > 15
    frames = render(scene_of(caption(motion="standing still"), Random(0)))
    assert torch.equal(frames[0], frames[-1])


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_cover_about_their_radius(shape):
    frames = render(scene_of(caption(shape=shape, motion="standing still"), Random(1)))
    area = float(((frames[0, ..., 0] - frames[0, ..., 1]) > 0.3).sum())
    assert 0.25 * 3.14 * 14**2 < area < 1.3 * 3.14 * 14**2


def test_sprites_stay_in_sight():
    for seed in range(40):
        rng = Random(seed)
        scene = scene_of(random_caption(rng, sprites=1), rng)
        (sprite,) = scene.sprites
        x, y = sprite.place[0] + sprite.path.x, sprite.place[1] + sprite.path.y
        assert float(min(x.min(), y.min())) > 0 and float(max(x.max(), y.max())) < SIZE


def test_held_out_combinations_are_one_in_eight_and_never_mixed_in():
    rng = Random(0)
    captions = [random_caption(rng, sprites=1) for _ in range(300)]
    assert not any(c.held_out for c in captions)
    assert all(random_caption(rng, sprites=2, held_out=True).held_out for _ in range(20))


def test_a_pan_scrolls_the_background_only():
    words = caption(motion="standing still").sprites
    moving = Caption(sprites=words, background="grey", texture="striped", camera="panning left")
    frames = render(scene_of(moving, Random(2)))
    x, _ = centre(frames)
    assert float((x - x[0]).abs().max()) < 0.5 and not torch.equal(frames[0, 0], frames[8, 0])


def test_every_motion_gives_a_pose_for_every_frame():
    for motion in MOTIONS.values():
        path = motion(clip_times(), 10.0, Random(0))
        assert all(len(values) == FRAMES for values in (path.x, path.y, path.angle, path.scale_x, path.scale_y))


@pytest.mark.parametrize("name", CONCEPTS)
def test_concept_clips_move_and_are_named_by_their_tokens(name):
    clip = CONCEPTS[name]
    frames = clip.frames()
    assert frames.shape == (FRAMES, SIZE, SIZE, 3) and float((frames - frames[0]).abs().max()) > 0.3
    assert "[v] creature" in clip.static_prompt and "[u] wandering" in clip.motion_prompt
    assert "wandering" not in clip.static_prompt


def test_tokens_go_to_the_concept_and_not_to_the_second_sprite():
    second = SpriteWords(size="small", colour="red", shape="star", motion="bouncing")
    prompt = with_tokens(str(CONCEPTS["bee"].edited(second=second, background="brown", texture="checkered")))
    assert prompt == (
        "a large [v] creature [u] wandering and a small red star bouncing on a brown checkered background"
    )
