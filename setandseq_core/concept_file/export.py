"""Export a concept: as a plain LoRA for stock loaders, or as a text for people."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..compose.add import Factors, added_factors
from ..compose.strengths import WeightedConcept
from ..concept import AS_LEARNED, Concept, ConceptInfo, Strengths, experts_of, in_words, noise_range, times_in_words
from .info import manager_metadata
from .lora_names import portable_name
from .safetensors import FileContent, data_sha256

WITHOUT_TOKENS = "setandseq.without"
"""Metadata key that lists the concept's learned tokens, which a plain LoRA cannot hold."""


def export_lora(concept: Concept, path: Path, strengths: Strengths = AS_LEARNED) -> list[Path]:
    """Write a plain LoRA of the same rank: up = A1, down = s_id B1 + s_mo B2, alpha = rank, float32.

    Stock ComfyUI and diffusers load it with the full effect, at fixed strengths. It lacks learned tokens, and its
    metadata says so. A concept for two experts becomes two files; see `expert_path`.

    Args:
        concept: the concept to export.
        path: ends in .safetensors; replaced in one step.
        strengths: strengths to fix in the file.
    Returns:
        The files that were written.
    Raises:
        StorageError: the file cannot be written there.
    """
    contents = lora_contents(concept, strengths)
    return _saved(contents, path)


def expert_path(path: Path, expert: str) -> Path:
    """The file of an expert: bee.safetensors becomes bee_high_noise.safetensors. A single model keeps `path`."""
    return path.with_name(f"{path.stem}_{expert}{path.suffix}") if expert else path


def lora_contents(concept: Concept, strengths: Strengths = AS_LEARNED) -> dict[str, FileContent]:
    """Tensors and metadata of a concept's plain LoRAs by the name of their expert; see `export_lora`."""
    return {
        expert: _lora_content(
            {name: layer.factors(strengths) for name, layer in part.layers.items()},
            _titled(part.info, expert),
            list(part.embeddings),
        )
        for expert, part in experts_of(concept).items()
    }


def _titled(info: ConceptInfo, expert: str) -> ConceptInfo:
    return replace(info, name=f"{info.name} ({in_words(expert)})") if expert else info


def _saved(contents: Mapping[str, FileContent], path: Path) -> list[Path]:
    paths = [expert_path(path, expert) for expert in contents]
    for each, content in zip(paths, contents.values(), strict=True):
        content.save(each)
    return paths


def missing_tokens(embeddings: Sequence[str]) -> str:
    """Tells people that a plain LoRA lacks its concept's learned tokens; "" if there are none.

    Args:
        embeddings: names of the learned tokens, from `concept.EMBEDDINGS`.
    """
    if not embeddings:
        return ""
    names = " and ".join(name.replace("_", " ") for name in embeddings)
    return (
        f"The concept's learned tokens ({names}) are not in the plain LoRA, which can only hold weights. Its effect is "
        "weaker than the concept's; load the concept itself for all of it."
    )


@dataclass(kw_only=True, slots=True, frozen=True)
class ExportedSum:
    """Result of `export_sum`."""

    paths: list[Path]
    missing: list[str]
    """Names of the concepts' learned tokens, which the LoRAs lack."""


def export_sum(concepts: Sequence[WeightedConcept], path: Path) -> ExportedSum:
    """Write several concepts, at their strengths, as one plain LoRA whose rank is the sum of theirs.

    Concepts for two experts become two files; see `expert_path`.

    Args:
        concepts: concepts for one base model.
        path: ends in .safetensors; replaced in one step.
    Raises:
        ConceptMismatchError: the concepts were made for different base models.
    """
    name = " + ".join(each.concept.info.name for each in concepts)
    contents: dict[str, FileContent] = {}
    missing: dict[str, None] = {}
    for expert, first in experts_of(concepts[0].concept).items():
        parts = [each.for_model(first.info.base) for each in concepts]
        factors = added_factors([(each.concept.layers, each.at()) for each in parts])
        tokens = list(dict.fromkeys(token for each in parts for token in each.concept.embeddings))
        contents[expert] = _lora_content(factors, _titled(replace(first.info, name=name), expert), tokens)
        missing |= dict.fromkeys(tokens)
    return ExportedSum(paths=_saved(contents, path), missing=list(missing))


def _lora_content(factors: Factors, info: ConceptInfo, embeddings: Sequence[str]) -> FileContent:
    tensors: dict[str, Tensor] = {}
    rank = next(iter(factors.values()))[1].shape[0]
    for layer, (up_OR, down_RI) in factors.items():
        key = portable_name(layer)
        tensors[f"{key}.lora_A.weight"] = down_RI.detach().to("cpu", torch.float32, copy=True).contiguous()
        tensors[f"{key}.lora_B.weight"] = up_OR.detach().to("cpu", torch.float32, copy=True).contiguous()
        if layer.startswith("blocks."):  # diffusers refuses alpha elsewhere; without alpha every loader uses the rank
            tensors[f"{key}.alpha"] = torch.tensor(float(rank))
    metadata = manager_metadata(info, rank, data_sha256(tensors), kind="lora")
    if embeddings:
        metadata[WITHOUT_TOKENS] = ", ".join(embeddings)
        metadata["modelspec.usage_hint"] += f" {missing_tokens(embeddings)}"
    return FileContent(tensors=tensors, metadata=metadata)


def describe(concept: Concept) -> str:
    """A description of a concept for people, one "label: value" per line, without empty values."""
    info = concept.info
    lines = [
        ("Name", info.name),
        ("Author", info.author),
        ("Tags", ", ".join(info.tags)),
        ("Appearance", info.static_prompt),
        ("With motion", info.motion_prompt),
        ("Identity token", info.identity_token),
        ("Motion token", info.motion_token),
        ("Thumbnail", f"{len(info.thumbnail):,} bytes" if info.thumbnail else ""),
    ]
    for expert, part in experts_of(concept).items():
        lines += [(_of_expert(label, expert), text) for label, text in _described(part, expert)]
    return "\n".join(f"{label}: {text}" for label, text in lines if text)


def _of_expert(label: str, expert: str) -> str:
    return f"{in_words(expert).capitalize()}, {label[0].lower()}{label[1:]}" if expert else label


def _described(concept: Concept, expert: str) -> list[tuple[str, str]]:
    """The lines about a concept's base, weights and training."""
    info = concept.info
    values = sum(
        layer.identity_basis_OR.numel() + 2 * layer.coefficients_RI.numel() for layer in concept.layers.values()
    )
    return [
        ("Base model", f"{info.base_name} (family {info.base.family})"),
        ("Noise levels", times_in_words(noise_range(info)) if expert else ""),
        ("Weights", f"{len(concept.layers)} layers, rank {concept.rank}, {values:,} values"),
        ("Learned tokens", _shown_embeddings(concept)),
        *((f"Method {key}", _shown(value)) for key, value in info.config.items()),
        *((f"Training {key}", _shown(value)) for key, value in info.training.items()),
    ]


def _shown_embeddings(concept: Concept) -> str:
    widths = [f"{value.shape[0]} wide" for value in concept.embeddings.values()]
    return ", ".join([*concept.embeddings, *widths[:1]])


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."
