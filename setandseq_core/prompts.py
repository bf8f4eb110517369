"""Prompts as people write them (Eq. 7 of Abdal et al. 2025), and as a video model takes them: as tokens.

Shape letters: B batch, K learned tokens, N tokens, D text width.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

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


@dataclass(kw_only=True, slots=True, frozen=True, eq=False)
class Condition:
    """The tokens of one prompt, with all other inputs of the model except the latents.

    The method changes tokens only: it masks some of them and puts learned ones into free places.
    """

    tokens_ND: Tensor
    rest: object = None
    """Other inputs of the model, such as a pooled text or a first frame; only the backbone knows their form."""
    key: str = ""
    """Hash of `rest`, so that a training resumes only with the same inputs; "" if there are none."""
    known: int = 0
    """Number of first latent frames that `rest` gives the model without noise, so that it does not predict them."""

    def content(self) -> list[Tensor | str]:
        """Everything that a result depends on, for the run's key."""
        return [self.tokens_ND, self.key] if self.key else [self.tokens_ND]

    def with_tokens(self, tokens_ND: Tensor) -> "Condition":
        return replace(self, tokens_ND=tokens_ND)


def predicted_weights(text: Condition, latents_CFHW: Tensor, weights_1FHW: Tensor | None = None) -> Tensor | None:
    """Loss weights, broadcastable to (1, F, H, W), that leave out the latent frames that the model is given.

    Args:
        weights_1FHW: weight of each position; None weights all equally, and stays None if everything is predicted.
    """
    if not text.known:
        return weights_1FHW
    frames = torch.arange(latents_CFHW.shape[1], device=latents_CFHW.device)
    predicted_1F11 = (frames >= text.known).to(latents_CFHW.dtype).view(1, -1, 1, 1)
    return predicted_1F11 if weights_1FHW is None else predicted_1F11 * weights_1FHW


def stacked_tokens(texts: Sequence[Condition]) -> Tensor:
    """Tokens (B, N, D) of texts that all have the same number of tokens."""
    return torch.stack([text.tokens_ND for text in texts])


def place_embeddings(text_BND: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
    """Text with learned tokens, each (D,), in its last padding places. Padding is zeros, so zero tokens change nothing.

    Raises:
        PromptError: the prompt is so long that too few places are free.
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


def with_embeddings(texts: Sequence[Condition], embeddings: Sequence[Tensor]) -> list[Condition]:
    """Texts of equal length, with learned tokens, each (D,), in their last free places; see `place_embeddings`."""
    if not embeddings:
        return list(texts)
    placed_BND = place_embeddings(stacked_tokens(texts), embeddings)
    return [text.with_tokens(tokens_ND) for text, tokens_ND in zip(texts, placed_BND, strict=True)]


def masked(texts: Sequence[Condition], probability: float) -> list[Condition]:
    """Texts with each of their tokens set to zero with the given probability (section 3.4.3 of Abdal et al. 2025)."""
    longest = max(len(text.tokens_ND) for text in texts)
    kept_BN1 = torch.rand(len(texts), longest, 1, device=texts[0].tokens_ND.device) >= probability
    return [
        text.with_tokens(text.tokens_ND * kept_N1[: len(text.tokens_ND)])
        for text, kept_N1 in zip(texts, kept_BN1, strict=True)
    ]
