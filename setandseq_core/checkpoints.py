"""Training state on disk: parameters and what the optimizer remembers of them, in one safetensors file.

The file is replaced in one step: a crash in the middle of saving leaves it as it was before.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer


def save_atomically(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file so that `path` holds either the old content or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file({name: t.detach().contiguous() for name, t in tensors.items()}, partial, dict(metadata))
    os.replace(partial, path)


def save_training(
    path: Path, parameters: Mapping[str, Tensor], optimizer: Optimizer | None, metadata: Mapping[str, str]
) -> None:
    """Save named parameters with the optimizer's memory of them, if any; `metadata` is text, such as the step."""
    tensors = dict(parameters)
    memory = optimizer.state if optimizer else {}
    for name, parameter in parameters.items():
        for key, value in memory.get(parameter, {}).items():
            tensors[f"{key}|{name}"] = value
    save_atomically(tensors, path, metadata)


def load_training(path: Path, parameters: Mapping[str, Tensor], optimizer: Optimizer) -> dict[str, str]:
    """Restore in place what `save_training` wrote, and return its metadata.

    Raises:
        KeyError: the file holds other parameters than the ones given.
    """
    with safe_open(path, "pt") as file:
        names = set(file.keys())
        for name, parameter in parameters.items():
            parameter.data.copy_(file.get_tensor(name))
            for stored in (n for n in names if n.endswith(f"|{name}")):
                key = stored.removesuffix(f"|{name}")
                device = "cpu" if key == "step" else parameter.device
                optimizer.state[parameter][key] = file.get_tensor(stored).to(device)
        return dict(file.metadata() or {})
