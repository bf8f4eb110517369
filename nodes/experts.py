"""Two MODELs that one request trains together: the high-noise and the low-noise expert of Wan 2.2 14B."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from torch import Tensor

from ..setandseq_core.backbone import Savings
from ..setandseq_core.concept import HIGH_NOISE, LOW_NOISE, ONE_MODEL, WHOLE_RANGE, Range
from ..setandseq_core.errors import ConfigError
from ..setandseq_core.fingerprint import BaseFingerprint, content_key
from ..setandseq_core.prompts import Condition
from .backbone import ComfyBackbone
from .families import boundary_of
from .models import files_of, model_fingerprint, model_name


@dataclass(kw_only=True, slots=True, frozen=True)
class Expert:
    """A MODEL and its range of noise levels."""

    name: str
    """One of `experts.EXPERTS`, or `ONE_MODEL`."""
    model: ModelPatcher
    times: Range


def experts_on(model: ModelPatcher, low_noise_model: ModelPatcher | None, boundary: float) -> list[Expert]:
    """The MODELs to train, in the order of sampling.

    Args:
        low_noise_model: None if `model` is for all noise levels.
        boundary: the time at which one expert hands over to the other; 0 uses the family's own.
    Raises:
        ConfigError: the two MODELs are the same, are not experts of one base, or have file names that show that they
            are swapped.
    """
    if low_noise_model is None:
        return [Expert(name=ONE_MODEL, model=model, times=WHOLE_RANGE)]
    _check_pair(model, low_noise_model)
    between = boundary or boundary_of(model)
    if not 0 < between < 1:
        raise ConfigError(
            f"The noise level at which the two models change over is not known for {model_name(model)}.",
            hint="Set boundary on the node, or disconnect low_noise_model.",
        )
    return [
        Expert(name=HIGH_NOISE, model=model, times=(between, 1.0)),
        Expert(name=LOW_NOISE, model=low_noise_model, times=(0.0, between)),
    ]


def _check_pair(high: ModelPatcher, low: ModelPatcher) -> None:
    first = model_fingerprint(high)
    second = model_fingerprint(low)
    if (first.family, first.layers) != (second.family, second.layers):
        raise ConfigError(
            f"The two models are not experts of one model: model is {model_name(high)}, low_noise_model is "
            f"{model_name(low)}.",
            hint="Connect the high-noise and the low-noise file of one release.",
        )
    if first == second:
        raise ConfigError(
            "model and low_noise_model are the same model.",
            hint="Connect the high-noise file to model and the low-noise file to low_noise_model.",
        )
    # Nothing in the weights says which is which, so only the names can show that the wires are swapped.
    if _says(high, "low", "high") and _says(low, "high", "low"):
        raise ConfigError(
            f"The two models seem to be swapped: model is {_names(high)}, low_noise_model is {_names(low)}.",
            hint="Connect the high-noise file to model and the low-noise file to low_noise_model. If only the names "
            "are wrong, rename the files.",
        )


def _names(model: ModelPatcher) -> str:
    return ", ".join(file.name for file in files_of(model))


def _says(model: ModelPatcher, word: str, other: str) -> bool:
    """Whether the name of the model's file holds one word and not the other."""
    name = _names(model).lower()
    return word in name and other not in name


class BothExperts(ComfyBackbone):
    """Both MODELs as one backbone for sampling: each runs at its own noise levels, and only one is loaded at a time.

    Args:
        experts: the high-noise expert, then the low-noise one; the range of one ends where that of the other begins.
        conditioning: see `ComfyBackbone`.
    """

    def __init__(self, experts: Sequence[Expert], clip: CLIP, vae: VAE, *, conditioning: Sequence[Any] | None = None):
        high, low = experts
        super().__init__(high.model, clip, vae, conditioning=conditioning)
        self._low = ComfyBackbone(low.model, clip, vae, conditioning=conditioning)
        self._boundary = high.times[0]
        self._open = ExitStack()
        self._answers: ComfyBackbone | None = None
        """The expert that is loaded."""
        self._shape: tuple[int, ...] = ()
        self.variant = content_key(self.variant, self._low.variant) if self.variant or self._low.variant else ""

    def fingerprint(self) -> BaseFingerprint:
        """A fingerprint of both, so that prior clips of this pair are never reused for another pair."""
        parts = {HIGH_NOISE: super().fingerprint(), LOW_NOISE: self._low.fingerprint()}
        return BaseFingerprint(
            family=parts[HIGH_NOISE].family,
            layers={f"{name}.{layer}": shape for name, part in parts.items() for layer, shape in part.layers.items()},
            projections={
                f"{name}.{layer}": value for name, part in parts.items() for layer, value in part.projections.items()
            },
        )

    @contextmanager
    def running(
        self, batch_shape: tuple[int, ...], /, savings: Savings | None = None, *, load: bool = True
    ) -> Iterator[None]:
        """Let both experts run; each is loaded when its noise levels begin."""
        self._shape = batch_shape
        try:
            yield
        finally:
            self._leave()

    def velocity(self, x_t_BCFHW: Tensor, time_B: Tensor, texts: Sequence[Condition]) -> Tensor:
        """The velocity from the expert for these noise levels; all samples of a batch must have the same time."""
        is_high = bool(time_B.min() >= self._boundary)
        if is_high:
            self._enter(self)
            return super().velocity(x_t_BCFHW, time_B, texts)
        self._enter(self._low)
        return self._low.velocity(x_t_BCFHW, time_B, texts)

    def _enter(self, expert: ComfyBackbone) -> None:
        if self._answers is expert:
            return
        self._leave()
        self._open.enter_context(ComfyBackbone.running(expert, self._shape))
        self._answers = expert

    def _leave(self) -> None:
        self._open.close()
        self._answers = None
