import pytest
import torch

from setandseq_core.errors import PromptError
from setandseq_core.prompts import check_prompt, mask_tokens, motion_prompt


def test_motion_prompt_is_static_then_dynamic():
    assert motion_prompt("a sks dog in snow", "performing zub motion") == "a sks dog in snow, performing zub motion"
    assert motion_prompt("a sks dog,", " running ") == "a sks dog, running"
    assert motion_prompt("a sks dog", "") == "a sks dog"


def test_token_mask_zeroes_whole_tokens_at_the_given_rate():
    torch.manual_seed(0)
    text = torch.ones(50, 100, 8, dtype=torch.float64)
    masked = mask_tokens(text, 0.1)
    assert ((masked == 0).all(-1) | (masked == 1).all(-1)).all()
    assert abs(float((masked == 0).double().mean()) - 0.1) < 0.01


def test_masks_differ_between_prompts_of_a_batch():
    torch.manual_seed(0)
    masked = mask_tokens(torch.ones(2, 64, 4), 0.5)
    assert not torch.equal(masked[0], masked[1])


def test_zero_probability_masks_nothing():
    text = torch.randn(2, 5, 3)
    assert torch.equal(mask_tokens(text, 0.0), text)


def test_empty_prompt_says_what_to_do():
    with pytest.raises(PromptError, match="static prompt is empty. Describe the clip"):
        check_prompt(" \n", "static prompt")
    assert check_prompt(" a sks dog ", "static prompt") == "a sks dog"
