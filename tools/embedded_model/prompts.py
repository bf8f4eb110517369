"""Prompts for the transformer's training: in varying wordings, encoded on the model's device.

`text.encode_prompt` encodes one prompt on the CPU. A GPU needs thousands of prompts per second, so here a prompt is a
row of word numbers, and the same arithmetic runs on all prompts of a batch at once. Shape letters: B prompts, N places
for words, D text width, V words.
"""

from random import Random

import torch
from torch import Tensor

from setandseq_core.embedded.text import (
    MAX_TOKENS,
    NEIGHBOUR_SHARE,
    PLACE_SHARE,
    REACH,
    known_words,
    own_vectors,
    place_vectors,
)

from .precision import fast_type

WORDINGS = ("full", "motion", "static")
WORDING_SHARES = (0.65, 0.2, 0.15)
STRANGE_WORDS = 1000
"""Number of made-up words, which the model learns to ignore."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Prompts:
    """Prompts of a pool of clips as word numbers: 0 for no word, then known words, then made-up words."""

    def __init__(self, captions: list[dict[str, str]], device: str = "cpu"):
        """Number the words of all captions and put every word's vector on the device."""
        found = [[known_words(caption[wording]) for wording in WORDINGS] for caption in captions]
        known = sorted({word for wordings in found for words in wordings for word in words})
        numbers = {word: index + 1 for index, word in enumerate(known)}
        rng = Random("strange words")
        strange = ["".join(rng.choices(LETTERS, k=rng.randint(2, 6))) for _ in range(STRANGE_WORDS)]
        self._first_strange = len(known) + 1
        self._words = torch.zeros(len(captions), len(WORDINGS), MAX_TOKENS, dtype=torch.int32)
        for index, wordings in enumerate(found):
            for at, words in enumerate(wordings):
                self._words[index, at, : len(words)] = torch.tensor([numbers[word] for word in words])
        vectors = own_vectors([*known, *strange])
        dtype = torch.float32 if device == "cpu" else torch.float16  # float16 suffices for small sums of signs
        self._vectors = torch.cat([torch.zeros_like(vectors[:1]), vectors]).to(device, dtype)
        self._places = place_vectors(MAX_TOKENS).to(device, dtype)

    def draw(self, clips: Tensor, empty: float, strange: float, generator: torch.Generator) -> Tensor:
        """Words (B, N) of prompts for the clips with these numbers, each in a random wording.

        Args:
            empty: share of prompts without words.
            strange: share of prompts with an inserted made-up word.
        """
        count = len(clips)
        wording = torch.multinomial(torch.tensor(WORDING_SHARES), count, replacement=True, generator=generator)
        words = self._words[clips, wording].long()
        lengths = (words > 0).sum(1, keepdim=True)
        made_up = torch.randint(self._first_strange, len(self._vectors), (count, 1), generator=generator)
        put_in = torch.rand(count, 1, generator=generator) < strange
        at = (torch.rand(count, 1, generator=generator) * lengths).long()
        place = torch.arange(MAX_TOKENS).expand(count, -1)
        longer = torch.where(place < at, words, words.roll(1, 1))
        words = torch.where(put_in, torch.where(place == at, made_up, longer), words)
        return words.masked_fill(torch.rand(count, 1, generator=generator) < empty, 0)

    def encode(self, words: Tensor) -> Tensor:
        """Encode words (B, N) into tokens (B, N, D) in the fast type; see `text.encode_words`."""
        words = words.to(self._vectors.device, non_blocking=True)
        there = (words > 0).unsqueeze(-1)
        own = self._vectors[words]
        mixed = own + PLACE_SHARE * self._places
        for distance in range(1, REACH + 1):
            share = NEIGHBOUR_SHARE**distance
            mixed[:, :-distance] += share * own[:, distance:].roll(distance, 2)
            mixed[:, distance:] += share * own[:, :-distance].roll(-distance, 2)
        scale = mixed.float().square().mean(2, keepdim=True).rsqrt()
        return (mixed * scale).masked_fill(~there, 0).to(fast_type(scale.device))
