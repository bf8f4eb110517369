import pytest

from setandseq_core.errors import PromptError
from setandseq_core.prompts import check_prompt, motion_prompt


def test_motion_prompt_is_static_then_dynamic():
    assert motion_prompt("a sks dog in snow", "performing zub motion") == "a sks dog in snow, performing zub motion"
    assert motion_prompt("a sks dog,", " running ") == "a sks dog, running"
    assert motion_prompt("a sks dog", "") == "a sks dog"


def test_empty_prompt_says_what_to_do():
    with pytest.raises(PromptError, match="static prompt is empty. Describe the clip"):
        check_prompt(" \n", "static prompt")
    assert check_prompt(" a sks dog ", "static prompt") == "a sks dog"
