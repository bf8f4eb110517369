"""A prompt as a video model takes it, with masked or learned tokens (section 3.4.3 of Abdal et al. 2025).

Shape letters: B batch, K learned tokens, N tokens, D text width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .errors import PromptError


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
