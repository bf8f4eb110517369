"""Presets: the settings of train nodes without a settings node, and the inputs that a preset overrides."""

from collections.abc import Callable
from typing import Any

import pytest

from setandseq_core.config import PRESETS

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings


@pytest.fixture
def chosen(run: Callable[..., Any]) -> Callable[[str], Any]:
    """The options of Training Settings with a preset and its other inputs at their defaults."""

    def options(preset: str) -> Any:
        numbers = {"batch": 2, "identity_dropout": 0.8, "motion_dropout": 0.5, "token_masking": 0.1}
        others = {"weight_decay": 0.01, "gradient_clipping": 0.05, "time_from": 0.0, "time_to": 1.0}
        saving = {"gradient_checkpointing": "auto", "preview_every": 50}
        return run("TrainingSettings", **numbers, **others, **saving, preset=preset).args[0]

    return options


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_batch_steps_and_practice_clips(chosen: Callable[[str], Any], preset: str) -> None:
    found, wanted = chosen(preset), PRESETS[preset]
    assert found.config.as_dict() == wanted.as_dict()
    assert found.steps("set", 7) == wanted.set_stage.steps
    assert found.steps("sequence", 7) == wanted.sequence_stage.steps


def test_without_a_preset_the_nodes_own_inputs_count(chosen: Callable[[str], Any]) -> None:
    found = chosen("values below")
    assert found.config.set_stage.batch == found.config.sequence_stage.batch == 2
    assert found.steps("set", 7) == found.steps("sequence", 7) == 7


def test_without_settings_train_nodes_take_the_standard(pack: Callable[[str], Any]) -> None:
    assert pack("nodes.settings").TrainingOptions().config.as_dict() == PRESETS["standard"].as_dict()
