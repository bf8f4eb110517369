"""Tests what benchmarks.composition counts as a success, on clips whose result is known."""

import pytest

from benchmarks.composition import Thresholds, thresholds, verdict, wilson
from benchmarks.scenes import Group, figures, prompt, truth

NEEDED = {name: Thresholds(look=0.6, motion=0.6) for name in ("bee", "lantern", "mushroom")}


@pytest.mark.parametrize("group", [("bee", "lantern"), ("lantern", "bee", "mushroom")])
def test_what_was_asked_for_is_a_success(group: Group) -> None:
    found = figures(truth(group), group)
    assert found["present"] == len(group) and found["places"] == list(group)
    assert found["mse"] == 0 and found["prompt_adherence"] == 1
    assert verdict({"group": group} | found, NEEDED) == dict.fromkeys(("present", "looks", "motions", "success"), True)


def test_who_is_where_does_not_matter() -> None:
    found = figures(truth(("lantern", "bee")), ("bee", "lantern"))
    assert found["places"] == ["lantern", "bee"]
    assert verdict({"group": ("bee", "lantern")} | found, NEEDED)["success"]


def test_one_of_them_twice_is_none() -> None:
    frames = truth(("bee", "lantern"))
    frames[:, :, 32:] = frames[:, :, :32]
    found = verdict({"group": ("bee", "lantern")} | figures(frames, ("bee", "lantern")), NEEDED)
    assert found["present"] and not found["looks"] and not found["success"]


def test_still_pictures_of_them_are_none() -> None:
    frames = truth(("bee", "lantern"))[:1].repeat(17, 1, 1, 1)
    found = verdict({"group": ("bee", "lantern")} | figures(frames, ("bee", "lantern")), NEEDED)
    assert found["looks"] and not found["motions"] and not found["success"]


def test_an_empty_place_is_seen() -> None:
    frames = truth(("bee", "lantern"))
    frames[:, :, 32:] = frames[0, 0, 0]
    assert figures(frames, ("bee", "lantern"))["present"] == 1


def test_thresholds_are_half_way_for_each_concept() -> None:
    group = ["bee", "lantern"]
    records = [
        {"way": "base", "group": group, "looks": [[0.1, 0.0], [0.0, 0.2]], "motions": [0.0, 0.4]},
        {"way": "truth", "group": group, "looks": [[0.7, 0.0], [0.0, 1.0]], "motions": [1.0, 0.8]},
    ]
    assert thresholds(records) == {
        "bee": Thresholds(look=0.4, motion=0.5),
        "lantern": Thresholds(look=0.6, motion=0.6),
    }


def test_interval_of_a_share() -> None:
    low, high = wilson(5, 6)
    assert (round(low, 2), round(high, 2)) == (0.44, 0.97)


def test_the_prompt_names_all_of_them() -> None:
    assert prompt(("bee", "lantern")) == (
        "a small [v1] creature [u1] wandering and a small [v3] creature [u3] wandering on a brown plain background"
    )
