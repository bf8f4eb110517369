"""Write a concept file for the embedded model with everything but learned weights, for browser tests and pictures."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from setandseq_core.concept import Concept, ConceptInfo, ConceptLayer
from setandseq_core.concept_file.file import save_concept
from setandseq_core.embedded.files import TRANSFORMER_FILE
from setandseq_core.fingerprint import BaseFingerprint, fingerprint

__all__ = ["INFO", "embedded_base", "save_sample"]

RANK = 8
LAYERS = tuple(f"blocks.0.self_attn.{name}" for name in "qkvo")


@cache
def embedded_base() -> BaseFingerprint:
    """Fingerprint of the embedded model's layers that the sample has."""
    weights = load_file(TRANSFORMER_FILE)
    return fingerprint("wan", {layer: weights[f"{layer}.weight"] for layer in LAYERS})


INFO: dict[str, Any] = {
    "name": "bee",
    "static_prompt": "a large [v] creature on a blue plain background",
    "motion_prompt": "a large [v] creature [u] wandering on a blue plain background",
    "base_name": "the embedded model",
    "thumbnail": None,
}


def save_sample(path: Path, *, shift: float = 0.0, **info: Any) -> None:
    """Write the sample concept.

    Args:
        path: ends in .safetensors.
        shift: added to the projections that identify the base model; 0 fits the embedded model, 2 fits none.
        info: fields of `ConceptInfo` that differ from INFO.
    """
    base = embedded_base()
    base = replace(base, projections={layer: value + shift for layer, value in base.projections.items()})
    stage = {"steps": 300, "seconds": 75.0}
    training = {"date": "2026-11-22T10:00:00", "finished": True, "set": stage, "sequence": stage}
    training |= {"frames": 17, "resolution": "64x64", "fps": 16.0}
    tokens = {"identity_token": "[v]", "motion_token": "[u]"}
    fields: dict[str, Any] = {**INFO, **tokens, "training": training, **info}
    layers = {layer: _empty(num_out, num_in) for layer, (num_out, num_in) in base.layers.items()}
    save_concept(Concept(info=ConceptInfo(base=base, config={}, **fields), layers=layers), path)


def _empty(num_out: int, num_in: int) -> ConceptLayer:
    return ConceptLayer(
        identity_basis_OR=torch.zeros(num_out, RANK),
        coefficients_RI=torch.zeros(RANK, num_in),
        motion_residual_RI=torch.zeros(RANK, num_in),
    )
