from random import Random

import pytest
import torch

from setandseq_core.embedded.text import MAX_TOKENS, WIDTH, encode_prompt, known_words, prompt_notes, words
from setandseq_core.embedded.world.captions import parse_caption
from setandseq_core.embedded.world.scene import random_caption
from setandseq_core.embedded.world.vocabulary import KNOWN, MEANINGS, NEAREST, WordNote, sentences
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


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ("a striped block on a gray background", "a striped square on a grey background"),
        ("the big Ball is jumping", "a large circle bouncing"),
        ("a tiny scarlet box which moves left", "a small red square moving left"),
        ("a ball that moves to the left on the backdrop", "a circle moving left on a background"),
        ("a (gray:1.2) [v] sks", "a grey 1 2 [v] sks"),
    ],
)
def test_everyday_words_mean_the_known_ones(said: str, known: str):
    assert known_words(said) == known.split()
    assert torch.equal(encode_prompt(said), encode_prompt(known))


def test_prompts_in_known_words_keep_their_meaning():
    assert not KNOWN & MEANINGS.keys() and {*MEANINGS.values()} <= KNOWN | {""}
    assert not NEAREST.keys() & (KNOWN | MEANINGS.keys()) and {*NEAREST.values()} <= KNOWN
    for seed in range(200):
        prompt = str(random_caption(Random(seed), sprites=2, creatures=0.2))
        assert known_words(prompt) == words(prompt) and not prompt_notes(prompt)


def test_captions_are_read_from_everyday_words():
    said = "A big red ball is jumping and a tiny blue block rotating on a gray chequered backdrop, camera pans left."
    known = "a large red circle bouncing and a small blue square spinning on a grey checkered background"
    assert parse_caption(said) == parse_caption(f"{known}, camera panning left") is not None


@pytest.mark.parametrize(
    ("prompt", "notes"),
    [
        ("a small [v] creature on a grey plain background, [u] wandering", []),
        (
            "a large sqare wobbling",
            [WordNote(word="sqare", nearest="square"), WordNote(word="wobbling", nearest="wandering")],
        ),
        ("a roatting block", [WordNote(word="roatting", nearest="spinning")]),
        ("a striped block on a gray background", [WordNote(word="striped", only_of="backgrounds")]),
        ("a red circle on a red background", [WordNote(word="red", only_of="sprites")]),
        (
            "a sks lantern, red paper, on a grey background",
            [WordNote(word="lantern", nearest="creature"), WordNote(word="paper")],
        ),
        (
            "a robot walking at night on a spotty background",
            [
                WordNote(word="robot", nearest="creature"),
                WordNote(word="walking", nearest="moving"),
                WordNote(word="at"),
                WordNote(word="night", nearest="black"),
            ],
        ),
    ],
)
def test_words_without_a_meaning_are_named(prompt: str, notes: list[WordNote]):
    assert prompt_notes(prompt, learned="a sks creature") == notes


def test_notes_are_few_sentences():
    assert sentences(prompt_notes("a striped pink sqare, wobbling quickly, on a red background")) == [
        "The embedded model was never trained on: sqare (nearest: square), wobbling (nearest: wandering), quickly.",
        "The embedded model knows these words for sprites only: red.",
    ]
    assert sentences([WordNote(word="pink", only_of="backgrounds")]) == [
        "The embedded model knows these words for backgrounds only: pink."
    ]
