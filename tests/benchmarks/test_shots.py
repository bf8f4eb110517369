"""The shots that every method has to make."""

import pytest

from benchmarks.shots import shots
from setandseq_core.embedded.world.concepts import CONCEPTS


@pytest.mark.parametrize("name", CONCEPTS)
def test_an_edit_changes_what_it_says(name: str) -> None:
    clip = CONCEPTS[name]
    found = shots(clip)
    assert len({str(shot.caption) for shot in found}) == 5
    for shot in found:
        other_place = (shot.caption.background, shot.caption.texture) != (clip.background, clip.texture)
        assert other_place == (shot.task == "background")
        assert (len(shot.caption.sprites) == 2) == (shot.task == "second object")
