"""Prompts of the two stages, and learned tokens in them (Eq. 7 of Abdal et al. 2025).

Shape letters: B batch, N tokens, D text width.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import PromptError

MAX_CHARACTERS = 10_000
"""Largest length of a text in a concept file."""


@dataclass(kw_only=True, slots=True, frozen=True)
class PriorPrompt:
    """A two-part prompt."""

    appearance: str
    """The set stage's prompt for the clip's frames."""
    motion: str
    """Appearance and motion in one: what the clip is made from and the sequence stage is told."""


def motion_prompt(static_prompt: str, dynamic_prompt: str) -> str:
    """T_motion = T_static + T_dynamic (Eq. 7), joined by a comma."""
    static_prompt, dynamic_prompt = static_prompt.strip().rstrip(","), dynamic_prompt.strip()
    return f"{static_prompt}, {dynamic_prompt}" if dynamic_prompt else static_prompt


def check_prompt(prompt: str, name: str) -> str:
    """The prompt without surrounding blanks.

    Raises:
        PromptError: nothing is left of it, or it holds what a concept file cannot keep.
    """
    if not prompt.strip():
        raise PromptError(
            f"The {name} is empty.",
            hint="Describe the clip in words, with a token for your concept, such as 'a large [v] creature on a "
            "grey plain background'.",
        )
    if len(prompt) > MAX_CHARACTERS:
        raise PromptError(
            f"The {name} has {len(prompt)} characters; at most {MAX_CHARACTERS} fit into a concept.",
            hint="Describe the clip in a sentence or two.",
        )
    hidden = next((letter for letter in prompt if is_control(letter)), None)
    if hidden is not None:
        raise PromptError(
            f"The {name} holds a control character (code {ord(hidden)}).",
            hint="Write it anew rather than pasting it.",
        )
    return prompt.strip()


def is_control(letter: str) -> bool:
    """Whether concept files exclude this letter: a control (not a line break or tab) or a lone surrogate."""
    return unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\r\t"


def place_embeddings(text_BND: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
    """Text with learned tokens, each (D,), in its last free places: padding until then, so zeros change nothing.

    Raises:
        PromptError: the prompt is so long that there are too few.
    """
    if not embeddings:
        return text_BND
    count = len(embeddings)
    free = (~text_BND.any(dim=-1).any(dim=0)).nonzero().flatten()[-count:]
    if len(free) < count:
        raise PromptError(
            f"The prompt leaves {len(free)} of the text encoder's {text_BND.shape[1]} places free, and learned "
            f"tokens need {count}.",
            hint="Shorten the prompt.",
        )
    learned_KD = torch.stack(list(embeddings)).to(text_BND)
    return text_BND.index_copy(1, free, learned_KD.expand(len(text_BND), -1, -1))


def two_part_prompt(appearance: str, motion: str) -> PriorPrompt:
    """A prompt of an appearance and a motion, each a sentence or a part of one.

    Raises:
        PromptError: a part is empty.
    """
    appearance, motion = appearance.strip(), motion.strip()
    if not appearance or not motion:
        raise PromptError(
            f"The prior prompt '{appearance} | {motion}' lacks a part.",
            hint="Write how it looks, a bar and how it moves, such as 'A man in a blue t-shirt | He is walking in "
            "a park'.",
        )
    whole = f"{appearance}. {motion}" if motion[0].isupper() else motion_prompt(appearance, motion)
    return PriorPrompt(appearance=appearance, motion=whole)
