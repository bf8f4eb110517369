"""Load the parts of a diffusers folder without network, and say in words what does not fit.

A part is a folder with a config.json and .safetensors weights; a pipeline's folder holds several of them.
"""

# diffusers leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError

from ..errors import BackboneError

Config = Mapping[str, Any]
Model = TypeVar("Model", bound=ModelMixin)

TRAINED_HERE = (
    "The command line trains text-to-video only: use a Wan 2.1 or Wan 2.2 14B T2V model, or a diffusers folder of "
    "LTX-Video, LTX-2 or LTX-2.3. Other video models are trained in ComfyUI, by the node Train Concept."
)
DOWNLOAD_AGAIN = "Download it again."


@dataclass(kw_only=True, slots=True, frozen=True)
class ModelFiles:
    """Where the parts of a model are, and how they are loaded."""

    model: Path
    """Its diffusers folder, or a single file of the transformer alone."""
    vae: Path | None = None
    """Another VAE; None takes that of the model."""
    text_folder: Path | None = None
    """Folder of the `tokenizer` and `text_encoder` folders; None takes those of the model."""
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    """Type of the transformer's and the text encoder's weights."""
    kept_text: Path | None = None
    """Folder of encoded prompts; the text encoder loads only for a prompt that is not there."""


def some(keys: Iterable[str], most: int = 3) -> str:
    """The first of the names in words, and how many more there are."""
    names = sorted(keys)
    if not names:
        return "no key at all"
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def class_in(file: Path) -> str | None:
    """The class that a config.json or model_index.json names; None if it names none.

    Raises:
        OSError, ValueError: the file is missing or is no JSON.
    """
    config = json.loads(file.read_text(encoding="utf-8"))
    return config.get("_class_name") if isinstance(config, dict) else None


def part_in(path: Path, part: str) -> tuple[Path, str | None]:
    """The folder of a part, which is inside a pipeline's folder or `path` itself, and the class that it names.

    Raises:
        BackboneError: there is no readable config.json.
    """
    folder = path / part if (path / part / "config.json").is_file() else path
    try:
        return folder, class_in(folder / "config.json")
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"{path}: no readable config.json in it or in its folder {part!r} ({error}).",
            hint="Give a diffusers folder.",
        ) from error


def load_part(
    path: Path,
    part: str,
    dtype: torch.dtype,
    model_class: type[Model],
    check: Callable[[Config], None] | None = None,
) -> Model:
    """Load a model from a diffusers folder in evaluation mode on the CPU; pickled weights are refused.

    Args:
        path: folder of the pipeline or of the part alone.
        part: name of its folder in a pipeline, such as "transformer".
        dtype: type of the weights, except those that diffusers always keeps in float32.
        check: raises BackboneError if the config.json describes a variant that cannot be used.
    Raises:
        BackboneError: the folder is missing, unreadable or holds another kind of model, or its weights do not fit.
    """
    folder, found = part_in(path, part)
    if found != model_class.__name__:
        raise BackboneError(f"{folder}: holds a {found}, not a {model_class.__name__}.", hint=TRAINED_HERE)
    try:
        if check:
            check(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        loaded: Any = model_class.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, torch_dtype=dtype, output_loading_info=True
        )
    except BackboneError as error:
        raise BackboneError(f"{folder}: {error.message}", hint=error.hint) from error
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        raise BackboneError(f"{folder}: {error}", hint=DOWNLOAD_AGAIN) from error
    model, report = loaded
    if wrong := {key for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in report[kind]}:
        raise BackboneError(
            f"{folder}: weights do not fit its config.json: {some(map(str, wrong))}.", hint=DOWNLOAD_AGAIN
        )
    return model.eval()
