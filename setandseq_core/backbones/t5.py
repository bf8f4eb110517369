"""T5 text encoders, from the `tokenizer` and `text_encoder` folders of a diffusers model.

Shape letters: N tokens, D text width.
"""

# transformers leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import PromptError
from .folders import ModelFiles
from .text_files import TextSource, load_encoder, text_key


@dataclass(kw_only=True, slots=True, frozen=True)
class TextFormat:
    """How a family encodes its prompts."""

    title: str
    """Name of the family for people."""
    kind: str
    """Class of the encoder in transformers."""
    places: int = 0
    """Tokens of every prompt: zeros fill up a shorter one, and a longer one is refused. 0 leaves prompts at their own
    lengths."""


class T5Prompts:
    """A T5 encoder with its tokenizer."""

    def __init__(self, format: TextFormat, files: ModelFiles):
        """Load both; see `text_files.load_encoder`."""
        self._format = format
        self._tokenizer, encoder = load_encoder(format.title, format.kind, files)
        self._encoder = encoder.to(files.device)

    @torch.no_grad()
    def __call__(self, prompt: str) -> Tensor:
        """Tokens of the prompt, (N, D).

        Raises:
            PromptError: the prompt is too long for the model.
        """
        tokens = self._tokenizer(prompt, return_tensors="pt", add_special_tokens=True, verbose=False)
        count, places = tokens.input_ids.shape[1], self._format.places or tokens.input_ids.shape[1]
        if count > places:
            raise PromptError(
                f"The prompt has {count} tokens; {self._format.title} takes {places}.",
                hint="Shorten it.",
            )
        tokens = tokens.to(self._encoder.device)
        text = self._encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state[0]
        return nn.functional.pad(text, (0, 0, 0, places - count))


def t5_prompts(format: TextFormat, files: ModelFiles) -> TextSource:
    """The T5 encoder of a model."""
    return text_key(files, format.kind, str(format.places)), partial(T5Prompts, format, files)
