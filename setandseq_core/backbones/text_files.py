"""The tokenizer and the text encoder of a model, as transformers reads them from its folder."""

# transformers leaves some types of the functions used here open.
# pyright: reportPrivateImportUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..errors import BackboneError
from ..fingerprint import content_key
from .folders import ModelFiles
from .kept_text import KeptText, TextEncoder

PARTS = ("tokenizer", "text_encoder")

TextSource = tuple[str, Callable[[], TextEncoder]]
"""A key that identifies a text encoder by its files, and the function that loads it."""


def load_encoder(title: str, kind: str, files: ModelFiles) -> tuple[Any, Any]:
    """Load a tokenizer and a text encoder without network; pickled weights and code in the folders are refused.

    Args:
        title: name of the model's family for people.
        kind: class of the encoder in transformers.
    Returns:
        The tokenizer, and the encoder on the CPU in evaluation mode.
    Raises:
        BackboneError: a folder is missing, holds another kind of encoder, or transformers cannot load it.
    """
    import transformers

    folder = text_folder(files)
    for part in PARTS:
        if not (folder / part).is_dir():
            raise BackboneError(
                f"{folder} has no folder '{part}'. {title} needs the tokenizer and text_encoder folders of "
                "its diffusers release.",
                hint="Give the folder that holds them with --text-encoder.",
            )
    encoder_class = getattr(transformers, kind)
    try:
        config: Any = transformers.AutoConfig.from_pretrained(
            folder / "text_encoder",
            local_files_only=True,
            trust_remote_code=False,
        )
        if not isinstance(config, encoder_class.config_class):
            needed = encoder_class.config_class.model_type
            raise BackboneError(
                f"{folder / 'text_encoder'}: holds a {config.model_type}, not a {needed}.",
                hint=f"Use the text encoder of {title}.",
            )
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder / "tokenizer",
            local_files_only=True,
            trust_remote_code=False,
        )
        encoder = encoder_class.from_pretrained(
            folder / "text_encoder",
            local_files_only=True,
            use_safetensors=True,
            dtype=files.dtype,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(
            f"The text encoder in {folder} cannot be loaded ({reason}).",
            hint="Get its tokenizer and text_encoder folders again, with weights as .safetensors files.",
        ) from error
    return tokenizer, encoder.eval()


def text_folder(files: ModelFiles) -> Path:
    """The folder of the `tokenizer` and `text_encoder` folders."""
    return files.text_folder or files.model


def text_key(files: ModelFiles, *more: str) -> str:
    """Identifies a text encoder by the sizes of its files, its type and whatever else its result depends on."""
    found = [path for part in PARTS for path in sorted((text_folder(files) / part).glob("*"))]
    sizes = (f"{path.name} {path.stat().st_size}" for path in found)
    return content_key(str(files.dtype), *more, *sizes)


def text_encoder(source: TextSource, files: ModelFiles) -> TextEncoder:
    """The text encoder of a model; it loads now, or with `kept_text` when it is first needed.

    Raises:
        BackboneError: it cannot be loaded.
    """
    key, load = source
    return KeptText(files.kept_text, key, load) if files.kept_text else load()
