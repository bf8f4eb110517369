import pytest
import torch

from setandseq_core.embedded.text import MAX_TOKENS, WIDTH, encode_prompt, words
from setandseq_core.errors import PromptError


def test_tokens_have_unit_size_and_padding_is_zero():
    tokens = encode_prompt("A red circle, bouncing!")
    assert tokens.shape == (MAX_TOKENS, WIDTH)
    torch.testing.assert_close(tokens[:4].square().mean(1), torch.ones(4))
    assert not tokens[4:].any() and not encode_prompt("").any()


def test_words_keep_their_embedding_for_ever():
    first = [round(value, 4) for value in encode_prompt("sks")[0, :6].tolist()]
    assert first == [0.4459, -1.3377, 1.3377, 0.4459, -0.4459, -1.3377]


def test_case_and_punctuation_do_not_matter_and_order_does():
    assert torch.equal(encode_prompt("A Red, circle."), encode_prompt("a red circle"))
    assert not torch.equal(encode_prompt("red circle")[0], encode_prompt("circle red")[1])


def test_unknown_words_differ_from_each_other():
    one, two = encode_prompt("sks")[0], encode_prompt("zub")[0]
    assert abs(float(torch.nn.functional.cosine_similarity(one, two, 0))) < 0.5


def test_a_word_knows_its_neighbours():
    red, blue = encode_prompt("a red circle")[2], encode_prompt("a blue circle")[2]
    assert 0.5 < float(torch.nn.functional.cosine_similarity(red, blue, 0)) < 0.95


def test_words_are_split_at_blanks_and_punctuation():
    assert words("a [v] person, in-door; it's") == ["a", "[v]", "person", "in-door", "it's"]


def test_too_long_prompt_says_how_long_it_may_be():
    with pytest.raises(PromptError, match="has 49 words; the embedded text encoder takes 48"):
        encode_prompt("word " * 49)
