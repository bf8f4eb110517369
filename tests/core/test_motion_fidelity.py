"""Motion fidelity distinguishes the same motion from others, whatever moves and on any background."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from setandseq_core.embedded.world.concepts import CONCEPTS
from setandseq_core.embedded.world.scene import make_path, render
from setandseq_core.errors import MetricError
from setandseq_core.evaluate.motion_fidelity import find_tracks, motion_fidelity


def other_look(name: str, look: str, background: str = "brown") -> torch.Tensor:
    """The motion of one concept with the look and background of another, at another place."""
    clip = replace(CONCEPTS[name], look=CONCEPTS[look].look, background=background, texture="checkered")
    return render(clip.scene(place=(30, 34)))


@pytest.mark.parametrize("name", ["bee", "mushroom", "lantern", "butterfly"])
def test_the_same_movement_of_another_thing_elsewhere_is_found(name: str) -> None:
    look = "butterfly" if name == "bee" else "bee"
    assert motion_fidelity(CONCEPTS[name].frames(), other_look(name, look)) > 0.75


@pytest.mark.parametrize(("name", "other"), [("bee", "butterfly"), ("bee", "lantern"), ("mushroom", "lantern")])
def test_another_movement_of_the_same_thing_is_less(name: str, other: str) -> None:
    assert motion_fidelity(CONCEPTS[name].frames(), other_look(other, name)) < 0.55


def test_backward_is_the_opposite() -> None:
    falling = render(replace(CONCEPTS["bee"], motion=lambda u: make_path(u, y=24 * u - 12)).scene())
    assert motion_fidelity(falling, falling.flip(0)) < -0.9
    assert motion_fidelity(falling, falling) > 0.99


def test_speed_does_not_matter_but_standing_still_does() -> None:
    def circling(reach: float) -> torch.Tensor:
        def path(u: torch.Tensor) -> Any:
            return make_path(u, x=reach * torch.sin(6.28 * u), y=reach * torch.cos(6.28 * u))

        return render(replace(CONCEPTS["bee"], motion=path).scene())

    assert motion_fidelity(circling(12), circling(6)) > 0.9
    assert motion_fidelity(circling(12), circling(0)) == 0
    with pytest.raises(MetricError, match="stands still"):
        motion_fidelity(circling(0), circling(12))


def test_tracks_know_how_fast_a_thing_goes() -> None:
    clip = render(replace(CONCEPTS["bee"], motion=lambda u: make_path(u, x=32 * u - 16)).scene())
    tracks = find_tracks(clip).moving()
    assert len(tracks) > 20
    speed = tracks.velocity_KF2[tracks.seen_KF].median(dim=0).values
    assert speed.tolist() == pytest.approx([2, 0], abs=0.05)


def test_too_short_and_flat_clips_have_no_movement() -> None:
    with pytest.raises(MetricError, match="5 frames"):
        motion_fidelity(torch.rand(4, 16, 16, 3), torch.rand(4, 16, 16, 3))
    with pytest.raises(MetricError, match="No movement"):
        motion_fidelity(torch.ones(9, 16, 16, 3), torch.ones(9, 16, 16, 3))
