"""Concepts on a MODEL, through ComfyUI's own patches."""

from collections.abc import Iterable
from typing import Any

import comfy.lora
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..setandseq_core.concept import Concept, check_base, scaled_coefficients
from ..setandseq_core.errors import ConceptMismatchError
from .models import PREFIX, model_fingerprint, model_name, wan_layers
from .wires import WeightedConcept


def apply_concepts(model: ModelPatcher, concepts: Iterable[WeightedConcept]) -> ModelPatcher:
    """A copy of the MODEL with the concepts on it, as patches; the MODEL itself stays as it is.

    Raises:
        ConceptMismatchError: a concept was made for another base; names both.
    """
    patched = model.clone()
    for weighted in concepts:
        check_fit(weighted.concept, model)
        if weighted.identity_strength or weighted.motion_strength:
            patched.add_patches(_patches(weighted, model))
    return patched


def check_fit(concept: Concept, model: ModelPatcher) -> None:
    """Refuse a MODEL that is not the concept's base.

    Raises:
        ConceptMismatchError: names the concept, its base and the model.
    """
    try:
        check_base(concept.info.base, model_fingerprint(model))
    except ConceptMismatchError as error:
        raise ConceptMismatchError(
            f"The concept '{concept.info.name}' was made for {concept.info.base_name}. It does not fit the connected "
            f"model, {model_name(model)}. {error}"
        ) from error


def _patches(weighted: WeightedConcept, model: ModelPatcher) -> dict[str, Any]:
    paths = wan_layers(model)
    lora: dict[str, Tensor] = {}
    for layer, value in weighted.concept.layers.items():
        lora[f"{layer}.lora_A.weight"] = scaled_coefficients(
            value.coefficients_RI,
            value.motion_residual_RI,
            identity_strength=weighted.identity_strength,
            motion_strength=weighted.motion_strength,
        )
        lora[f"{layer}.lora_B.weight"] = value.identity_basis_OR
    return comfy.lora.load_lora(lora, {layer: f"{PREFIX}{paths[layer]}.weight" for layer in weighted.concept.layers})
