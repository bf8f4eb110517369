"""The validation loss: the same for the same model, and no part of the training."""

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.encode import FrameSet, Material
from setandseq_core.condition import Condition
from setandseq_core.config import MethodConfig, SequenceConfig, SetConfig
from setandseq_core.train import train_identity
from setandseq_core.training.run import Progress
from setandseq_core.training.validation import QUANTILES, validation_loss

STEPS = MethodConfig(rank=2, set_stage=SetConfig(steps=3, batch=1), sequence_stage=SequenceConfig(steps=1))


def test_same_value_twice_and_the_random_state_stays(tiny_backbone: WanBackbone, tiny_set: FrameSet) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = validation_loss(tiny_backbone, tiny_set.latents_SCFHW, tiny_set.text)
    assert first == validation_loss(tiny_backbone, tiny_set.latents_SCFHW, tiny_set.text) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_a_perfect_model_has_no_loss_and_sees_the_middle_of_the_trained_times() -> None:
    class Perfect:
        shift = 1.0
        times: list[float]

        def running(self, batch_shape: tuple[int, ...]) -> AbstractContextManager[None]:
            return nullcontext()

        def velocity(self, x_t: Tensor, time_B: Tensor, texts: object) -> Tensor:
            self.times.append(time_B.item())
            return (x_t - x_0) / time_B

    x_0 = torch.randn(1, 4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = Perfect()
    model.times = []
    loss = validation_loss(model, x_0, Condition(tokens_ND=torch.zeros(2, 3)), (0.5, 1.0))  # type: ignore[arg-type]
    assert loss == pytest.approx(0, abs=1e-12)
    assert model.times == pytest.approx([0.5 + 0.5 * quantile for quantile in QUANTILES])


def test_training_is_the_same_with_and_without(tiny_backbone: WanBackbone, tiny_set: FrameSet) -> None:
    values = []

    def validate(_: Progress) -> None:
        values.append(validation_loss(tiny_backbone, tiny_set.latents_SCFHW, tiny_set.text))

    material = Material(clips=[tiny_set])
    with_it = train_identity(tiny_backbone, material, STEPS, progress=validate)
    without = train_identity(tiny_backbone, material, STEPS)
    assert with_it.record["losses"] == without.record["losses"] and len(values) == 3
    for name, layer in without.layers.items():
        assert torch.equal(with_it.layers[name].identity_basis_OR, layer.identity_basis_OR)
