"""The embedded text encoder: every word, known or not, has its own vector; nothing is learned or downloaded.

A word's vector is 4096 signs from the SHAKE-256 hash of its letters, so it is the same on every machine. A token is the
sum of its word's vector, its neighbours' vectors rolled by their distance (so that "red circle" and "circle red"
differ, and "circle" carries its colour), and a vector for its place in the prompt.
"""

import re
from functools import lru_cache
from hashlib import shake_256

import torch
from torch import Tensor

from ..errors import PromptError
from .world.vocabulary import WordNote, meant, word_notes

WIDTH = 4096
MAX_TOKENS = 48
REACH = 3
"""Number of neighbours on each side that are mixed into a token."""
NEIGHBOUR_SHARE = 0.6
"""Weight of the next word; the word after that has the square of this weight, and so on."""
PLACE_SHARE = 0.5


def words(prompt: str) -> list[str]:
    """Words of the prompt in lower case, without punctuation."""
    return re.findall(r"[\w\[\]'*-]+", prompt.lower())


def known_words(prompt: str) -> list[str]:
    """Words of the prompt, with everyday words replaced by known words of the same meaning."""
    return meant(words(prompt))


def prompt_notes(prompt: str, learned: str = "") -> list[WordNote]:
    """Notes on words of the prompt that the embedded model does not understand; see `word_notes`.

    Args:
        learned: prompts whose words a concept has learned.
    """
    return word_notes(words(prompt), words(learned))


@lru_cache(maxsize=4096)
def _signs(text: str) -> Tensor:
    bits = torch.frombuffer(bytearray(shake_256(text.encode()).digest(WIDTH // 8)), dtype=torch.uint8)
    return ((bits.unsqueeze(1) >> torch.arange(8)) & 1).flatten().float() * 2 - 1


def own_vectors(found: list[str]) -> Tensor:
    """The own vector of every word, (words, WIDTH)."""
    return torch.stack([_signs(f"word {word}") for word in found])


def place_vectors(count: int) -> Tensor:
    """The vectors of the first `count` places in a prompt, (count, WIDTH)."""
    return torch.stack([_signs(f"place {index}") for index in range(count)])


def encode_prompt(prompt: str) -> Tensor:
    """Tokens of the prompt, (MAX_TOKENS, WIDTH), padded with zeros; the empty prompt is all zeros.

    Raises:
        PromptError: the prompt has more than MAX_TOKENS words.
    """
    return encode_words(known_words(prompt))


def encode_words(found: list[str]) -> Tensor:
    """Like `encode_prompt`, for a prompt that is already split into words."""
    if len(found) > MAX_TOKENS:
        raise PromptError(
            f"The prompt has {len(found)} words; the embedded text encoder takes {MAX_TOKENS}.",
            hint=f"Shorten it: '{' '.join(found)}'",
        )
    tokens = torch.zeros(MAX_TOKENS, WIDTH)
    if not found:
        return tokens
    own = own_vectors(found)
    mixed = own + PLACE_SHARE * place_vectors(len(found))
    for distance in range(1, min(REACH, len(found) - 1) + 1):
        share = NEIGHBOUR_SHARE**distance
        mixed[:-distance] += share * own[distance:].roll(distance, 1)
        mixed[distance:] += share * own[:-distance].roll(-distance, 1)
    tokens[: len(found)] = mixed / mixed.square().mean(1, keepdim=True).sqrt()
    return tokens
