"""Live concepts: they act while the model runs instead of in its weights, each in its region, at changing strengths.

In an adapted layer, y = W x + sum_i A1_i (s_id B1_i + s_mo B2_i) x, with the strengths at the current time.

Regions: a concept also learns the place of its subject in the clip, mostly the middle. So the model runs once for each
concept alone, on latents rolled so that the concept's region is in the middle (latents that leave the picture come back
on the other side). The predictions are rolled back, and each region takes its own:

    v = sum_i m_i S_i^-1 v_i(S_i x_t) + (1 - sum_i m_i) v_0(x_t)

with S_i the roll, m_i the region and v_0 the model without these concepts. This follows MultiDiffusion (Bar-Tal et al.
2023) with one prompt per region. The roll and the concepts per region are not in that paper.

Classifier-free guidance subtracts the negative prompt's prediction from the prompt's. Weakening a concept in the
negative prompt's prediction therefore makes guidance amplify the concept.

Letters: B batch, C latent channels, F, H, W latent frames, height, width; N tokens, D text width; P concepts.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..concept import WITHOUT, ConceptLayer, Strengths
from ..errors import ConfigError
from ..prompts import place_embeddings
from .strengths import WeightedConcept, progress_at

PATCH = 2
"""Latents per side of a token; latents are moved by whole tokens."""
NOBODY = -1
TEXT = "context"
"""Name of the text argument in ComfyUI's transformers; in diffusers it is positional, after the timestep."""

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments."""


class LiveConcepts:
    """Concepts on a transformer, applied by hooks that exist only inside `running`.

    Args:
        layers: native layer name -> name of the Linear in the module.
        regions_PFHW: strength of each concept at each position, in [0, 1], in any size; None is everywhere. Where
            regions overlap, they are scaled to sum to at most 1.
        texts: encoded prompt (N, D) of each region, which replaces the prompt there and gets its concept's learned
            tokens; if empty, all regions use the prompt as it is.
    """

    def __init__(
        self,
        concepts: Sequence[WeightedConcept],
        layers: Mapping[str, str],
        regions_PFHW: Tensor | None = None,
        texts: Sequence[Tensor] = (),
    ):
        self._concepts, self._layers, self._regions = list(concepts), layers, regions_PFHW
        pairs = enumerate(zip(texts, self._concepts, strict=bool(texts)))
        self._texts = {i: place_embeddings(text.unsqueeze(0), each.embeddings())[0] for i, (text, each) in pairs}
        self._moved: dict[tuple[int, str, torch.device, torch.dtype], ConceptLayer] = {}
        self._strengths: list[Strengths] = []
        self._asked_B = torch.ones(0)
        """1 for batch rows of the prompt, 0 for rows of the negative prompt."""
        self._call: Call = (), {}
        """Arguments of the model's call; used only with regions."""
        self._places: list[tuple[int, Tensor, tuple[int, int]]] = []
        """Index, region (F, H, W) and move to the middle of each concept; used only with regions."""
        self._alone: int | None = None
        """Index of the only concept that acts now, or `NOBODY`; None if all act."""

    @property
    def in_regions(self) -> bool:
        """Whether the concepts act in regions."""
        return self._regions is not None

    @contextmanager
    def running(
        self, module: nn.Module, shift: float, asked: Sequence[bool] = (), time: float | None = None
    ) -> Generator[None]:
        """Apply the concepts to a transformer that is called with latents and timestep.

        Args:
            module: the transformer; its latents are (B, C, F, H, W), or a list that begins with the video's.
            time: current time in [0, 1], 1 is noise; None takes the timestep, where 1000 is noise, from the argument
                after the latents or of that name.
            asked: for each of the batch's equal parts, True for the prompt and False for the negative prompt; if
                empty, only the first row is the prompt's, as in `sample.sample_latents`.
        """
        with ExitStack() as hooks:
            begin = partial(self._begin, shift, asked, time)
            handles: list[Any] = [module.register_forward_pre_hook(begin, with_kwargs=True)]
            for name in dict.fromkeys(name for each in self._concepts for name in each.concept.layers):
                handles.append(module.get_submodule(self._layers[name]).register_forward_hook(partial(self._add, name)))
            if self._regions is not None:
                handles.append(module.register_forward_hook(self._in_regions))
            for handle in handles:
                hooks.callback(handle.remove)
            yield

    def _begin(
        self,
        shift: float,
        asked: Sequence[bool],
        time: float | None,
        _module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Call | None:
        latents = args[0]
        if not isinstance(latents, Tensor):
            latents = latents[0]
        if time is None:
            timestep = kwargs["timestep"] if "timestep" in kwargs else args[1]
            time = float(timestep.max()) / 1000
        progress = progress_at(time, shift)
        self._strengths = [each.at(progress) for each in self._concepts]
        parts = torch.tensor(asked or [True, *[False] * (len(latents) - 1)])
        self._asked_B = parts.repeat_interleave(len(latents) // len(parts)).to(latents)
        if self._regions is None:
            return None
        self._call = args, kwargs
        self._places = _places(region_weights(self._regions, tuple(latents.shape[-3:])).to(latents))
        self._alone, _, move = self._places[0]
        return self._seen_by(self._alone, move)

    def _seen_by(self, who: int, move: tuple[int, int]) -> Call:
        """The model's call with moved latents, and with the text of concept `who` in the prompt's rows."""
        (latents, timestep, *others), kwargs = self._call
        if who in self._texts and TEXT in kwargs:
            kwargs = kwargs | {TEXT: with_text(kwargs[TEXT], self._texts[who], self._asked_B)}
        elif who in self._texts:
            others[0] = with_text(others[0], self._texts[who], self._asked_B)
        return (latents.roll(move, (-2, -1)), timestep, *others), kwargs

    def _add(self, name: str, _layer: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> Tensor:
        inputs = args[0]
        for index, each in enumerate(self._concepts):
            strengths = self._strengths[index]
            if name not in each.concept.layers or strengths == WITHOUT or self._alone not in (None, index):
                continue
            layer = self._on(index, name, inputs)
            up_OR, down_RI = layer.factors(strengths)
            change = functional.linear(functional.linear(inputs, down_RI), up_OR)
            if each.negative_strength != 1:
                if len(change) != len(self._asked_B):
                    raise ConfigError(
                        "This model mixes the prompt and the negative prompt in its layers, so a concept cannot be "
                        "weaker in one of them.",
                        hint="Set negative_strength of Strength Schedule to 1.",
                    )
                shares_B = self._asked_B + each.negative_strength * (1 - self._asked_B)
                change = change * shares_B.to(change).view(-1, *[1] * (change.ndim - 1))
            result = result + change
        return result

    def _in_regions(self, module: nn.Module, _args: tuple[object, ...], first: Tensor | tuple[Any, ...]) -> Any:
        """Join the predictions of all regions. `first` is the first one, a tensor or a tuple that begins with it."""
        (_, weights_FHW, move), *rest = self._places
        result = weights_FHW * _moved_back(first[0] if isinstance(first, tuple) else first, move)
        for self._alone, weights_FHW, move in rest:
            args, kwargs = self._seen_by(self._alone, move)
            answer: Tensor | tuple[Tensor, ...] = module.forward(*args, **kwargs)
            result = result + weights_FHW * _moved_back(answer[0] if isinstance(answer, tuple) else answer, move)
        self._call = (), {}
        return (result, *first[1:]) if isinstance(first, tuple) else result

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


def _places(weights_PFHW: Tensor) -> list[tuple[int, Tensor, tuple[int, int]]]:
    places = [(index, weights_FHW, to_the_middle(weights_FHW)) for index, weights_FHW in enumerate(weights_PFHW)]
    outside_FHW = 1 - weights_PFHW.sum(dim=0)
    return [*places, (NOBODY, outside_FHW, (0, 0))] if bool((outside_FHW > 1e-3).any()) else places


def with_text(text_BND: Tensor, own_ND: Tensor, asked_B: Tensor) -> Tensor:
    """The text, with `own_ND` in the rows where `asked_B` is 1.

    Texts of different lengths are repeated to a common length, which does not change the attention.
    """
    length = math.lcm(text_BND.shape[1], len(own_ND))
    text_BND, own_ND = text_BND.repeat(1, length // text_BND.shape[1], 1), own_ND.repeat(length // len(own_ND), 1)
    return torch.where(asked_B.view(-1, 1, 1) > 0, own_ND.to(text_BND), text_BND)


def _moved_back(latents: Tensor, move: tuple[int, int]) -> Tensor:
    return latents.roll((-move[0], -move[1]), (-2, -1))


def region_weights(regions_PFHW: Tensor, size_FHW: tuple[int, ...]) -> Tensor:
    """Regions resized to (P, F, H, W) by averaging, scaled so that they sum to at most 1."""
    regions = functional.interpolate(regions_PFHW.float().unsqueeze(1), size_FHW, mode="area").squeeze(1)
    return regions / regions.sum(dim=0).clamp_min(1)


def to_the_middle(weights_FHW: Tensor) -> tuple[int, int]:
    """Shift in latents, down and to the right, that moves a region's centre to the middle of the picture."""
    moves: list[int] = []
    for along_N in (weights_FHW.sum(dim=(0, 2)), weights_FHW.sum(dim=(0, 1))):
        places_N = torch.arange(len(along_N), device=along_N.device) + 0.5
        centre = float((places_N * along_N).sum() / along_N.sum().clamp_min(1e-6))
        moves.append(PATCH * round((len(along_N) / 2 - centre) / PATCH) if along_N.any() else 0)
    return moves[0], moves[1]
