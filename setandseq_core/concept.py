"""A dynamic concept: its weights, what is known about it, and its file (docs/concept_format.md).

Letters: O out_features, I in_features, R rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from .checkpoints import save_atomically
from .concept_info import HASH_KEY, ConceptInfo, format_metadata, manager_metadata, parse_metadata
from .errors import ConceptFileError, ConceptMismatchError
from .fingerprint import BaseFingerprint, check_base, fingerprint
from .strict_safetensors import Header, check_data, data_sha256, read_header, read_tensors

__all__ = [
    "BaseFingerprint",
    "Concept",
    "ConceptInfo",
    "ConceptLayer",
    "check_base",
    "delta_weight",
    "fingerprint",
    "load_concept",
    "save_concept",
    "scaled_coefficients",
]

EMBEDDINGS = ("identity_embedding", "motion_embedding")
"""Learned tokens, each (text width,): what the rare words [v] and [u] stand for otherwise."""
PARTS = ("identity_basis", "coefficients", "motion_residual")


@dataclass(kw_only=True, slots=True, frozen=True, eq=False)
class ConceptLayer:
    """The three matrices of one linear layer: W' = W + A1 B1 + A1 B2 (eq. 6)."""

    identity_basis_OR: Tensor
    """A1, (out_features, rank)."""
    coefficients_RI: Tensor
    """B1, (rank, in_features)."""
    motion_residual_RI: Tensor
    """B2, (rank, in_features); zeros before the sequence stage."""


@dataclass(kw_only=True, slots=True, frozen=True, eq=False)
class Concept:
    """A dynamic concept, checked when it is made.

    Raises:
        ConceptMismatchError: no layers, or one that the base does not have, of another rank or shape, or not finite.
    """

    info: ConceptInfo
    layers: dict[str, ConceptLayer]
    """By Wan's native layer names."""
    embeddings: dict[str, Tensor] = field(default_factory=dict)
    """Learned tokens by name, of `EMBEDDINGS`; empty when rare words stand for them."""

    def __post_init__(self) -> None:
        shapes = {layer: tuple(tuple(part.shape) for part in _parts(value)) for layer, value in self.layers.items()}
        check_shapes(self.info.base, shapes)
        for layer, value in self.layers.items():
            for part, tensor in zip(PARTS, _parts(value), strict=True):
                if not tensor.isfinite().all():
                    raise ConceptMismatchError(f"Layer {layer!r}: {part} holds NaN or infinity. Train again.")
        check_embeddings({name: tuple(value.shape) for name, value in self.embeddings.items()})
        for name, embedding_D in self.embeddings.items():
            if not embedding_D.isfinite().all():
                raise ConceptMismatchError(f"The {name} holds NaN or infinity. Train again.")

    @property
    def rank(self) -> int:
        """The rank of every layer."""
        return next(iter(self.layers.values())).coefficients_RI.shape[0]

    @property
    def motion_prompt(self) -> str:
        """What reproduces the clip: static and dynamic prompt in one (eq. 7)."""
        return self.info.motion_prompt


def scaled_coefficients(
    coefficients_RI: Tensor,
    motion_residual_RI: Tensor | None = None,
    *,
    identity_strength: float = 1.0,
    motion_strength: float = 1.0,
) -> Tensor:
    """Coefficients at the given strengths: B = s_id B1 + s_mo B2. Strengths are ours, not the paper's.

    Args:
        coefficients_RI: B1, (rank, in_features).
        motion_residual_RI: B2, same shape; None before the sequence stage.
        identity_strength: unitless; 0 removes that part.
        motion_strength: unitless; 0 removes that part.
    Raises:
        ConceptMismatchError: the shapes differ; the message gives both.
    """
    identity_RI = identity_strength * coefficients_RI
    if motion_residual_RI is None:
        return identity_RI
    if motion_residual_RI.shape != coefficients_RI.shape:
        raise ConceptMismatchError(
            f"The motion residual {list(motion_residual_RI.shape)} must have the shape of the coefficients "
            f"{list(coefficients_RI.shape)}. Train both on one basis."
        )
    return identity_RI + motion_strength * motion_residual_RI


def scaled_embeddings(
    embeddings: Mapping[str, Tensor], *, identity_strength: float = 1.0, motion_strength: float = 1.0
) -> list[Tensor]:
    """Learned tokens at the given strengths, each (D,): at 0 a token is padding again."""
    strengths: dict[str, float] = dict(zip(EMBEDDINGS, (identity_strength, motion_strength), strict=True))
    return [strengths[name] * embedding_D for name, embedding_D in embeddings.items()]


def delta_weight(
    identity_basis_OR: Tensor,
    coefficients_RI: Tensor,
    motion_residual_RI: Tensor | None = None,
    *,
    identity_strength: float = 1.0,
    motion_strength: float = 1.0,
) -> Tensor:
    """Weight change of one linear layer: dW = A1 (s_id B1 + s_mo B2), (out_features, in_features).

    Eq. 6 of Abdal et al. 2025 (arXiv 2502.14844v1) at strengths 1; eq. 3 without a residual.

    Args:
        identity_basis_OR: A1, (out_features, rank).
        coefficients_RI: B1, (rank, in_features).
        motion_residual_RI: B2, same shape; None before the sequence stage.
        identity_strength: unitless; 0 removes that part.
        motion_strength: unitless; 0 removes that part.
    Raises:
        ConceptMismatchError: ranks or shapes differ; the message gives both shapes.
    """
    if identity_basis_OR.shape[1] != coefficients_RI.shape[0]:
        raise ConceptMismatchError(
            f"The ranks differ: identity basis {list(identity_basis_OR.shape)}, coefficients "
            f"{list(coefficients_RI.shape)}. The basis needs as many columns as the coefficients have rows."
        )
    return identity_basis_OR @ scaled_coefficients(
        coefficients_RI, motion_residual_RI, identity_strength=identity_strength, motion_strength=motion_strength
    )


