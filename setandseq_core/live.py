"""Concepts that act while the model runs, instead of in its weights: in a region each, at strengths that change.

Every adapted layer works on one token at a time, so a concept can be added to some tokens and not to others, each step
anew: y = W x + sum_i m_i A1_i (s_id B1_i + s_mo B2_i) x, where m_i is 1 in the concept's region of the video. Keys and
values of the cross-attention belong to the text, which has no place in the video: there the whole attention is done
once for each concept, and each region takes its own.

Letters: B batch, C latent channels, F, H, W latent frames, height, width; L tokens of the video, P concepts.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .compose import WeightedConcept
from .concept import ConceptLayer
from .errors import BackboneError
from .schedule import progress_at

OF_TEXT = ("cross_attn.k", "cross_attn.v")
"""How the native names of the layers end that see the text."""
PATCH = 2
"""Latents to each side of a token of the video."""


class LiveConcepts:
    """Concepts on a transformer, by hooks that are there only while it runs.

    Args:
        layers: native layer name -> name of the Linear in the module.
        regions_PFHW: how much each concept acts at each place, in [0, 1], of any size; None is everywhere. Where they
            overlap they share.
    """

    def __init__(
        self, concepts: Sequence[WeightedConcept], layers: Mapping[str, str], regions_PFHW: Tensor | None = None
    ):
        self._concepts, self._layers, self._regions = list(concepts), layers, regions_PFHW
        self._moved: dict[tuple[int, str, torch.device, torch.dtype], ConceptLayer] = {}
        self._strengths: list[tuple[float, float]] = []
        self._weights_PL1: Tensor | None = None
        self._alone: int | None = None
        """The only concept that acts now; None is each in its region, -1 is none."""

    @contextmanager
    def running(self, module: nn.Module, shift: float) -> Iterator[None]:
        """Let them act in a transformer that is called with latents (B, C, F, H, W) and timestep, 1000 for noise."""
        with ExitStack() as hooks:

            def hook(handle: Any) -> None:
                hooks.callback(handle.remove)

            hook(module.register_forward_pre_hook(partial(self._begin, shift)))
            for name in dict.fromkeys(name for each in self._concepts for name in each.concept.layers):
                hook(module.get_submodule(self._layers[name]).register_forward_hook(partial(self._add, name)))
            for path in self._cross_attentions() if self._regions is not None else ():
                hook(module.get_submodule(path).register_forward_pre_hook(self._first_alone))
                hook(module.get_submodule(path).register_forward_hook(self._each_alone, with_kwargs=True))
            yield

    def _cross_attentions(self) -> list[str]:
        return [path.rpartition(".")[0] for name, path in self._layers.items() if name.endswith(OF_TEXT[0])]

    def _begin(self, shift: float, _module: nn.Module, args: tuple[Any, ...]) -> None:
        latents_BCFHW, timestep = args[:2]
        progress = progress_at(float(timestep.max()) / 1000, shift)
        self._strengths = [each.strengths(progress) for each in self._concepts]
        self._alone = None
        if self._regions is not None:
            frames, height, width = latents_BCFHW.shape[2:]
            size = frames, -(-height // PATCH), -(-width // PATCH)
            self._weights_PL1 = region_weights(self._regions, size).to(latents_BCFHW)

    def _add(self, name: str, _layer: nn.Module, args: tuple[Any, ...], result: Tensor) -> Tensor:
        inputs = args[0]
        for index, each in enumerate(self._concepts):
            strengths = self._strengths[index]
            if name not in each.concept.layers or strengths == (0, 0) or self._alone not in (None, index):
                continue
            layer = self._on(index, name, inputs)
            down_RI = strengths[0] * layer.coefficients_RI + strengths[1] * layer.motion_residual_RI
            change = functional.linear(functional.linear(inputs, down_RI), layer.identity_basis_OR)
            if self._weights_PL1 is not None and self._alone is None:
                change = self._weights(inputs)[index] * change
            result = result + change
        return result

    def _first_alone(self, _module: nn.Module, _args: tuple[Any, ...]) -> None:
        self._alone = 0

    def _each_alone(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], first: Tensor) -> Tensor:
        weights_PL1 = self._weights(first)
        result = weights_PL1[0] * first
        for index in range(1, len(self._concepts)):
            self._alone = index
            result = result + weights_PL1[index] * module.forward(*args, **kwargs)
        outside_L1 = 1 - weights_PL1.sum(dim=0)
        if bool((outside_L1 > 1e-3).any()):
            self._alone = -1
            result = result + outside_L1 * module.forward(*args, **kwargs)
        self._alone = None
        return result

    def _weights(self, like_BLD: Tensor) -> Tensor:
        weights_PL1 = self._weights_PL1
        if weights_PL1 is None or weights_PL1.shape[1] != like_BLD.shape[1]:
            known = 0 if weights_PL1 is None else weights_PL1.shape[1]
            raise BackboneError(
                f"The regions of the concepts cover {known} tokens of the video, but the model works on "
                f"{like_BLD.shape[1]}: it was given more than the video, such as reference images. Take that away, or "
                "add the concepts up without regions."
            )
        return weights_PL1.to(like_BLD)

    def _on(self, index: int, name: str, like: Tensor) -> ConceptLayer:
        key = index, name, like.device, like.dtype
        if key not in self._moved:
            layer = self._concepts[index].concept.layers[name]
            self._moved[key] = ConceptLayer(
                identity_basis_OR=layer.identity_basis_OR.to(like),
                coefficients_RI=layer.coefficients_RI.to(like),
                motion_residual_RI=layer.motion_residual_RI.to(like),
            )
        return self._moved[key]


def region_weights(regions_PFHW: Tensor, size_FHW: tuple[int, int, int]) -> Tensor:
    """Regions as weights of the tokens of a video, (P, L, 1): means over each token's place, at most 1 in sum."""
    regions = functional.interpolate(regions_PFHW.float().unsqueeze(1), size_FHW, mode="area")
    return (regions / regions.sum(dim=0).clamp_min(1)).flatten(2).movedim(1, 2)
