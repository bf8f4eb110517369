from random import Random

import pytest
import torch

from setandseq_core.embedded.world.scene import SIZE, render
from tools.embedded_model.scenes import fast_scene, grammar_scene, lively_scene, near_sprites, unnamed_scene


@pytest.mark.parametrize("scene_of", [grammar_scene, lively_scene, fast_scene])
def test_a_seed_names_a_scene_whose_sprites_are_in_their_boxes(scene_of):
    for seed in range(20):
        scene = scene_of(Random(seed))
        frames_FHWC, near_FHW = render(scene), near_sprites(scene)
        assert torch.equal(frames_FHWC, render(scene_of(Random(seed))))
        assert frames_FHWC.shape == (17, SIZE, SIZE, 3) and frames_FHWC.min() >= 0 and frames_FHWC.max() <= 1
        assert 0.01 < near_FHW.float().mean() < 0.9


def test_a_fast_sprite_moves_by_about_its_size_in_a_frame():
    steps = []
    for seed in range(40):
        (sprite,) = fast_scene(Random(seed)).sprites
        moved = torch.hypot(sprite.path.x.diff(), sprite.path.y.diff())
        steps.append(float(moved.max()) / sprite.radius)
    assert min(steps) > 1 and sum(steps) / len(steps) > 2


def test_unnamed_scenes_are_creatures_that_wander_small_ones_too():
    found = [unnamed_scene(Random(seed)) for seed in range(30)]
    assert {caption.sprites[0].size for _, caption in found} == {"small", "large"}
    assert all(len(scene.sprites) == 1 and not caption.held_out for scene, caption in found)
    assert all(" creature wandering on a " in str(caption) for _, caption in found)
    assert all(scene.texture == caption.texture and scene.camera == caption.camera for scene, caption in found)
