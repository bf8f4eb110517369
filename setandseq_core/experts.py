"""Concepts for a base of two models, its experts: one for high noise, one for low noise (Wan 2.2 14B).

Each expert has its own matrices. A model's fingerprint tells which expert it is.
"""

from dataclasses import replace

from .concept import Concept, ConceptInfo, Range, noise_range
from .errors import ConceptMismatchError
from .fingerprint import BaseFingerprint, check_base, distance

HIGH_NOISE = "high_noise"
LOW_NOISE = "low_noise"
EXPERTS = (HIGH_NOISE, LOW_NOISE)
"""Names of the experts in concept files, in the order of sampling."""
ONE_MODEL = ""
"""Key in place of an expert's name if the base is a single model."""


def experts_of(concept: Concept) -> dict[str, Concept]:
    """Each expert's part as a separate concept, by the expert's name; only `ONE_MODEL` if there are no experts."""
    if concept.low_noise is None:
        return {ONE_MODEL: concept}
    low = replace(concept.low_noise, info=with_info_of(concept.info, concept.low_noise.info))
    return {HIGH_NOISE: replace(concept, low_noise=None), LOW_NOISE: low}


def with_info_of(shared: ConceptInfo, expert: ConceptInfo) -> ConceptInfo:
    """Info with the name, prompts and thumbnail of `shared`, and the base and training of `expert`."""
    return replace(
        shared,
        base=expert.base,
        base_name=expert.base_name,
        config=expert.config,
        training=expert.training,
    )


def joined(high: Concept, low: Concept | None = None) -> Concept:
    """One concept for both experts, or `high` itself if `low` is None.

    Args:
        high: gives the name, the prompts and the thumbnail.
    Raises:
        ConceptMismatchError: the two cannot be experts of one base; see `Concept`.
    """
    return replace(high, low_noise=low)


def in_words(expert: str) -> str:
    """An expert's name for people: "high noise"."""
    return expert.replace("_", " ")


def times_in_words(times: Range) -> str:
    """A noise range for people: "0.875 to 1"."""
    low, high = times
    return f"{low:g} to {high:g}"


def expert_for(concept: Concept, model: BaseFingerprint) -> Concept:
    """The part of a concept that is for a model: the part of the expert with the nearest weights.

    Raises:
        ConceptMismatchError: the model is not the concept's base, or neither of its experts.
    """
    experts = experts_of(concept)
    if ONE_MODEL in experts:
        check_base(concept.info.base, model)
        return concept
    apart = {name: _distance(expert.info.base, model) for name, expert in experts.items()}
    nearest = experts[min(apart, key=apart.__getitem__)]
    try:
        check_base(nearest.info.base, model)
    except ConceptMismatchError as error:
        raise ConceptMismatchError(
            f"The concept is for two models, {_needed(experts)}. This model is neither of them: {_found(apart)}. "
            f"{error.message}",
            hint="Load one of the two models that the concept was trained on.",
        ) from error
    return nearest


def _distance(base: BaseFingerprint, model: BaseFingerprint) -> float:
    """`fingerprint.distance`, or infinity if the layers differ."""
    fits = base.family == model.family and all(
        list(model.layers.get(layer, ())) == list(shape) for layer, shape in base.layers.items()
    )
    return distance(base, model) if fits else float("inf")


def _needed(experts: dict[str, Concept]) -> str:
    parts = [
        f"{expert.info.base_name} for {in_words(name)} ({times_in_words(noise_range(expert.info))})"
        for name, expert in experts.items()
    ]
    return " and ".join(parts)


def _found(apart: dict[str, float]) -> str:
    parts = [
        f"it has other layers than the one for {in_words(name)}"
        if far == float("inf")
        else f"its weights are {far:.2f} away from the one for {in_words(name)}"
        for name, far in apart.items()
    ]
    return ", ".join(parts)
