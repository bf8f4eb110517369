"""The concept: its three matrices per layer, its metadata, and the weight change it makes (Eq. 6).

A base may be two models, its experts: one for high noise, one for low noise (Wan 2.2 14B). Then each has its own
matrices, and a model's fingerprint tells which expert it is.

`setandseq.info` is authoritative; modelspec.* and ss_* repeat parts of it for LoRA managers and are not read back,
except the thumbnail and the hash of the data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from .config import Values, are_times
from .errors import ConceptMismatchError
from .fingerprint import BaseFingerprint, check_base, distance


@dataclass(kw_only=True, slots=True, frozen=True)
class ConceptInfo:
    """Everything that a concept records besides its weights."""

    name: str
    static_prompt: str
    """Describes the look; contains the identity token."""
    motion_prompt: str
    """Describes the look and the motion (eq. 7); contains both tokens."""
    identity_token: str
    motion_token: str
    base: BaseFingerprint
    base_name: str
    """The base model's name for people: "Wan 2.1 T2V (1536 wide, 30 blocks)"."""
    config: Values
    """The method config that the concept was trained with, as JSON values."""
    training: Values
    """The training record as JSON values: steps, seed, losses, seconds, date (ISO 8601), resolution ("64x64"), ..."""
    thumbnail: bytes | None = None
    """PNG or JPEG, at most 1 MiB and 2048 pixels a side."""
    author: str = ""
    tags: list[str] = field(default_factory=list[str])


Range = tuple[float, float]
"""Noise levels, from the lowest to the highest, in [0, 1]."""
WHOLE_RANGE: Range = (0.0, 1.0)


def noise_range(info: ConceptInfo) -> Range:
    """Times that a concept was trained on; the whole range if its settings name none."""
    found = info.config.get("time_range")
    return (float(found[0]), float(found[1])) if are_times(found) else WHOLE_RANGE


EMBEDDINGS = ("identity_embedding", "motion_embedding")
"""Names of the learned tokens, each (text width,), which stand for [v] and [u] in place of rare words."""


PARTS = ("identity_basis", "coefficients", "motion_residual")

_MAKE_IT_AGAIN = "Train the concept again, or get its file again."

LARGEST_CHANGE = 1e8
"""Largest change of a layer's weight, as the product of the Frobenius norms of its factors. Trained concepts stay below
1,000; beyond the limit the model gives no finite numbers."""


@dataclass(slots=True, frozen=True)
class Strengths:
    """Strengths of look and motion: 1 is as trained, 0 is off. Not in the paper."""

    identity: float = 1.0
    motion: float = 1.0

    def times(self, other: "Strengths") -> "Strengths":
        return Strengths(self.identity * other.identity, self.motion * other.motion)


AS_LEARNED = Strengths()
WITHOUT = Strengths(0.0, 0.0)


@dataclass(kw_only=True, slots=True, frozen=True, eq=False)
class ConceptLayer:
    """The three matrices of one linear layer: W' = W + A1 B1 + A1 B2 (eq. 6)."""

    identity_basis_OR: Tensor
    """A1, (out_features, rank)."""
    coefficients_RI: Tensor
    """B1, (rank, in_features)."""
    motion_residual_RI: Tensor
    """B2, (rank, in_features); zeros before the sequence stage."""

    def factors(self, strengths: Strengths = AS_LEARNED) -> tuple[Tensor, Tensor]:
        """The factors up (out, rank) = A1 and down (rank, in) = s_id B1 + s_mo B2 of the weight change dW = up down."""
        return self.identity_basis_OR, effective_coefficients(self.coefficients_RI, self.motion_residual_RI, strengths)


