"""Add the weight changes of several concepts, or combine one concept's look with another's motion.

Letters: O out_features, I in_features, R rank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..concept import EMBEDDINGS, Concept, ConceptLayer, Strengths, experts_of, joined
from ..errors import ConceptMismatchError
from .strengths import ALWAYS, WeightedConcept

Factors = dict[str, tuple[Tensor, Tensor]]
"""Native layer name -> up (O, R) and down (R, I), whose product is the weight change."""


Part = tuple[Mapping[str, ConceptLayer], Strengths]
"""A concept's layers by native name, and its strengths."""


def added_factors(parts: Sequence[Part]) -> Factors:
    """The sum of all parts as one weight change: up [A1_1 A1_2 ...], down [B_1; B_2; ...]. Their ranks add up.

    Parts that lack a layer count as zeros there.
    """
    sizes: dict[str, tuple[int, int]] = {}
    for layers, _ in parts:
        for name, layer in layers.items():
            sizes[name] = (layer.identity_basis_OR.shape[0], layer.coefficients_RI.shape[1])
    return {name: _added(name, size, parts) for name, size in sizes.items()}


def _added(name: str, size: tuple[int, int], parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    ups: list[Tensor] = []
    downs: list[Tensor] = []
    for layers, strengths in parts:
        if name in layers:
            up_OR, down_RI = layers[name].factors(strengths)
        else:
            rank = next(iter(layers.values())).coefficients_RI.shape[0]
            up_OR = torch.zeros(size[0], rank)
            down_RI = torch.zeros(rank, size[1])
        ups.append(up_OR)
        downs.append(down_RI)
    return torch.cat(ups, dim=1), torch.cat(downs, dim=0)


def moving_as(identity: WeightedConcept, motion: WeightedConcept) -> WeightedConcept:
    """`transfer_motion` with strengths: look and motion keep theirs; the look's negative strength counts for both."""
    looks = tuple(replace(schedule, motion=ALWAYS) for schedule in identity.schedules)
    movements = tuple(replace(schedule, identity=ALWAYS, negative_strength=1.0) for schedule in motion.schedules)
    return WeightedConcept(
        concept=transfer_motion(identity.concept, motion.concept),
        strengths=Strengths(identity.strengths.identity, motion.strengths.motion),
        schedules=(*looks, *movements),
    )


def transfer_motion(identity: Concept, motion: Concept) -> Concept:
    """Combine the look of one concept with the motion of another: A1 and B1 of the first, B2 of the second.

    B2 only works with the identity basis that it was trained on, so both concepts must come from the same set stage.

    Raises:
        ConceptMismatchError: the identity bases differ, or only one concept is for two experts.
    """
    looks, movements = experts_of(identity), experts_of(motion)
    if looks.keys() != movements.keys():
        raise ConceptMismatchError(
            f"Of the concepts '{identity.info.name}' and '{motion.info.name}', one is for a base of two experts, "
            "the other for one model.",
            hint="Take two concepts of the same base.",
        )
    parts = [_transferred(look, movements[expert]) for expert, look in looks.items()]
    return joined(*parts)


def _transferred(identity: Concept, motion: Concept) -> Concept:
    """`transfer_motion` for one model."""
    names = f"'{identity.info.name}' and '{motion.info.name}'"
    for name in sorted(identity.layers.keys() | motion.layers.keys()):
        one, two = identity.layers.get(name), motion.layers.get(name)
        if one is None or two is None or not _same(one.identity_basis_OR, two.identity_basis_OR):
            raise ConceptMismatchError(
                f"The concepts {names} do not share an identity basis: they differ in layer {name!r}. Motion can be "
                "transferred only between concepts whose sequence stages started from the same set stage.",
                hint="Train the look of all clips jointly once, then the motion of each on it.",
            )
    info = replace(
        identity.info,
        name=f"{identity.info.name} moving as {motion.info.name}",
        motion_prompt=_with_look(motion.info.motion_prompt, motion.info.identity_token, identity.info.identity_token),
        motion_token=motion.info.motion_token,
        training=identity.info.training | {"motion_from": motion.info.name},
    )
    layers = {
        name: replace(layer, motion_residual_RI=motion.layers[name].motion_residual_RI)
        for name, layer in identity.layers.items()
    }
    tokens = {
        name: each.embeddings[name]
        for name, each in zip(EMBEDDINGS, (identity, motion), strict=True)
        if name in each.embeddings
    }
    return Concept(info=info, layers=layers, embeddings=tokens)


def _same(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors are equal up to the rounding of a file."""
    return one.shape == two.shape and torch.allclose(one, two, rtol=1e-2, atol=1e-6)


def _with_look(prompt: str, token: str, wanted: str) -> str:
    return prompt.replace(token, wanted) if token and wanted else prompt
