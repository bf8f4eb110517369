"""Prompts of the two stages (Eq. 7 of Abdal et al. 2025)."""

import unicodedata
from dataclasses import dataclass

from .errors import PromptError

MAX_CHARACTERS = 10_000
"""Maximum length of a text in a concept file."""


@dataclass(kw_only=True, slots=True, frozen=True)
class PriorPrompt:
    """A two-part prompt."""

    appearance: str
    """The set stage's prompt for the clip's frames."""
    motion: str
    """Appearance and motion in one prompt, from which the clip is made and which the sequence stage uses."""


def motion_prompt(static_prompt: str, dynamic_prompt: str) -> str:
    """T_motion = T_static + T_dynamic (Eq. 7), joined by a comma."""
    static_prompt, dynamic_prompt = static_prompt.strip().rstrip(","), dynamic_prompt.strip()
    return f"{static_prompt}, {dynamic_prompt}" if dynamic_prompt else static_prompt


def check_prompt(prompt: str, name: str) -> str:
    """Check a prompt, and return it without surrounding blanks.

    Raises:
        PromptError: the prompt is empty, too long or holds a control character.
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
            hint="Type the prompt instead of pasting it.",
        )
    return prompt.strip()


def is_control(letter: str) -> bool:
    """Whether concept files exclude this character: a control (not a line break or tab) or a lone surrogate."""
    return unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\r\t"


def two_part_prompt(appearance: str, motion: str) -> PriorPrompt:
    """A two-part prompt from an appearance and a motion, each a sentence or part of one.

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
