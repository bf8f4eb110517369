"""A concept in other forms: a plain LoRA for stock loaders, and a text for people."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..compose.add import Factors, added_factors
from ..compose.strengths import WeightedConcept
from ..concept import AS_LEARNED, Concept, ConceptInfo, Strengths
from ..fingerprint import check_base
from .info import manager_metadata
from .safetensors import FileContent, data_sha256


def export_lora(concept: Concept, path: Path, strengths: Strengths = AS_LEARNED) -> None:
    """Write a plain LoRA of the same rank: up = A1, down = s_id B1 + s_mo B2, alpha = rank, float32.

    Stock ComfyUI and diffusers load it with the full effect; the strengths are fixed in it.

    Args:
        concept: the concept to export.
        path: ends in .safetensors; replaced in one step.
        strengths: fixed in the file.
    Raises:
        StorageError: the file cannot be written there.
    """
    lora_content(concept, strengths).save(path)


def lora_content(concept: Concept, strengths: Strengths = AS_LEARNED) -> FileContent:
    """The tensors and metadata of a concept's plain LoRA; see `export_lora`."""
    factors = {name: layer.factors(strengths) for name, layer in concept.layers.items()}
    return _lora_content(factors, concept.info)


def export_sum(concepts: Sequence[WeightedConcept], path: Path) -> None:
    """Write several concepts at their strengths as one plain LoRA, whose rank is the sum of theirs.

    Args:
        concepts: of one base model.
        path: ends in .safetensors; replaced in one step.
    Raises:
        ConceptMismatchError: the concepts were made for different base models.
    """
    first = concepts[0].concept
    for each in concepts[1:]:
        check_base(each.concept.info.base, first.info.base)
    name = " + ".join(each.concept.info.name for each in concepts)
    factors = added_factors([(each.concept.layers, each.at()) for each in concepts])
    _lora_content(factors, replace(first.info, name=name)).save(path)


def _lora_content(factors: Factors, info: ConceptInfo) -> FileContent:
    tensors = {}
    rank = next(iter(factors.values()))[1].shape[0]
    for layer, (up_OR, down_RI) in factors.items():
        key = f"diffusion_model.{layer}"
        tensors[f"{key}.lora_A.weight"] = down_RI.detach().to("cpu", torch.float32, copy=True).contiguous()
        tensors[f"{key}.lora_B.weight"] = up_OR.detach().to("cpu", torch.float32, copy=True).contiguous()
        if layer.startswith("blocks."):  # diffusers refuses alpha elsewhere; without it every loader takes the rank
            tensors[f"{key}.alpha"] = torch.tensor(float(rank))
    metadata = manager_metadata(info, rank, data_sha256(tensors), kind="lora")
    return FileContent(tensors=tensors, metadata=metadata)


def describe(concept: Concept) -> str:
    """All that a person may want to know of a concept, one "label: value" a line; empty values are left out."""
    info = concept.info
    values = sum(
        layer.identity_basis_OR.numel() + 2 * layer.coefficients_RI.numel() for layer in concept.layers.values()
    )
    lines = [
        ("Name", info.name),
        ("Author", info.author),
        ("Tags", ", ".join(info.tags)),
        ("Appearance", info.static_prompt),
        ("With motion", info.motion_prompt),
        ("Identity token", info.identity_token),
        ("Motion token", info.motion_token),
        ("Base model", f"{info.base_name} (family {info.base.family})"),
        ("Weights", f"{len(concept.layers)} layers, rank {concept.rank}, {values:,} values"),
        ("Learned tokens", _shown_embeddings(concept)),
        ("Thumbnail", f"{len(info.thumbnail):,} bytes" if info.thumbnail else ""),
        *((f"Method {key}", _shown(value)) for key, value in info.config.items()),
        *((f"Training {key}", _shown(value)) for key, value in info.training.items()),
    ]
    return "\n".join(f"{label}: {text}" for label, text in lines if text)


def _shown_embeddings(concept: Concept) -> str:
    widths = [f"{value.shape[0]} wide" for value in concept.embeddings.values()]
    return ", ".join([*concept.embeddings, *widths[:1]])


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."
