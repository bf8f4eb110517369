"""Training state on disk: parameters and what the optimizer remembers of them, in one safetensors file.

The file is replaced in one step: a crash in the middle of saving leaves it as it was before.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_atomically(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file so that `path` holds either the old content or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file({name: t.detach().contiguous() for name, t in tensors.items()}, partial, dict(metadata))
    os.replace(partial, path)
