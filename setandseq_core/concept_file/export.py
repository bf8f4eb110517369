"""A concept in other forms: a plain LoRA for stock loaders, and a text for people."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..compose.add import Factors, added_factors
from ..compose.strengths import WeightedConcept
from ..concept import AS_LEARNED, Concept, ConceptInfo, Strengths
from ..fingerprint import check_base
from .info import manager_metadata
from .lora_names import portable_name
from .safetensors import FileContent, data_sha256

WITHOUT_TOKENS = "setandseq.without"
"""Metadata of a plain LoRA: the learned tokens that its concept has and that no plain LoRA can hold."""


def export_lora(concept: Concept, path: Path, strengths: Strengths = AS_LEARNED) -> None:
    """Write a plain LoRA of the same rank: up = A1, down = s_id B1 + s_mo B2, alpha = rank, float32.

    Stock ComfyUI and diffusers load it with the full effect; the strengths are fixed in it. Learned tokens are not in
    it, and its metadata says so.

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
    return _lora_content(factors, concept.info, list(concept.embeddings))


def missing_tokens(embeddings: Sequence[str]) -> str:
    """A note for people who make a plain LoRA of a concept with learned tokens; "" if there are none.

    Args:
        embeddings: names of the learned tokens, of `concept.EMBEDDINGS`.
    """
    if not embeddings:
        return ""
    names = " and ".join(name.replace("_", " ") for name in embeddings)
    return (
        f"The concept's learned tokens ({names}) are not in the plain LoRA, which can only hold weights. Its effect is "
        "weaker than the concept's; load the concept itself for all of it."
    )


def export_sum(concepts: Sequence[WeightedConcept], path: Path) -> list[str]:
    """Write several concepts at their strengths as one plain LoRA, whose rank is the sum of theirs.

    Args:
        concepts: of one base model.
        path: ends in .safetensors; replaced in one step.
    Returns:
        Names of the learned tokens that the concepts have and the LoRA does not.
    Raises:
        ConceptMismatchError: the concepts were made for different base models.
    """
    first = concepts[0].concept
    for each in concepts[1:]:
        check_base(each.concept.info.base, first.info.base)
    name = " + ".join(each.concept.info.name for each in concepts)
    factors = added_factors([(each.concept.layers, each.at()) for each in concepts])
    tokens = list(dict.fromkeys(token for each in concepts for token in each.concept.embeddings))
    _lora_content(factors, replace(first.info, name=name), tokens).save(path)
    return tokens


def _lora_content(factors: Factors, info: ConceptInfo, embeddings: Sequence[str]) -> FileContent:
    tensors: dict[str, Tensor] = {}
    rank = next(iter(factors.values()))[1].shape[0]
    for layer, (up_OR, down_RI) in factors.items():
        key = portable_name(layer)
        tensors[f"{key}.lora_A.weight"] = down_RI.detach().to("cpu", torch.float32, copy=True).contiguous()
        tensors[f"{key}.lora_B.weight"] = up_OR.detach().to("cpu", torch.float32, copy=True).contiguous()
        if layer.startswith("blocks."):  # diffusers refuses alpha elsewhere; without it every loader takes the rank
            tensors[f"{key}.alpha"] = torch.tensor(float(rank))
    metadata = manager_metadata(info, rank, data_sha256(tensors), kind="lora")
    if embeddings:
        metadata[WITHOUT_TOKENS] = ", ".join(embeddings)
        metadata["modelspec.usage_hint"] += f" {missing_tokens(embeddings)}"
    return FileContent(tensors=tensors, metadata=metadata)


def describe(concept: Concept) -> str:
    """A description of a concept for people, one "label: value" a line, without empty values."""
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
