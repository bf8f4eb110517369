"""What methods are asked to show, and on what the best strengths are chosen."""

import pytest

from benchmarks.shots import OTHER_SEEDS, choosing_shots, shots
from setandseq_core.toy.concepts import CONCEPTS


@pytest.mark.parametrize("name", CONCEPTS)
def test_strengths_are_chosen_on_nothing_that_is_measured(name: str) -> None:
    measured = {str(shot.caption) for shot in shots(CONCEPTS[name])}
    chosen_on = {str(shot.caption) for shot in choosing_shots(CONCEPTS[name])}
    assert len(measured) == 5 and len(chosen_on) == 4
    assert not measured & chosen_on
    assert min(OTHER_SEEDS) >= 100


@pytest.mark.parametrize("name", CONCEPTS)
def test_an_edit_changes_what_it_says(name: str) -> None:
    clip = CONCEPTS[name]
    for shot in (*shots(clip), *choosing_shots(clip)):
        other_place = (shot.caption.background, shot.caption.texture) != (clip.background, clip.texture)
        assert other_place == (shot.task == "background")
        assert (len(shot.caption.sprites) == 2) == (shot.task == "second object")
