"""The plan of a training: its memory is as measured. `python -m benchmarks.plan` does the same for all its settings."""

import pytest

from benchmarks.plan import SETTINGS, Setting, measured, planned, random_wan
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.condition import Condition


@pytest.fixture(scope="module")
def backbone() -> WanBackbone:
    """A random Wan of three blocks."""
    return random_wan()


@pytest.fixture(scope="module")
def text(backbone: WanBackbone) -> Condition:
    """A prompt."""
    return backbone.encode_prompt("a sks blob")


def test_there_are_twelve_settings() -> None:
    assert len(set(SETTINGS)) == 12


@pytest.mark.filterwarnings("ignore::UserWarning")  # the profiler's, where there is no GPU
@pytest.mark.parametrize("setting", SETTINGS[::3], ids=str)
def test_memory_is_within_a_tenth_of_what_is_measured(backbone: WanBackbone, text: Condition, setting: Setting) -> None:
    assert planned(backbone, setting, text) == pytest.approx(measured(backbone, setting, text), rel=0.1)
