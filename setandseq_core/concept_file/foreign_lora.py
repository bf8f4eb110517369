"""Read plain LoRAs made by other programs, with every common spelling of their names.

Letters: O out_features, I in_features, R rank.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..compose.add import Factors
from ..errors import ConceptFileError, ConceptMismatchError
from .lora_names import DiffusersName, native_names
from .safetensors import Header, read_header, read_tensors, strict_json

_KEY = re.compile(
    r"(?P<layer>.+?)(?:"
    r"\.lora_(?P<peft>[AB])(?:\.\w+)?\.weight"  # PEFT, diffusers and most trainers; PEFT's own files name the adapter
    r"|(?:\.lora_|\.lora\.|_lora\.)(?P<side>down|up)\.weight"  # kohya, and old diffusers
    r"|\.(?P<alpha>alpha))"
)
_SIDES = {"A": "down", "B": "up"}
_DIFFUSERS_METADATA = "lora_adapter_metadata"
"""Metadata key under which diffusers keeps PEFT's settings; its files hold no alpha tensors."""
_ANOTHER_MODEL = "Connect the model that the LoRA was made for."
SHOWN = 3
"""Maximum number of names that a message quotes."""


@dataclass(kw_only=True, slots=True, frozen=True)
class ForeignLora:
    """A plain LoRA as weight changes of a model's layers."""

    factors: Factors
    """Factors by native layer name; they include the LoRA's own scale, so a weight changes by up @ down."""
    left_out: list[str]
    """Names in the file that match no layer of the model, or do not belong to a low-rank pair."""

    @property
    def rank(self) -> int:
        """The largest rank of its layers."""
        return max(down_RI.shape[0] for _, down_RI in self.factors.values())


def read_foreign_lora(
    path: Path,
    layers: Mapping[str, list[int]],
    in_diffusers: DiffusersName,
    *,
    leave_out: bool = False,
) -> ForeignLora:
    """Read a LoRA, in any program's spelling, for a model with these layers.

    Args:
        path: a .safetensors file.
        layers: weight shapes [out, in] of the model's layers by native name.
        in_diffusers: gives the name of such a layer in diffusers.
        leave_out: whether to leave out the parts of the file that do not fit; if False, they are an error.
    Raises:
        ConceptFileError: the file is damaged or not a LoRA.
        ConceptMismatchError: the LoRA has layers that the model lacks, or of another size; names some of them.
    """
    file = _LoraFile(path=path, header=read_header(path), layers=layers, in_diffusers=in_diffusers)
    fitting = file.fitting(leave_out)
    left_out = sorted(file.header.shapes.keys() - {key for keys in fitting.values() for key in keys.values()})
    if left_out and not leave_out:
        raise ConceptMismatchError(
            f"{len(left_out)} of {len(file.header.shapes)} tensors of {path.name} cannot be taken: {_some(left_out)}. "
            "They are of layers that concepts do not change, or no low-rank matrices.",
            hint="Leave them out (leave_out on the node, --leave-out on the command line): the look may then be a "
            "little different.",
        )
    tensors, everywhere = read_tensors(path), _scale_in_metadata(file.header)
    factors = {layer: _factors(tensors, keys, everywhere) for layer, keys in fitting.items()}
    for layer, (up_OR, down_RI) in factors.items():
        if not (up_OR.isfinite().all() and down_RI.isfinite().all()):
            raise ConceptFileError(
                f"Layer {layer!r} of {path.name} holds NaN or infinity.",
                hint="Get the file again.",
            )
    return ForeignLora(factors=factors, left_out=left_out)


Keys = dict[str, str]
"""Keys of one layer in the file, by "down", "up" and "alpha"."""


@dataclass(kw_only=True, slots=True, frozen=True)
class _LoraFile:
    """A LoRA file before its tensors are read, and the model that it should fit."""

    path: Path
    header: Header
    layers: Mapping[str, list[int]]
    in_diffusers: DiffusersName

    def fitting(self, leave_out: bool) -> dict[str, Keys]:
        """Keys of the layers that the model has in the same size, by native name.

        Args:
            leave_out: whether to skip layers of another size.
        """
        pairs = self._pairs()
        if not pairs:
            raise ConceptFileError(
                f"{self.path.name} is no LoRA that can be taken: it has no pairs of low-rank matrices, but "
                f"{_some(sorted(self.header.shapes))}.",
                hint="Give a LoRA as ComfyUI, diffusers or kohya's programs save it; other kinds, such as LoHa and "
                "LoKr, are not taken.",
            )
        native = native_names(self.layers, self.in_diffusers)
        known = {native[name]: keys for name, keys in pairs.items() if name in native}
        if not known:
            raise ConceptMismatchError(
                f"No layer of {self.path.name} is known in the connected model: the LoRA has {_some(sorted(pairs))}, "
                f"the model has {_some(sorted(self.layers))}.",
                hint=f"{_ANOTHER_MODEL} If it is the right one, convert the LoRA to ComfyUI's names.",
            )
        fitting = {layer: keys for layer, keys in known.items() if self._fits(layer, keys)}
        other_size = sorted(known.keys() - fitting.keys())
        if other_size and not (leave_out and fitting):
            raise ConceptMismatchError(self._misfit(other_size[0], known[other_size[0]]), hint=_ANOTHER_MODEL)
        return fitting

    def _pairs(self) -> dict[str, Keys]:
        """Keys of all low-rank pairs by the layer's name in the file."""
        found: dict[str, Keys] = {}
        for key in self.header.shapes:
            parts = _KEY.fullmatch(key)
            if parts is not None:
                role = parts["side"] or _SIDES.get(parts["peft"] or "", "alpha")
                found.setdefault(parts["layer"], {})[role] = key
        return {name: keys for name, keys in found.items() if "down" in keys and "up" in keys}

    def _shapes(self, keys: Keys) -> tuple[list[int], list[int]]:
        """Shapes of up and down."""
        return list(self.header.shapes[keys["up"]]), list(self.header.shapes[keys["down"]])

    def _fits(self, layer: str, keys: Keys) -> bool:
        up, down = self._shapes(keys)
        return len(up) == len(down) == 2 and up[1] == down[0] > 0 and [up[0], down[1]] == list(self.layers[layer])

    def _misfit(self, layer: str, keys: Keys) -> str:
        up, down = self._shapes(keys)
        return (
            f"Layer {layer!r} of {self.path.name} has matrices of shape {up} and {down}; the weight of the connected "
            f"model is {list(self.layers[layer])} there. The LoRA was made for a model of another size."
        )


def _scale_in_metadata(header: Header) -> float:
    """Alpha over rank from the settings that diffusers keeps in the metadata; 1 if there are none."""
    text = header.metadata.get(_DIFFUSERS_METADATA)
    if text is None:
        return 1.0
    settings = strict_json(text, _DIFFUSERS_METADATA)
    found = settings if isinstance(settings, dict) else {}
    alpha, rank = found.get("transformer.lora_alpha"), found.get("transformer.r")
    if not isinstance(alpha, int | float) or not isinstance(rank, int) or rank < 1:
        return 1.0
    return alpha / (rank**0.5 if found.get("transformer.use_rslora") is True else rank)


def _factors(tensors: dict[str, Tensor], keys: Keys, everywhere: float) -> tuple[Tensor, Tensor]:
    up_OR, down_RI = tensors[keys["up"]], tensors[keys["down"]]
    scale = tensors[keys["alpha"]].item() / down_RI.shape[0] if "alpha" in keys else everywhere
    return up_OR * scale, down_RI


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{name:.100}'" for name in names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown or "nothing"
