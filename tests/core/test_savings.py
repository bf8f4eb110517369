"""Savings change no result: samples in parts, blocks run again, tensors in main memory. Out of memory ends nothing."""

from collections.abc import Callable

import pytest
import torch

from setandseq_core.backbone import Savings
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.encode import EncodedPrior, FrameSequence, FrameSet, Material
from setandseq_core.concept import ConceptLayer
from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig
from setandseq_core.errors import TrainingError
from setandseq_core.train import Trained, train_identity, train_motion
from setandseq_core.training import savings as saving
from setandseq_core.training.progress import Progress

CONFIG = MethodConfig(
    rank=2,
    prior=PriorConfig(share=0.4, empty_prompts=0.5),
    token_learning_rate=1e-3,
    set_stage=SetConfig(steps=3, batch=5, learning_rate=1e-3),
    sequence_stage=SequenceConfig(steps=3, batch=5, learning_rate=1e-3),
)
Learn = Callable[..., tuple[Trained, Trained]]


def prior_of(latents: torch.Tensor, frame_set: FrameSet) -> EncodedPrior:
    texts = [frame_set.text] * len(latents)
    return EncodedPrior(latents_KCFHW=latents, texts=texts, empty=texts)


@pytest.fixture
def learn(tiny_backbone: WanBackbone, tiny_set: FrameSet, tiny_sequence: FrameSequence) -> Learn:
    """Train both stages with prior clips, a mask and learned tokens."""
    weights = torch.rand(len(tiny_set.latents_SCFHW), 1, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    frames = FrameSet(latents_SCFHW=tiny_set.latents_SCFHW, text=tiny_set.text, weights_S1FHW=weights)
    latents = tiny_sequence.latents_CFHW.unsqueeze(0)
    of_frames = Material(clips=[frames], prior=prior_of(tiny_set.latents_SCFHW[:2], tiny_set))
    of_clip = Material(clips=[tiny_sequence], prior=prior_of(latents.flip(2), tiny_set))

    def run(
        savings: Savings | None = None, progress: Callable[[Progress], None] | None = None
    ) -> tuple[Trained, Trained]:
        one = train_identity(tiny_backbone, of_frames, CONFIG, savings=savings, progress=progress)
        two = train_motion(
            tiny_backbone,
            one.layers,
            of_clip,
            CONFIG,
            embeddings=one.embeddings,
            savings=savings,
            progress=progress,
        )
        return one, two

    return run


def assert_same(found: tuple[Trained, Trained], expected: tuple[Trained, Trained], tolerance: float) -> None:
    for one, two in zip(found, expected, strict=True):
        assert one.record["losses"] == pytest.approx(two.record["losses"], rel=tolerance, abs=0)
        for name, layer in one.layers.items():
            other: ConceptLayer = two.layers[name]
            torch.testing.assert_close(layer.coefficients_RI, other.coefficients_RI, rtol=0, atol=10 * tolerance)
            torch.testing.assert_close(layer.motion_residual_RI, other.motion_residual_RI, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_gradients_of_parts_add_up_to_those_of_the_step(learn: Learn, samples: int) -> None:
    assert_same(learn(Savings(samples_at_once=samples)), learn(), 1e-5)


@pytest.mark.parametrize("savings", [Savings(recomputed=1), Savings(recomputed=2, in_main_memory=True)])
def test_blocks_that_run_again_change_nothing(learn: Learn, savings: Savings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "SMALLEST_MOVED", 1)
    assert_same(learn(savings), learn(), 0.0)


def test_what_waits_in_main_memory_comes_back_as_it_was() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    twice, text = 2 * x, torch.randn(3, 4)
    moved, _ = saving._moved_out(twice)
    assert moved is twice  # too small to be worth moving
    for tensor in (text, x):
        assert saving._moved_back(saving._moved_out(tensor)) is tensor


def shortages() -> list[Exception]:
    """The errors that PyTorch raises on a GPU and on a CPU, and Python's own."""
    found: list[Exception] = [torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")]
    try:
        torch.empty(10**14)
    except RuntimeError as error:
        found.append(error)
    return [*found, MemoryError()]


def out_of_memory_above(
    backbone: WanBackbone, samples: int, monkeypatch: pytest.MonkeyPatch, error: Exception, after: int = 0
) -> None:
    """From a certain call on, let a batch of more than that number of samples run out of memory."""
    velocity, calls = backbone.velocity, 0

    def limited(x_t_BCFHW: torch.Tensor, *others: object) -> torch.Tensor:
        nonlocal calls
        calls += torch.is_grad_enabled()
        if torch.is_grad_enabled() and calls > after and len(x_t_BCFHW) > samples:
            raise error
        return velocity(x_t_BCFHW, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(backbone, "velocity", limited)


@pytest.mark.parametrize("error", shortages()[:2], ids=["GPU", "CPU"])
def test_out_of_memory_goes_on_from_the_same_step(
    learn: Learn, tiny_backbone: WanBackbone, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    expected = learn()
    out_of_memory_above(tiny_backbone, 2, monkeypatch, error, after=1)
    told: list[tuple[int, str]] = []
    found = learn(progress=lambda now: told.append((now.step, now.saved_more)))
    assert_same(found, expected, 1e-5)
    assert [step for step, _ in told] == [1, 2, 3, 1, 2, 3] and told[0][1] == ""
    assert told[1][1] == "Out of memory at step 2; from there on 2 samples at a time."


@pytest.mark.parametrize(
    ("error", "number"), [*zip(shortages(), ["20.00 MiB", "372529.03 GB more were needed", ""], strict=True)]
)
def test_out_of_memory_with_all_savings_says_what_to_change(
    learn: Learn, tiny_backbone: WanBackbone, monkeypatch: pytest.MonkeyPatch, error: Exception, number: str
) -> None:
    out_of_memory_above(tiny_backbone, 0, monkeypatch, error)
    with pytest.raises(TrainingError, match=f"not enough memory for step 1 .* one sample .*{number}") as raised:
        learn()
    assert "fewer frames" in raised.value.hint
    assert not any("lora" in name for name, _ in tiny_backbone.module.named_parameters())


def test_other_errors_of_a_step_are_not_taken_for_a_shortage(
    learn: Learn, tiny_backbone: WanBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_memory_above(tiny_backbone, 0, monkeypatch, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        learn()
