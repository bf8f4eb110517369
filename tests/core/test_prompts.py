"""Prompts: their two parts, and their tokens, which are masked at random and joined by learned ones."""

import pytest
import torch

from setandseq_core.errors import PromptError
from setandseq_core.prompts import Condition, check_prompt, masked, motion_prompt, with_embeddings


def test_motion_prompt_is_static_then_dynamic():
    assert motion_prompt("a sks dog in snow", "performing zub motion") == "a sks dog in snow, performing zub motion"
    assert motion_prompt("a sks dog,", " running ") == "a sks dog, running"
    assert motion_prompt("a sks dog", "") == "a sks dog"


def test_empty_prompt_says_what_to_do():
    with pytest.raises(PromptError, match="static prompt is empty. Describe the clip"):
        check_prompt(" \n", "static prompt")
    assert check_prompt(" a sks dog ", "static prompt") == "a sks dog"


def texts(*shapes: tuple[int, int]) -> list[Condition]:
    """Texts that consist of ones."""
    return [Condition(tokens_ND=torch.ones(shape, dtype=torch.float64), rest="kept") for shape in shapes]


def test_token_mask_zeroes_whole_tokens_at_the_given_rate() -> None:
    torch.manual_seed(0)
    found = torch.cat([text.tokens_ND for text in masked(texts(*[(100, 8)] * 50), 0.1)])
    assert ((found == 0).all(-1) | (found == 1).all(-1)).all()
    assert abs(float((found == 0).double().mean()) - 0.1) < 0.01


def test_masks_differ_between_prompts_of_a_batch() -> None:
    torch.manual_seed(0)
    one, two = masked(texts((64, 4), (64, 4)), 0.5)
    assert not torch.equal(one.tokens_ND, two.tokens_ND)


def test_texts_of_other_lengths_are_masked_and_keep_their_length_and_all_else() -> None:
    torch.manual_seed(0)
    found = masked(texts((700, 4), (9, 4)), 0.5)
    assert [text.tokens_ND.shape[0] for text in found] == [700, 9]
    assert all(0 < float(text.tokens_ND.mean()) < 1 and text.rest == "kept" for text in found)


def test_zero_probability_masks_nothing() -> None:
    text = Condition(tokens_ND=torch.randn(5, 3))
    assert torch.equal(masked([text], 0.0)[0].tokens_ND, text.tokens_ND)


def test_learned_tokens_of_a_batch_share_their_gradient() -> None:
    learned = torch.zeros(4, requires_grad=True)
    text = Condition(tokens_ND=torch.cat([torch.ones(3, 4), torch.zeros(2, 4)]))
    found = with_embeddings([text, text], [learned])
    assert torch.equal(found[0].tokens_ND, text.tokens_ND)
    torch.stack([each.tokens_ND[-1] for each in found]).sum().backward()
    assert learned.grad is not None and torch.equal(learned.grad, torch.full((4,), 2.0))
