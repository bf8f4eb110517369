"""Apply concepts to a model. The core decides here whether they change its weights or act while it runs."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from ..backbone import Backbone
from ..concept import AS_LEARNED, Concept, ConceptLayer, Strengths
from ..errors import ConfigError
from ..lora import applied_coefficients
from ..sample import sample_latents
from .add import added_factors
from .live import LiveConcepts
from .strengths import WeightedConcept


@dataclass(kw_only=True, slots=True, frozen=True)
class Applied:
    """A model with concepts: their weights act on it, and every sampled prompt gets their learned tokens."""

    backbone: Backbone
    embeddings: Sequence[Tensor]
    """Learned tokens of the concepts, each (D,)."""

    def sample(
        self,
        noise_CFHW: Tensor,
        prompt: str,
        *,
        negative_prompt: str = "",
        steps: int = 20,
        guidance: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Latents (C, F, H, W) of a clip; see `sample.sample_latents`."""
        return sample_latents(
            self.backbone,
            noise_CFHW,
            prompt,
            negative_prompt=negative_prompt,
            embeddings=self.embeddings,
            steps=steps,
            guidance=guidance,
            progress=progress,
        )


@contextmanager
def applied_concept(backbone: Backbone, concept: Concept, strengths: Strengths = AS_LEARNED) -> Generator[Applied]:
    """Run the backbone with W + A1 (s_id B1 + s_mo B2) and restore it exactly on exit.

    Raises:
        ConceptMismatchError: the concept was made for another base model.
    """
    with applied_concepts(backbone, [WeightedConcept(concept=concept, strengths=strengths)]) as applied:
        yield applied


@contextmanager
def applied_layers(
    backbone: Backbone, layers: Mapping[str, ConceptLayer], strengths: Strengths = AS_LEARNED
) -> Generator[None]:
    """Run the backbone with layers that were trained on it, unchecked, and restore it exactly on exit."""
    factors = {name: layer.factors(strengths) for name, layer in layers.items()}
    with applied_coefficients(backbone.module, backbone.layers, factors):
        yield


@contextmanager
def applied_concepts(
    backbone: Backbone,
    concepts: Sequence[WeightedConcept],
    regions_PFHW: Tensor | None = None,
    prompts: Sequence[str] = (),
) -> Generator[Applied]:
    """Run the backbone with concepts and restore it exactly on exit.

    Args:
        concepts: an empty list leaves the model unchanged.
        regions_PFHW: region of each concept, in any size; see `live.LiveConcepts`. None adds the concepts everywhere.
        prompts: prompt of each region, which replaces the sampled prompt there. It gets the learned tokens of its own
            concept only.
    Raises:
        ConceptMismatchError: a concept was made for another base model.
        ConfigError: the model does not support regions.
    """
    if regions_PFHW is not None and not backbone.takes_regions:
        raise ConfigError(
            f"Concepts cannot act in regions of {backbone.name}; they can in Wan.",
            hint="Leave the regions out: the concepts then act on the whole picture.",
        )
    concepts = [each.for_model(backbone.fingerprint()) for each in concepts]
    embeddings = [] if prompts else [embedding_D for each in concepts for embedding_D in each.embeddings()]
    applied = Applied(backbone=backbone, embeddings=embeddings)
    if not concepts:
        yield applied
    elif regions_PFHW is None and all(each.steady for each in concepts):
        factors = added_factors([(each.concept.layers, each.at()) for each in concepts])
        with applied_coefficients(backbone.module, backbone.layers, factors):
            yield applied
    else:
        texts = [backbone.encode_prompt(prompt).tokens_ND for prompt in prompts]
        with LiveConcepts(concepts, backbone.layers, regions_PFHW, texts).running(backbone.module, backbone.shift):
            yield applied
