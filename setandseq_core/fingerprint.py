"""Identify a concept's base model by its layer shapes and one number per layer that depends on its weights.

`content_key` hashes anything else that a result depends on.

Letters: O out_features, I in_features.
"""

# PyTorch leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import ConceptMismatchError

PROJECTED_ENTRIES = 4096
MAX_DISTANCE = 0.5
ROUNDING_DISTANCE = 0.15
"""A larger distance means other weights: storing the same weights in 4 bits moves them by at most 0.13."""


@dataclass(kw_only=True, slots=True, frozen=True)
class BaseFingerprint:
    """Shapes and weight projections of a base model's layers, by their native names."""

    family: str
    """The kind of network, such as "wan"; concepts never cross families."""
    layers: dict[str, list[int]]
    """Weight shape [out_features, in_features] of each layer."""
    projections: dict[str, float]
    """`project` of each layer's weight, rounded to 6 decimals."""


def sign_pattern() -> Tensor:
    """The fixed pattern of +1 and -1, (4096,) float64: the bits of SHAKE-256 of a constant, lowest bit first."""
    digest = hashlib.shake_256(b"setandseq.fingerprint.1").digest(PROJECTED_ENTRIES // 8)
    bits = [byte >> shift & 1 for byte in digest for shift in range(8)]
    return torch.tensor(bits, dtype=torch.float64) * 2 - 1


def project(weight_OI: Tensor, signs: Tensor) -> float:
    """p = sum_i(s_i w_i) / norm(w) over the first 4096 entries w of the weight, row by row; 0 for zero weights.

    A common scale of the weights, as in scaled fp8 storage, cancels out.
    """
    entries = weight_OI.detach().reshape(-1)[:PROJECTED_ENTRIES].to(device="cpu", dtype=torch.float32).double()
    norm = entries.norm().item()
    return round((entries @ signs[: entries.numel()]).item() / norm, 6) if norm > 0 else 0.0


def fingerprint(family: str, weights: Mapping[str, Tensor]) -> BaseFingerprint:
    """Fingerprint the given layers of a model.

    Args:
        family: kind of network, such as "wan".
        weights: layer name -> weight (out_features, in_features), any dtype and device; GGUF must be unpacked first.
    """
    signs = sign_pattern()
    return BaseFingerprint(
        family=family,
        layers={layer: list(weight.shape) for layer, weight in weights.items()},
        projections={layer: project(weight, signs) for layer, weight in weights.items()},
    )


def distance(concept: BaseFingerprint, model: BaseFingerprint) -> float:
    """Root mean square difference of the projections over the concept's layers: 0 is equal, 1.4 is unrelated."""
    squares = [(value - model.projections[layer]) ** 2 for layer, value in concept.projections.items()]
    return (sum(squares) / max(len(squares), 1)) ** 0.5


def check_base(concept: BaseFingerprint, model: BaseFingerprint) -> None:
    """Refuse a model that a concept was not made for. The model may have more layers than the concept.

    Why 0.5: the projection of a weight that has nothing to do with the sign pattern is normal with variance 1, so two
    unrelated models are sqrt(2) = 1.41 apart per layer. Rounding moves a projection by the relative rounding error:
    0.002 for bf16, under 0.05 for fp8. Fine-tuning that changes weights by 10 % moves it by 0.1. With 0.5, all of these
    models pass. Two unrelated models pass by chance with probability 1e-4 at 12 layers, 2e-9 at 30.

    Raises:
        ConceptMismatchError: the family differs, or a layer is missing, has another shape or other weights; names it.
    """
    if concept.family != model.family:
        raise ConceptMismatchError(
            f"The concept was made for the {concept.family!r} family, this model is {model.family!r}.",
            hint="Load a model of the concept's family.",
        )
    for layer, shape in concept.layers.items():
        if layer not in model.layers:
            raise ConceptMismatchError(
                f"The concept changes layer {layer!r}, which this model does not have: it was made for another base "
                "model.",
                hint="Load that one, or train the concept again on this one.",
            )
        if list(model.layers[layer]) != list(shape):
            raise ConceptMismatchError(
                f"Layer {layer!r}: the concept was made for weights of shape {list(shape)}, this model has "
                f"{list(model.layers[layer])}. It was made for another base model, probably of another size.",
                hint="Load that one, or train the concept again on this one.",
            )
    apart = distance(concept, model)
    if apart > MAX_DISTANCE:
        moved = {layer: abs(value - model.projections[layer]) for layer, value in concept.projections.items()}
        first = next(layer for layer, change in moved.items() if change > MAX_DISTANCE)
        raise ConceptMismatchError(
            f"The concept was made for another base model: same shapes, other weights, first in layer {first!r} "
            f"(distance {apart:.2f}, at most {MAX_DISTANCE} expected).",
            hint="Load the model it was trained on.",
        )


def content_key(*parts: Tensor | Mapping[str, object] | str | int) -> str:
    """A hash of tensors (by their bytes and shape) and plain values, 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, Tensor):
            tensor = part.detach().cpu().contiguous()
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
        digest.update(b"|")
    return digest.hexdigest()
