"""Prior clips and their two-part prompts: an appearance and a motion (section 3.4.1).

Shape letters: K prior clips, S frames of a clip taken one by one, C latent channels, F latent frames, H, W latent
height and width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from random import Random

from torch import Tensor

from ..backbone import Backbone
from ..prompts import PriorPrompt, two_part_prompt
from .clip import Words

SUBJECTS = (
    ("A man in a blue t-shirt", "He is walking in a park"),
    ("An old woman in a red coat", "She is waving from a doorstep"),
    ("A child in yellow boots", "The child is jumping in a puddle on a street"),
    ("A woman in a green dress", "She is turning around on a stage"),
    ("A cook in a white apron", "The cook is stirring a pot in a kitchen"),
    ("A brown dog with a black collar", "It is running along a beach"),
    ("A grey cat with white paws", "It is stretching on a sofa"),
    ("A white horse with a long mane", "It is galloping over a meadow"),
    ("A small bird with blue wings", "It is hopping on a snowy branch"),
    ("An orange fish with dark stripes", "It is swimming between plants under water"),
    ("A red car with round lights", "It is driving through a tunnel at night"),
    ("A wooden boat with a white sail", "It is rocking on a calm lake"),
    ("A robot of brushed steel", "It is lifting a box in a factory hall"),
    ("A campfire of thick logs", "Its flames are flickering in a dark forest"),
    ("A tree with yellow leaves", "It is swaying in the wind on a hill"),
    ("A glass of water with ice", "It is being filled on a table by a window"),
)
"""Two-part prompts for models of the real world: people, animals, things."""


@dataclass(kw_only=True, slots=True, frozen=True, eq=False)
class PriorSet:
    """Clips from the base model, for prior preservation."""

    prompts: tuple[PriorPrompt, ...]
    latents_KCFHW: Tensor
    frames_KSCFHW: Tensor
    """Some frames of each clip, each encoded on its own (F is 1)."""


def read_prompts(text: str) -> list[PriorPrompt]:
    """Read two-part prompts from a text, one per line as "appearance | motion"; empty lines are skipped.

    Raises:
        PromptError: a line lacks one of the two parts.
    """
    lines = [line.partition("|") for line in text.splitlines() if line.strip()]
    return [two_part_prompt(appearance, motion) for appearance, _, motion in lines]


def real_world_prompts(_count: int, _seed: int, _own: str) -> list[PriorPrompt]:
    """Two-part prompts for models of the real world: always the same 16 people, animals and objects."""
    return [two_part_prompt(*parts) for parts in SUBJECTS]


def automatic_prompts(backbone: Backbone, words: Sequence[Words], count: int, seed: int = 0) -> list[PriorPrompt]:
    """Prompts to use if none are given. Every fourth one is a concept's own prompt without tokens, as long as there are
    any; the others are scenes that the model knows."""
    bare = list(dict.fromkeys(_without_tokens(each) for each in words))
    # Several concepts have no common place to put the other scenes in, so those keep their own places.
    known = backbone.known_prompts(count, seed, bare[0].motion if len(bare) == 1 else "")
    Random(seed).shuffle(known)
    own, others = cycle(bare), cycle(known)
    return [next(own, None) or next(others) if index % 4 == 0 else next(others) for index in range(count)]


def _without_tokens(words: Words) -> PriorPrompt:
    def bare(prompt: str) -> str:
        for token in (words.identity_token, words.motion_token):
            prompt = prompt.replace(token, " ") if token else prompt
        return " ".join(prompt.split())

    return PriorPrompt(appearance=bare(words.static_prompt), motion=bare(words.motion_prompt))
