"""Training runs: more steps resume, a loss that is not finite does no harm, and a full disk does not end a training."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from setandseq_core.atomic import PARTIAL_FOLDERS
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.encode import FrameSet, Material
from setandseq_core.config import MethodConfig, SetConfig
from setandseq_core.errors import TrainingError
from setandseq_core.train import Trained, train_identity
from setandseq_core.training.progress import Progress, StopTraining
from setandseq_core.training.run import LOWERED, StageRun
from setandseq_core.training.validation import Validation

Learn = Callable[..., Trained]


@pytest.fixture
def learn(tiny_backbone: WanBackbone, tiny_set: FrameSet) -> Learn:
    """Train the set stage on the tiny clip for that number of steps."""

    def train(steps: int, folder: Path | None, progress: Callable[[Progress], None] | None = None) -> Trained:
        config = MethodConfig(rank=2, set_stage=SetConfig(steps=steps, batch=2, learning_rate=1e-2))
        return train_identity(tiny_backbone, Material(clips=[tiny_set]), config, folder=folder, progress=progress)

    return train


def same_weights(one: Trained, two: Trained) -> bool:
    return all(
        torch.equal(layer.identity_basis_OR, two.layers[name].identity_basis_OR)
        and torch.equal(layer.coefficients_RI, two.layers[name].coefficients_RI)
        for name, layer in one.layers.items()
    )


def test_more_steps_resume_and_equal_one_long_training(learn: Learn, tmp_path: Path) -> None:
    whole = learn(6, None)
    learn(4, tmp_path)
    seen: list[int] = []
    longer = learn(6, tmp_path, lambda now: seen.append(now.step))
    assert seen == [5, 6]
    assert longer.record["losses"] == whole.record["losses"] and same_weights(longer, whole)


def test_fewer_steps_train_anew_and_keep_the_longer_training(learn: Learn, tmp_path: Path) -> None:
    longer = learn(6, tmp_path)
    shorter = learn(4, tmp_path)
    assert shorter.record["losses"] == longer.record["losses"][:4] and same_weights(shorter, learn(4, None))
    seen: list[int] = []
    again = learn(6, tmp_path, lambda now: seen.append(now.step))
    assert seen == [] and same_weights(again, longer)


def test_a_finished_stage_also_removes_what_a_killed_writer_left(learn: Learn, tmp_path: Path) -> None:
    learn(4, tmp_path)
    (tmp_path / PARTIAL_FOLDERS.replace("*", "left")).mkdir()
    learn(4, tmp_path)
    assert not [*tmp_path.glob(PARTIAL_FOLDERS)]


def test_after_a_stop_the_same_steps_resume(learn: Learn, tmp_path: Path) -> None:
    def stop(now: Progress) -> None:
        if now.step == 2:
            raise StopTraining

    stopped = learn(4, tmp_path, stop)
    assert not stopped.finished
    seen: list[int] = []
    assert same_weights(learn(4, tmp_path, lambda now: seen.append(now.step)), learn(4, None))
    assert seen == [3, 4]


def test_a_new_version_of_the_method_takes_no_old_state(
    learn: Learn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(2, tmp_path)
    monkeypatch.setattr("setandseq_core.train.METHOD_VERSION", 10**6)
    seen: list[int] = []
    learn(2, tmp_path, lambda now: seen.append(now.step))
    assert seen == [1, 2]


def test_a_state_on_disk_holds_nothing_twice(tmp_path: Path) -> None:
    """The state holds three numbers for each trained one: itself and two moments. Here, the best state is the last."""
    numbers = 10_000

    def run() -> tuple[StageRun, torch.nn.Parameter]:
        weight = torch.nn.Parameter(torch.ones(numbers))
        stage = StageRun(
            stage="set",
            key="state",
            parameters={"weight": weight},
            config=SetConfig(steps=8, batch=1, learning_rate=0.1),
            method=MethodConfig(),
            folder=tmp_path,
            validation=Validation(measure=lambda: weight.square().mean().item()),
        )
        for _ in stage.steps():
            stage.learn(weight.square().mean())
        return stage, weight

    trained, _ = run()
    (state,) = tmp_path.iterdir()
    assert state.stat().st_size < 3 * 4 * numbers + 4096
    again, weight = run()
    assert again.validation is not None and trained.validation is not None
    assert again.validation.best_step == trained.validation.best_step == 8
    assert torch.equal(again.validation.best["weight"], weight) and weight.mean() < 0.5


def broken_at(monkeypatch: pytest.MonkeyPatch, calls: set[int]) -> None:
    """Make the loss infinite or NaN in these calls, counted from 1."""
    import setandseq_core.train as train

    right, made = train.flow_loss, 0

    def loss(velocity: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        nonlocal made
        made += 1
        return right(velocity, target, weights) * (float("nan") if made in calls else 1.0)

    monkeypatch.setattr(train, "flow_loss", loss)


@pytest.mark.parametrize("kept", [False, True])
def test_a_loss_that_is_not_finite_is_gone_back_from_once(
    learn: Learn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    if kept:  # a state after every step
        monkeypatch.setattr("setandseq_core.training.run.SAVE_SECONDS", -1.0)
        monkeypatch.setattr("setandseq_core.training.run.SAVE_SHARE", 1e9)
    broken_at(monkeypatch, {3})
    seen: list[tuple[int, int | None]] = []
    found = learn(4, tmp_path if kept else None, lambda now: seen.append((now.step, now.lowered_at)))
    assert found.finished and all(loss == loss for loss in found.record["losses"])
    again = [(3, 3), (4, 3)] if kept else [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert seen == [(1, None), (2, None), *again]


def test_a_second_loss_that_is_not_finite_says_what_to_change_and_keeps_the_good_state(
    learn: Learn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("setandseq_core.training.run.SAVE_SECONDS", -1.0)
    monkeypatch.setattr("setandseq_core.training.run.SAVE_SHARE", 1e9)
    with monkeypatch.context() as patch:
        broken_at(patch, {3, 4})
        with pytest.raises(
            TrainingError, match=f"not a finite number at step 3, also .* to {LOWERED * 1e-2:g}"
        ) as error:
            learn(4, tmp_path)
    assert "Lower the learning rate" in error.value.hint
    seen: list[int] = []
    assert learn(4, tmp_path, lambda now: seen.append(now.step)).finished and seen == [3, 4]


@pytest.mark.skipif(os.name == "nt", reason="a folder cannot be made read-only there")
def test_a_state_that_cannot_be_saved_ends_no_training(learn: Learn, tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_text("in the way")
    told: list[str] = []
    found = learn(3, folder / "states", lambda now: told.append(now.unsaved))
    assert found.finished and same_weights(found, learn(3, None))
    assert "is not saved" in found.unsaved and str(folder) in found.unsaved
