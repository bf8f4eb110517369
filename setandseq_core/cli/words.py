"""Warn about words that the embedded model does not know before it starts to work."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .console import tell
from .options import EMBEDDED, SamplingOptions

if TYPE_CHECKING:
    from ..concept import Concept


def tell_unknown_words(model: str, prompts: Iterable[str], learned: Iterable[str] = ()) -> None:
    """Name words that the embedded model does not know, and the nearest known ones; other models get no warning.

    Args:
        model: the value of --model.
        prompts: prompts as given to the model.
        learned: tokens, and prompts whose words a concept has learned.
    """
    from ..embedded.text import prompt_notes
    from ..embedded.world.vocabulary import sentences

    if model == EMBEDDED:
        for text in sentences(prompt_notes(", ".join(prompts), " ".join(learned))):
            tell(text)


def tell_unknown_words_of_video(
    model: str, prompt: str, sampling: SamplingOptions, concepts: Sequence["Concept"], others: Sequence[str] = ()
) -> None:
    """Like `tell_unknown_words`, for a video with concepts; words that they were trained with count as known."""
    learned = [words for concept in concepts for words in (concept.info.static_prompt, concept.motion_prompt)]
    tell_unknown_words(model, [prompt, *others, sampling.negative_prompt], learned)