@dataclass(kw_only=True, slots=True, frozen=True, eq=False)
class Concept:
    """A dynamic concept, checked on creation.

    Raises:
        ConceptMismatchError: there are no layers; a layer is not in the base, has another rank or shape, holds NaN or
            infinity, or changes its weight by more than `LARGEST_CHANGE`; a learned token is wrong; or the second
            expert has another family or rank, or noise levels that overlap.
    """

    info: ConceptInfo
    layers: dict[str, ConceptLayer]
    """Matrices by the layer's name in the model's own files."""
    embeddings: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Learned tokens by their names in `EMBEDDINGS`; empty if rare words are used instead."""
    low_noise: "Concept | None" = None
    """The concept for the low-noise expert if the base is two models (`experts`); the other fields are then for the
    high-noise expert. Of its info, only the base, config and training are used, because the concept has one name."""

    def __post_init__(self) -> None:
        shapes = {layer: tuple(tuple(part.shape) for part in parts_of(value)) for layer, value in self.layers.items()}
        check_shapes(self.info.base, shapes)
        for layer, value in self.layers.items():
            for part, tensor in zip(PARTS, parts_of(value), strict=True):
                if not tensor.isfinite().all():
                    raise ConceptMismatchError(
                        f"Layer {layer!r}: {part} holds NaN or infinity.",
                        hint="Train again.",
                    )
            _check_change(layer, value)
        check_embeddings({name: tuple(value.shape) for name, value in self.embeddings.items()})
        for name, embedding_D in self.embeddings.items():
            if not embedding_D.isfinite().all():
                raise ConceptMismatchError(
                    f"The {name} holds NaN or infinity.",
                    hint="Train again.",
                )
        if self.low_noise is not None:
            _check_experts(self, self.low_noise)

    @property
    def rank(self) -> int:
        return next(iter(self.layers.values())).coefficients_RI.shape[0]

    @property
    def motion_prompt(self) -> str:
        """The prompt that reproduces the clip (eq. 7)."""
        return self.info.motion_prompt


def effective_coefficients(
    coefficients_RI: Tensor, motion_residual_RI: Tensor, strengths: Strengths = AS_LEARNED
) -> Tensor:
    """Effective coefficients B = s_id B1 + s_mo B2, which change the weight by dW = A1 B (Eq. 6 at strengths 1).

    Training, merged concepts and live concepts all get their coefficients from here.

    Args:
        coefficients_RI: B1, (rank, in_features).
        motion_residual_RI: B2, the same shape; zeros before the sequence stage, which leaves Eq. 3.
        strengths: s_id and s_mo.
    Raises:
        ConceptMismatchError: the shapes differ; the message gives both.
    """
    if motion_residual_RI.shape != coefficients_RI.shape:
        raise ConceptMismatchError(
            f"The motion residual {list(motion_residual_RI.shape)} must have the shape of the coefficients "
            f"{list(coefficients_RI.shape)}.",
            hint="Train both on one basis.",
        )
    return strengths.identity * coefficients_RI + strengths.motion * motion_residual_RI


def scaled_embeddings(embeddings: Mapping[str, Tensor], strengths: Strengths) -> list[Tensor]:
    """Learned tokens at the given strengths, each (D,). A token at strength 0 equals padding."""
    factors: dict[str, float] = dict(zip(EMBEDDINGS, (strengths.identity, strengths.motion), strict=True))
    return [factors[name] * embedding_D for name, embedding_D in embeddings.items()]


def check_shapes(base: BaseFingerprint, shapes: Mapping[str, tuple[tuple[int, ...], ...]]) -> None:
    """Check that all layers have one rank and fit the base.

    Args:
        base: gives each layer's weight shape.
        shapes: layer -> shapes of identity basis, coefficients, motion residual.
    Raises:
        ConceptMismatchError: a rank or shape does not fit; the message names the layer and both shapes.
    """
    if not shapes:
        raise ConceptMismatchError(
            "The concept has no layers.",
            hint="Train it again.",
        )
    rank = next(iter(shapes.values()))[1][:1]
    if not rank or rank[0] < 1:
        raise ConceptMismatchError(
            f"Layer {next(iter(shapes))!r}: coefficients need shape [rank, in], rank 1 or more.", hint=_MAKE_IT_AGAIN
        )
    for layer, found in shapes.items():
        if layer not in base.layers:
            raise ConceptMismatchError(
                f"Layer {layer!r:.200} is not in the fingerprint of the concept's base model.", hint=_MAKE_IT_AGAIN
            )
        num_out, num_in = base.layers[layer]
        for part, shape, needed in zip(PARTS, found, ((num_out, *rank), (*rank, num_in), (*rank, num_in)), strict=True):
            if tuple(shape) != needed:
                raise ConceptMismatchError(
                    f"Layer {layer!r}: {part} has shape {list(shape)}, {list(needed)} is needed for rank {rank[0]} "
                    f"and a weight of {[num_out, num_in]}.",
                    hint=_MAKE_IT_AGAIN,
                )


def _length(matrix: Tensor) -> float:
    return float(matrix.square().sum().sqrt())


def _check_change(name: str, layer: ConceptLayer) -> None:
    coefficients = max(_length(layer.coefficients_RI), _length(layer.motion_residual_RI))
    change = _length(layer.identity_basis_OR) * coefficients
    if not change <= LARGEST_CHANGE:
        raise ConceptMismatchError(
            f"Layer {name!r:.200}: the concept changes its weight by {change:.1e}; at most {LARGEST_CHANGE:.0e} gives "
            "videos.",
            hint="Train again at a lower learning rate, or get another concept.",
        )


def _check_experts(high: Concept, low: Concept) -> None:
    families = high.info.base.family, low.info.base.family
    if families[0] != families[1] or high.rank != low.rank or low.low_noise is not None:
        raise ConceptMismatchError(
            f"The two experts of a concept need one family and one rank; high noise has {families[0]!r:.50} and rank "
            f"{high.rank}, low noise {families[1]!r:.50} and {low.rank}.",
            hint="Train both with the same settings.",
        )
    high_range = noise_range(high.info)
    low_range = noise_range(low.info)
    if low_range[1] > high_range[0]:
        raise ConceptMismatchError(
            f"The noise levels of the two experts overlap: low noise has {list(low_range)}, high noise "
            f"{list(high_range)}.",
            hint="Train each expert on its own levels, such as 0 to 0.875 and 0.875 to 1.",
        )


def check_embeddings(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the learned tokens are known and have the same width.

    Raises:
        ConceptMismatchError: a token is unknown or has a wrong shape; the message names it.
    """
    widths = set(shapes.values())
    for name, shape in shapes.items():
        if name not in EMBEDDINGS or len(shape) != 1 or shape[0] < 1 or len(widths) > 1:
            raise ConceptMismatchError(
                f"Learned token {name!r:.100} has shape {list(shape)}; known are {' and '.join(EMBEDDINGS)}, each of "
                "shape [text width], both of the same.",
                hint=_MAKE_IT_AGAIN,
            )


def parts_of(layer: ConceptLayer) -> tuple[Tensor, Tensor, Tensor]:
    """A layer's matrices in the order of `PARTS`."""
    return layer.identity_basis_OR, layer.coefficients_RI, layer.motion_residual_RI


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
