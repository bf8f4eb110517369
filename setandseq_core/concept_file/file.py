"""Save and load concept files strictly: a concept's weights and everything known about it (docs/concept_format.md).

Letters: O out_features, I in_features, R rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..concept import (
    EMBEDDINGS,
    LOW_NOISE,
    PARTS,
    Concept,
    ConceptInfo,
    ConceptLayer,
    check_embeddings,
    check_shapes,
    experts_of,
    joined,
    parts_of,
)
from ..errors import ConceptFileError
from .info import HASH_KEY, format_metadata, manager_metadata, parse_metadata
from .safetensors import FileContent, Header, check_data, data_sha256, read_header, read_tensors

SIGN = "use_the_node_Load_Dynamic_Concept"
"""Name of an empty tensor that tells users what to do: a LoRA loader that is given a concept knows none of its tensors
and logs their names."""


STORED = torch.bfloat16
"""Default type of the tensors in a file: half the size of float32, with the same look and motion (docs/results.md)."""


def stored_type(*, float32: bool) -> torch.dtype:
    """The type of the tensors in a file: float32 on request, otherwise `STORED`."""
    return torch.float32 if float32 else STORED


def save_concept(concept: Concept, path: Path, *, dtype: torch.dtype = STORED) -> None:
    """Write a concept file; `path` holds either its old content or all of the new.

    Args:
        concept: the concept to save.
        path: ends in .safetensors.
        dtype: type of the stored tensors: float32, bfloat16 or float16.
    Raises:
        ConceptFileError: the info cannot be stored, or a value is too large for the dtype.
        StorageError: the file cannot be written there.
    """
    concept_content(concept, dtype=dtype).save(path)


def concept_content(concept: Concept, *, dtype: torch.dtype = STORED) -> FileContent:
    """The tensors and metadata of a concept's file; see `save_concept`."""
    experts = experts_of(concept)
    tensors = {
        _prefix(expert) + name: tensor.detach().to("cpu", dtype, copy=True).contiguous()
        for expert, part in experts.items()
        for name, tensor in _named(part).items()
    }
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ConceptFileError(
                f"{name} holds values too large for {dtype}.",
                hint="Save as float32 or bfloat16.",
            )
    tensors[SIGN] = torch.empty(0)
    low = experts.get(LOW_NOISE)
    metadata = format_metadata(
        concept.info,
        embeddings=any(part.embeddings for part in experts.values()),
        low_noise=None if low is None else low.info,
    )
    metadata |= manager_metadata(concept.info, concept.rank, data_sha256(tensors), kind="setandseq-concept")
    return FileContent(tensors=tensors, metadata=metadata)


def _prefix(expert: str) -> str:
    """Prefix of the names of an expert's tensors."""
    return f"{expert}." if expert else ""


def _named(concept: Concept) -> dict[str, Tensor]:
    """The tensors of one expert's concept, or of a concept without experts."""
    matrices = {
        f"{layer}.{part}": tensor
        for layer, value in concept.layers.items()
        for part, tensor in zip(PARTS, parts_of(value), strict=True)
    }
    return matrices | concept.embeddings


def load_concept(path: Path) -> Concept:
    """Read a concept file strictly; its tensors become float32 on the CPU.

    Raises:
        ConceptFileError: the file is damaged, hostile, of an unknown version or a plain LoRA. The message names the
            field, the hint the next step.
        ConceptMismatchError: the rank, shape or values of a layer, or the two experts, do not fit; names the layer.
    """
    header = read_header(path)
    _refuse_plain_lora(header, path)
    infos = parse_metadata(header.metadata)
    if header.shapes.get(SIGN, (0,)) != (0,):
        raise ConceptFileError(f"{SIGN} must be empty.", hint="Download the file again.")
    parts = _checked_parts(header, infos)
    check_data(path, header.metadata.get(HASH_KEY))
    tensors = read_tensors(path)
    concepts = [_concept(info, parts[expert], tensors, _prefix(expert)) for expert, info in infos.items()]
    return joined(*concepts)


@dataclass(kw_only=True, slots=True, frozen=True)
class _Part:
    """Names in a file that belong to one expert, without the expert's prefix."""

    layers: list[str]
    embeddings: list[str]


def _checked_parts(header: Header, infos: Mapping[str, ConceptInfo]) -> dict[str, _Part]:
    """Check all shapes; return the layers and learned tokens of each expert by name."""
    names = [name for name in header.shapes if name != SIGN]
    parts: dict[str, _Part] = {}
    for expert, info in infos.items():
        prefix = _prefix(expert)
        shapes = {name.removeprefix(prefix): header.shapes[name] for name in names if name.startswith(prefix)}
        names = [name for name in names if not name.startswith(prefix)]
        parts[expert] = _checked_part(shapes, info, header.metadata["setandseq.version"])
    if names:
        raise ConceptFileError(
            f"The tensors do not make a concept: unknown {sorted(names)[:3]!s:.300}. Each belongs to an expert, "
            f"{' or '.join(infos)}.",
        )
    return parts


def _checked_part(shapes: Mapping[str, tuple[int, ...]], info: ConceptInfo, version: str) -> _Part:
    embeddings = {name: shapes[name] for name in EMBEDDINGS if name in shapes}
    if embeddings and version == "1":
        raise ConceptFileError("A file of version 1 cannot hold learned tokens.")
    check_embeddings(embeddings)
    layers = _layer_names([name for name in shapes if name not in embeddings])
    check_shapes(info.base, {layer: tuple(shapes[f"{layer}.{part}"] for part in PARTS) for layer in layers})
    return _Part(layers=layers, embeddings=list(embeddings))


def _concept(info: ConceptInfo, part: _Part, tensors: Mapping[str, Tensor], prefix: str) -> Concept:
    layers = {
        layer: ConceptLayer(
            identity_basis_OR=tensors[f"{prefix}{layer}.identity_basis"],
            coefficients_RI=tensors[f"{prefix}{layer}.coefficients"],
            motion_residual_RI=tensors[f"{prefix}{layer}.motion_residual"],
        )
        for layer in part.layers
    }
    embeddings = {name: tensors[prefix + name] for name in part.embeddings}
    return Concept(info=info, layers=layers, embeddings=embeddings)


def _refuse_plain_lora(header: Header, path: Path) -> None:
    if any(mark in name for name in header.shapes for mark in (".lora_A", ".lora_B", ".lora_up", ".lora_down")):
        raise ConceptFileError(
            f"{path.name} is a plain LoRA, not a concept.",
            hint="Load it with a LoRA loader (in ComfyUI: LoraLoaderModelOnly; in diffusers: load_lora_weights), "
            "or give the concept it was exported from.",
        )


def _layer_names(found: list[str]) -> list[str]:
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in found))
    needed = {f"{layer}.{part}" for layer in layers for part in PARTS}
    if needed != set(found):
        missing, extra = sorted(needed - set(found)), sorted(set(found) - needed)
        raise ConceptFileError(
            f"The tensors do not make a concept: missing {missing[:3]!s:.300}, unknown {extra[:3]!s:.300}. Each "
            f"layer needs exactly {', '.join(PARTS)}.",
        )
    return layers
