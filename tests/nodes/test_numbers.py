"""Numbers that come over the API are checked before anything runs."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
NAN = float("nan")


def test_no_float_input_of_any_node_takes_what_is_no_number(pack: Pack, folders: Path) -> None:
    float_input, found = import_module("comfy_api.latest").io.Float.Input, 0
    for node in pack("nodes").NODES:
        for each in node.define_schema().inputs:
            if isinstance(each, float_input):
                found += 1
                for value in (NAN, float("inf"), float("-inf"), each.max + 1, each.min - 1):
                    assert f"{each.id} is {value}" in node.validate_inputs(**{each.id: value}), (node, each.id)
                assert node.validate_inputs(**{each.id: each.default}) is True
    assert found > 20


def test_whole_numbers_and_options_keep_their_limits(pack: Pack) -> None:
    train, compose = pack("nodes").TrainIdentityLoRA, pack("nodes").ComposeConcepts
    assert train.validate_inputs(rank=0) == "rank is 0; it must be a number from 1 to 256."
    assert train.validate_inputs(rank=32, learning_rate=None) is True
    assert compose.validate_inputs(method="blend") == "method is 'blend'; it must be one of add, regions."


@pytest.mark.parametrize("prompt", ["", "a\x07bee", "\ud800", "a" * 10_001])
def test_a_prompt_that_no_concept_can_hold_is_refused_before_anything_runs(pack: Pack, prompt: str) -> None:
    validate = pack("nodes").ReferenceClip.validate_inputs
    assert validate(static_prompt=prompt, motion_prompt="a bee dancing").startswith("The look prompt")
    assert validate(static_prompt="a [v] bee", motion_prompt=prompt).startswith("The motion prompt")
    assert validate(static_prompt="a [v] bee", motion_prompt="a [v] bee\n[u] dancing") is True
    assert validate(static_prompt=None, motion_prompt=None) is True