def check_shapes(base: BaseFingerprint, shapes: Mapping[str, tuple[tuple[int, ...], ...]]) -> None:
    """Check that all layers have one rank and fit the base.

    Args:
        base: gives each layer's weight shape.
        shapes: layer -> shapes of identity basis, coefficients, motion residual.
    Raises:
        ConceptMismatchError: names the layer and both shapes.
    """
    if not shapes:
        raise ConceptMismatchError("The concept has no layers. Train it again.")
    rank = next(iter(shapes.values()))[1][:1]
    if not rank or rank[0] < 1:
        raise ConceptMismatchError(f"Layer {next(iter(shapes))!r}: coefficients need shape [rank, in], rank 1 or more.")
    for layer, found in shapes.items():
        if layer not in base.layers:
            raise ConceptMismatchError(f"Layer {layer!r:.200} is not in the fingerprint of the concept's base model.")
        num_out, num_in = base.layers[layer]
        for part, shape, needed in zip(PARTS, found, ((num_out, *rank), (*rank, num_in), (*rank, num_in)), strict=True):
            if tuple(shape) != needed:
                raise ConceptMismatchError(
                    f"Layer {layer!r}: {part} has shape {list(shape)}, {list(needed)} is needed for rank {rank[0]} "
                    f"and a weight of {[num_out, num_in]}."
                )


def check_embeddings(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that learned tokens are known ones of one width.

    Raises:
        ConceptMismatchError: names the one that is not.
    """
    widths = set(shapes.values())
    for name, shape in shapes.items():
        if name not in EMBEDDINGS or len(shape) != 1 or shape[0] < 1 or len(widths) > 1:
            raise ConceptMismatchError(
                f"Learned token {name!r:.100} has shape {list(shape)}; known are {' and '.join(EMBEDDINGS)}, each of "
                "shape [text width], both of the same."
            )


def save_concept(concept: Concept, path: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write a concept file; `path` holds either its old content or all of the new.

    Args:
        concept: what to save.
        path: ends in .safetensors.
        dtype: of the stored tensors: float32, bfloat16 or float16.
    Raises:
        ConceptFileError: info that cannot be stored, or a value too large for the dtype.
    """
    tensors = {
        f"{layer}.{part}": tensor.detach().to("cpu", dtype, copy=True).contiguous()
        for layer, value in concept.layers.items()
        for part, tensor in zip(PARTS, _parts(value), strict=True)
    }
    tensors |= {name: value.detach().to("cpu", dtype, copy=True) for name, value in concept.embeddings.items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ConceptFileError(f"{name} holds values too large for {dtype}. Save as float32 or bfloat16.")
    metadata = format_metadata(concept.info, embeddings=bool(concept.embeddings))
    metadata |= manager_metadata(concept.info, concept.rank, data_sha256(tensors), kind="setandseq-concept")
    save_atomically(tensors, path, metadata)


def load_concept(path: Path) -> Concept:
    """Read a concept file strictly; tensors come back as float32 on the CPU.

    Raises:
        ConceptFileError: damaged, hostile, of an unknown version, or a plain LoRA; names the field and the next step.
        ConceptMismatchError: layers whose rank, shape or values do not fit; names the layer.
    """
    header = read_header(path)
    _refuse_plain_lora(header, path)
    info = parse_metadata(header.metadata)
    embeddings = {name: header.shapes[name] for name in EMBEDDINGS if name in header.shapes}
    if embeddings and header.metadata["setandseq.version"] == "1":
        raise ConceptFileError("A file of version 1 cannot hold learned tokens. Get the file again.")
    check_embeddings(embeddings)
    layers = _layer_names([name for name in header.shapes if name not in embeddings])
    check_shapes(info.base, {layer: tuple(header.shapes[f"{layer}.{part}"] for part in PARTS) for layer in layers})
    check_data(path, header.metadata.get(HASH_KEY))
    tensors = read_tensors(path)
    return Concept(
        info=info,
        layers={
            layer: ConceptLayer(
                identity_basis_OR=tensors[f"{layer}.identity_basis"],
                coefficients_RI=tensors[f"{layer}.coefficients"],
                motion_residual_RI=tensors[f"{layer}.motion_residual"],
            )
            for layer in layers
        },
        embeddings={name: tensors[name] for name in embeddings},
    )


def _parts(layer: ConceptLayer) -> tuple[Tensor, Tensor, Tensor]:
    return layer.identity_basis_OR, layer.coefficients_RI, layer.motion_residual_RI


def _refuse_plain_lora(header: Header, path: Path) -> None:
    if any(mark in name for name in header.shapes for mark in (".lora_A", ".lora_B", ".lora_up", ".lora_down")):
        raise ConceptFileError(
            f"{path.name} is a plain LoRA, not a concept. Load it with a LoRA loader (in ComfyUI: LoraLoaderModelOnly; "
            "in diffusers: load_lora_weights), or give the concept it was exported from."
        )


def _layer_names(found: list[str]) -> list[str]:
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in found))
    needed = {f"{layer}.{part}" for layer in layers for part in PARTS}
    if needed != set(found):
        missing, extra = sorted(needed - set(found)), sorted(set(found) - needed)
        raise ConceptFileError(
            f"The tensors do not make a concept: missing {missing[:3]!s:.300}, unknown {extra[:3]!s:.300}. "
            f"Each layer needs exactly {', '.join(PARTS)}. Get the file again."
        )
    return layers
