"""The text of LTX-2: Gemma 3, from the `tokenizer` and `text_encoder` folders, and the model's own connectors.

The connectors read the states of all layers of Gemma. They fill a prompt up with what they learned for empty places, so
nothing of the text that the transformer reads is padding.

Shape letters: N tokens, W width of Gemma, L its layers and one for its embeddings, D text width.
"""

# transformers and diffusers leave some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from torch import Tensor, nn

from ..errors import BackboneError
from .folders import ModelFiles, load_part
from .text_files import TextSource, load_encoder, text_key

TITLE = "LTX-2"
KIND = "Gemma3ForConditionalGeneration"
PLACES = 1024
"""Places that a prompt is filled up to; a longer one takes as many as it needs, as in ComfyUI."""
TAIL = 4096
"""Bytes at the end of a file of weights by which one model's connectors are told from another's."""


class GemmaPrompts:
    """Gemma 3 without the part that sees pictures, with its tokenizer and the connectors of a model."""

    def __init__(self, files: ModelFiles):
        """Load all of them; see `text_files.load_encoder`.

        Raises:
            BackboneError: a folder is missing, or is not of the expected kind.
        """
        connectors: Any = load_part(files.model, "connectors", files.dtype, LTX2TextConnectors)
        self._tokenizer, whole = load_encoder(TITLE, KIND, files)
        self._encoder = whole.model.language_model.to(files.device)
        self._connectors = connectors.to(files.device)
        _check_fit(self._encoder.config, connectors.config)

    @torch.no_grad()
    def __call__(self, prompt: str) -> Tensor:
        """Encode a prompt for the picture's branch of the transformer, (N, D)."""
        tokens = self._tokenizer(prompt, return_tensors="pt", add_special_tokens=True, verbose=False)
        tokens = tokens.to(self._encoder.device)
        count = tokens.input_ids.shape[1]
        states = self._encoder(tokens.input_ids, tokens.attention_mask, use_cache=False, output_hidden_states=True)
        states_1NWL = torch.stack(states.hidden_states, dim=-1)
        places = self._places(count)
        filled_1NWL = nn.functional.pad(states_1NWL, (0, 0, 0, 0, 0, places - count))
        mask_1N = (torch.arange(places, device=states_1NWL.device) < count).long().unsqueeze(0)
        return self._connectors(filled_1NWL, mask_1N, padding_side="right")[0][0]

    def _places(self, count: int) -> int:
        """Places for that many tokens: a multiple of the number of values that the connectors fill them up with."""
        values = self._connectors.config["video_connector_num_learnable_registers"] or 1
        return math.ceil(max(count, PLACES) / values) * values


def _check_fit(gemma: Any, connectors: Any) -> None:
    needed = connectors["text_proj_in_factor"], connectors["caption_channels"]
    found = gemma.num_hidden_layers + 1, gemma.hidden_size
    if found != needed:
        raise BackboneError(
            f"The text encoder gives {found[0]} states of width {found[1]}; the connectors of the model need "
            f"{needed[0]} of width {needed[1]}.",
            hint="Use the Gemma 3 that belongs to the model.",
        )


def gemma_prompts(files: ModelFiles) -> TextSource:
    """The text encoder of an LTX-2 model."""
    tails = [_tail(path) for path in sorted((files.model / "connectors").glob("*.safetensors"))]
    return text_key(files, KIND, *tails), partial(GemmaPrompts, files)


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(-min(TAIL, path.stat().st_size), os.SEEK_END)
        return file.read().hex()
