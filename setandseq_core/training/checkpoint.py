"""Training state on disk: parameters and their optimizer state in one safetensors file.

The file is replaced in one step, so a crash while saving leaves the old file intact.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor
from torch.optim import Optimizer

from ..atomic import save_atomically


def save_training(
    path: Path, parameters: Mapping[str, Tensor], optimizer: Optimizer, metadata: Mapping[str, str]
) -> None:
    """Save named parameters with their optimizer state; `metadata` holds text, such as the losses."""
    tensors = dict(parameters)
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}|{name}"] = value
    save_atomically(tensors, path, metadata)


def load_training(path: Path, parameters: Mapping[str, Tensor], optimizer: Optimizer) -> dict[str, str]:
    """Restore parameters and optimizer state in place from a file of `save_training`; return its metadata.

    Raises:
        KeyError: the file lacks one of the parameters.
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


def load_named(path: Path, beginning: str) -> dict[str, Tensor]:
    """Tensors of a saved state whose names start with `beginning`, by the rest of their names."""
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if name.startswith(beginning)]  # noqa: SIM118
        return {name.removeprefix(beginning): file.get_tensor(name) for name in names}


def read_record(path: Path) -> dict[str, str]:
    """The metadata of a saved state; its tensors are not read."""
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})
