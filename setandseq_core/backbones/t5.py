"""T5 text encoders, from the `tokenizer` and `text_encoder` folders of a diffusers model.

Shape letters: N tokens, D text width.
"""

# transformers leaves some types of the functions used here open.
# pyright: reportPrivateImportUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import BackboneError, PromptError
from ..fingerprint import content_key
from .folders import ModelFiles
from .kept_text import KeptText, TextEncoder

PARTS = ("tokenizer", "text_encoder")


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

    def __init__(self, format: TextFormat, folder: Path, device: torch.device | str, dtype: torch.dtype):
        """Load both without network; pickled weights and code in the folders are refused.

        Raises:
            BackboneError: a folder is missing, or transformers cannot load it.
        """
        import transformers

        self._format = format
        for part in PARTS:
            if not (folder / part).is_dir():
                raise BackboneError(
                    f"{folder} has no folder '{part}'. {format.title} needs the tokenizer and text_encoder folders of "
                    "its diffusers release.",
                    hint="Give the folder that holds them with --text-encoder.",
                )
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder / "tokenizer",
                local_files_only=True,
                trust_remote_code=False,
            )
            encoder: Any = getattr(transformers, format.kind).from_pretrained(
                folder / "text_encoder",
                local_files_only=True,
                use_safetensors=True,
                dtype=dtype,
            )
        except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BackboneError(
                f"The text encoder in {folder} cannot be loaded ({reason}).",
                hint="Get its tokenizer and text_encoder folders again, with weights as .safetensors files.",
            ) from error
        self._encoder = encoder.to(device).eval()

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


def t5_prompts(format: TextFormat, files: ModelFiles) -> tuple[str, Callable[[], TextEncoder]]:
    """A key that identifies a text encoder by the sizes of its files, and the function that loads it."""
    folder = files.text_folder or files.model
    found = [path for part in PARTS for path in sorted((folder / part).glob("*"))]
    sizes = (f"{path.name} {path.stat().st_size}" for path in found)
    key = content_key(str(files.dtype), format.kind, str(format.places), *sizes)
    return key, partial(T5Prompts, format, folder, files.device, files.dtype)


def text_encoder(format: TextFormat, files: ModelFiles) -> TextEncoder:
    """The text encoder of a model; it loads now, or with `kept_text` when it is first needed.

    Raises:
        BackboneError: it cannot be loaded.
    """
    key, load = t5_prompts(format, files)
    return KeptText(files.kept_text, key, load) if files.kept_text else load()
