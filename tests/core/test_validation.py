"""The validation loss is the same for the same model, and has no influence on the training."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.encode import FrameSet, Material
from setandseq_core.config import MethodConfig, SequenceConfig, SetConfig
from setandseq_core.errors import TrainingError
from setandseq_core.lora import trainable_concept
from setandseq_core.prompts import Condition
from setandseq_core.train import Trained, some_frames, train_identity
from setandseq_core.training.progress import Progress
from setandseq_core.training.validation import CHECKS, QUANTILES, complaint, validation_loss

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

        def running(self, batch_shape: tuple[int, ...], _savings: object = None) -> AbstractContextManager[None]:
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


# --- a training that makes it worse -----------------------------------------------------------------------------

WILD = MethodConfig(rank=2, set_stage=SetConfig(steps=6, batch=1, learning_rate=0.3))


def loss_of(backbone: WanBackbone, frame_set: FrameSet, trained: Trained) -> float:
    """The validation loss of the model with a result of the set stage."""
    with trainable_concept(backbone.module, backbone.layers, rank=2, seed=0, device=backbone.device) as concept:
        concept.set_identity(trained.layers)
        return validation_loss(backbone, some_frames(frame_set), frame_set.text)


def test_a_stage_is_validated_at_fixed_steps(tiny_backbone: WanBackbone, tiny_set: FrameSet) -> None:
    config = replace(WILD, set_stage=SetConfig(steps=16, batch=1, learning_rate=1e-2))
    found = train_identity(tiny_backbone, Material(clips=[tiny_set]), config)
    assert list(found.validation) == [round(16 * share) for share in CHECKS]
    assert found.validation[0] == pytest.approx(validation_loss(tiny_backbone, some_frames(tiny_set), tiny_set.text))
    assert found.validation[16] < found.validation[0]
    assert found.taken_from is None and complaint(found.validation, found.taken_from) == ""
    assert found.validation[16] == pytest.approx(loss_of(tiny_backbone, tiny_set, found), rel=1e-5)


def test_a_stage_that_ends_worse_than_it_began_gives_its_best_state_and_says_so(
    tiny_backbone: WanBackbone, tiny_set: FrameSet
) -> None:
    found = train_identity(tiny_backbone, Material(clips=[tiny_set]), WILD)
    assert found.taken_from is not None and found.validation[6] > found.validation[0]
    best = found.validation[found.taken_from]
    assert best == min(loss for step, loss in found.validation.items() if step)
    assert best == pytest.approx(loss_of(tiny_backbone, tiny_set, found), rel=1e-5)
    text = complaint(found.validation, found.taken_from)
    assert f"rose from {found.validation[0]:.3f} to {found.validation[6]:.3f}" in text
    assert f"of step {found.taken_from} ({best:.3f})" in text and "Lower the learning rate" in text


def test_the_best_state_is_the_same_after_an_interruption(
    tiny_backbone: WanBackbone, tiny_set: FrameSet, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def kill(now: Progress) -> None:
        if now.step == 5:
            raise Killed

    material = Material(clips=[tiny_set])
    whole = train_identity(tiny_backbone, material, WILD)
    with pytest.raises(Killed):
        train_identity(tiny_backbone, material, WILD, folder=tmp_path, progress=kill)
    resumed = train_identity(tiny_backbone, material, WILD, folder=tmp_path)
    assert (resumed.validation, resumed.taken_from) == (whole.validation, whole.taken_from)
    again = train_identity(tiny_backbone, material, WILD, folder=tmp_path)
    for name, layer in whole.layers.items():
        for other in (resumed, again):
            assert torch.equal(other.layers[name].identity_basis_OR, layer.identity_basis_OR)
            assert torch.equal(other.layers[name].coefficients_RI, layer.coefficients_RI)


def test_a_model_that_gives_no_numbers_is_refused_before_the_first_step(
    tiny_backbone: WanBackbone, tiny_set: FrameSet
) -> None:
    with torch.no_grad():
        next(tiny_backbone.module.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match="not a finite number before the first step"):
        train_identity(tiny_backbone, Material(clips=[tiny_set]), STEPS)
