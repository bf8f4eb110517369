"""Generate a clip from a model, with or without a concept: Euler steps along the velocity, with guidance."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor

from ..backbone import Backbone
from ..concept import Concept, ConceptLayer
from ..fingerprint import check_base
from ..lora import applied_coefficients
from .add import added_factors, layer_factors
from .live import LiveConcepts
from .strengths import WeightedConcept


@contextmanager
def applied_concept(
    backbone: Backbone, concept: Concept, *, identity_strength: float = 1.0, motion_strength: float = 1.0
) -> Iterator[None]:
    """Run the backbone with W + A1 (s_id B1 + s_mo B2); exactly itself again afterwards.

    Raises:
        ConceptMismatchError: the concept was made for another base model.
    """
    check_base(concept.info.base, backbone.fingerprint())
    with applied_layers(backbone, concept.layers, identity_strength=identity_strength, motion_strength=motion_strength):
        yield


@contextmanager
def applied_layers(
    backbone: Backbone,
    layers: Mapping[str, ConceptLayer],
    *,
    identity_strength: float = 1.0,
    motion_strength: float = 1.0,
) -> Iterator[None]:
    """As `applied_concept`, for layers that were trained on this very backbone."""
    factors = {name: layer_factors(layer, identity_strength, motion_strength) for name, layer in layers.items()}
    with applied_coefficients(backbone.module, backbone.layers, factors):
        yield


@contextmanager
def applied_concepts(
    backbone: Backbone,
    concepts: Sequence[WeightedConcept],
    regions_PFHW: Tensor | None = None,
    prompts: Sequence[str] = (),
) -> Iterator[None]:
    """Run the backbone with several concepts, or with strengths that change; exactly itself again afterwards.

    Args:
        concepts: one or more.
        regions_PFHW: where each of them acts, of any size, as for `live.LiveConcepts`; None adds them up everywhere.
        prompts: what each region shows, in place of the prompt that is sampled; with the concept's own learned tokens.
    Raises:
        ConceptMismatchError: a concept was made for another base model.
    """
    for each in concepts:
        check_base(each.concept.info.base, backbone.fingerprint())
    if regions_PFHW is None and all(each.steady for each in concepts):
        factors = added_factors([(each.concept.layers, *each.strengths()) for each in concepts])
        with applied_coefficients(backbone.module, backbone.layers, factors):
            yield
    else:
        texts = [backbone.encode_prompt(prompt) for prompt in prompts]
        with LiveConcepts(concepts, backbone.layers, regions_PFHW, texts).running(backbone.module, backbone.shift):
            yield
