"""Encode prompts once and then read them from disk, so that most processes never load a text encoder."""

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from ..atomic import save_atomically
from ..fingerprint import content_key

TextEncoder = Callable[[str], Tensor]


class KeptText:
    """A text encoder that loads only when a prompt is not in the folder.

    Args:
        folder: folder of the encoded prompts.
        key: tells this encoder from others.
        load: loads the text encoder.
    """

    def __init__(self, folder: Path, key: str, load: Callable[[], TextEncoder]):
        self._folder = folder
        self._key = key
        self._load = load
        self._encoder: TextEncoder | None = None

    def __call__(self, prompt: str) -> Tensor:
        """Tokens of the prompt, (N, D), on the CPU; see `t5.T5Prompts`."""
        path = self._folder / f"text_{content_key(self._key, prompt)}.safetensors"
        if not path.exists():
            self._encoder = self._encoder or self._load()
            save_atomically({"text": self._encoder(prompt)}, path, {})
        return load_file(path)["text"]
