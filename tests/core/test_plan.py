"""A training's plan predicts the measured memory. `python -m benchmarks.plan` does the same for all its settings."""

import pytest

from benchmarks.plan import SETTINGS, Setting, measured, planned, random_wan
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.config import MethodConfig, PriorConfig, SamplingConfig
from setandseq_core.prompts import Condition
from setandseq_core.training.plan import plan_training


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


@pytest.mark.filterwarnings("ignore::UserWarning")  # a warning of the profiler without a GPU
@pytest.mark.parametrize("setting", SETTINGS[::3], ids=str)
def test_memory_is_within_a_tenth_of_what_is_measured(backbone: WanBackbone, text: Condition, setting: Setting) -> None:
    assert planned(backbone, setting, text) == pytest.approx(measured(backbone, setting, text), rel=0.1)


def test_making_prior_clips_takes_the_steps_and_the_guidance_that_are_set(
    backbone: WanBackbone, text: Condition
) -> None:
    def prior(sampling: SamplingConfig) -> int:
        config = MethodConfig(rank=8, prior=PriorConfig(clips=2), sampling=sampling)
        return plan_training(backbone, (9, 96, 96), config, text=text).prior

    usual = prior(SamplingConfig())
    assert usual > 0 and usual == prior(SamplingConfig(steps=20, guidance=backbone.guidance))
    assert prior(SamplingConfig(steps=4)) == usual // 5
    assert prior(SamplingConfig(steps=4, guidance=1.0)) == usual // 10
