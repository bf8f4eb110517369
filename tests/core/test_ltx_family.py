"""LTX-Video and LTX-2 share latents, gradients and trainings, tested on tiny random models in real folders."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from setandseq_core.backbone import Savings
from setandseq_core.backbones.families import family_of
from setandseq_core.backbones.folders import ModelFiles
from setandseq_core.backbones.ltx import LTXFamily
from setandseq_core.clips.clip import Clip, Reference, Words
from setandseq_core.clips.encode import FrameSequence, FrameSet, Material
from setandseq_core.compose.apply import applied_concepts
from setandseq_core.compose.regions import stripes
from setandseq_core.compose.strengths import StrengthSchedule, WeightedConcept
from setandseq_core.concept import AS_LEARNED, Concept, ConceptInfo
from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig
from setandseq_core.errors import ConfigError
from setandseq_core.flow import flow_loss, interpolate, target_velocity
from setandseq_core.learn import learn_concept
from setandseq_core.lora import trainable_concept
from setandseq_core.train import train_identity, train_motion
from setandseq_core.training.fake_step import fake_step
from tools.tiny_folders import write_ltx, write_ltx2

SHAPE = (128, 3, 2, 2)
CONFIG = MethodConfig(
    rank=2,
    prior=PriorConfig(share=0.0),
    set_stage=SetConfig(steps=2, batch=2, learning_rate=1e-2),
    sequence_stage=SequenceConfig(steps=2, batch=2, learning_rate=1e-2),
)
WRITERS = {
    "LTX-Video": write_ltx,
    "LTX-2": write_ltx2,
    "LTX-2.3": lambda folder: write_ltx2(folder, newer=True),
}


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=WRITERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WRITERS[request.param](tmp_path_factory.mktemp("models") / "tiny_0.9")


def loaded(files: ModelFiles) -> LTXFamily:
    backbone = family_of(files.model).load(files)
    assert isinstance(backbone, LTXFamily)
    return backbone


@pytest.fixture(scope="module")
def backbone(folder: Path) -> LTXFamily:
    return loaded(ModelFiles(model=folder))


def test_a_latent_frame_stands_for_eight_frames_of_32_pixels(backbone: LTXFamily) -> None:
    frames_FHWC = torch.rand(9, 64, 32, 3, generator=torch.Generator().manual_seed(0))
    latents = backbone.encode_frames(frames_FHWC)
    assert latents.shape == backbone.latent_shape(9, 64, 32) == (128, 2, 2, 1)
    assert backbone.encode_frames(frames_FHWC[:1]).shape == backbone.latent_shape(1, 64, 32)
    decoded = backbone.decode_latents(latents)
    assert decoded.shape == frames_FHWC.shape and decoded.min() >= 0 and decoded.max() <= 1


@torch.no_grad()
def test_latents_are_normalised_by_the_mean_and_the_deviation_of_the_vae(backbone: LTXFamily) -> None:
    frames_FHWC = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    raw = backbone.vae.encode(frames_FHWC.permute(3, 0, 1, 2)[None] * 2 - 1).latent_dist.mode()[0]
    mean, std = (each.view(-1, 1, 1, 1) for each in (backbone.vae.latents_mean, backbone.vae.latents_std))
    assert mean.any() and (std != 1).any()
    latents = backbone.encode_frames(frames_FHWC)
    torch.testing.assert_close(latents, (raw - mean) / std)
    decoded = backbone.vae.decode(raw[None], return_dict=False)[0][0].permute(1, 2, 3, 0)
    torch.testing.assert_close(backbone.decode_latents(latents), ((decoded + 1) / 2).clamp(0, 1))


@pytest.mark.parametrize("recomputed", [0, 1, 1000], ids=["kept", "one recomputed", "all recomputed"])
def test_gradients_are_right(backbone: LTXFamily, recomputed: int) -> None:
    """Compares autograd with central differences along a random direction of all factors."""
    x_0, noise, time_B = random(2, *SHAPE, seed=1), random(2, *SHAPE, seed=2), torch.tensor([0.6, 0.4])
    x_t, target = interpolate(x_0, noise, time_B), target_velocity(x_0, noise)
    texts = [backbone.encode_prompt(prompt) for prompt in ("a sks blob", "a blob")]
    draw = torch.Generator().manual_seed(4)
    with (
        backbone.running(tuple(x_t.shape), Savings(recomputed=recomputed)),
        trainable_concept(backbone.module, backbone.layers, rank=2, seed=0) as concept,
    ):
        factors = concept.begin_set_stage(0.0)
        with torch.no_grad():
            for name, value in factors.items():
                if name.endswith("basis"):
                    value.copy_(0.05 * torch.randn(value.shape, generator=draw))
        direction = {name: torch.randn(value.shape, generator=draw) for name, value in factors.items()}

        def loss() -> Tensor:
            return flow_loss(backbone.velocity(x_t, time_B, texts).double(), target.double())

        def moved(step: float) -> float:
            with torch.no_grad():
                for name, value in factors.items():
                    value.add_(direction[name], alpha=step)
            found = loss().item()
            with torch.no_grad():
                for name, value in factors.items():
                    value.add_(direction[name], alpha=-step)
            return found

        with backbone.step(), concept.dropped_out():
            loss().backward()
        slope = 0.0
        for name, value in factors.items():
            assert value.grad is not None and value.grad.isfinite().all() and value.grad.any()
            slope += float((value.grad.double() * direction[name].double()).sum())
        differences = (moved(1e-3) - moved(-1e-3)) / 2e-3
    assert slope == pytest.approx(differences, rel=0.01)


def test_checkpointing_changes_no_gradient(backbone: LTXFamily) -> None:
    x_t, texts = random(1, *SHAPE), [backbone.encode_prompt("a blob")]
    found: list[list[Tensor]] = []
    for recomputed in (0, 1000):
        with (
            backbone.running(tuple(x_t.shape), Savings(recomputed=recomputed)),
            trainable_concept(backbone.module, backbone.layers, rank=2, seed=0) as concept,
        ):
            factors = concept.begin_set_stage(0.0)
            with concept.dropped_out():
                backbone.velocity(x_t, torch.tensor([0.5]), texts).square().mean().backward()
            found.append([value.grad for value in factors.values() if value.grad is not None])
    assert len(found[0]) == len(found[1]) > 0
    assert all(torch.equal(kept, again) for kept, again in zip(*found, strict=True))


def test_a_step_is_planned_on_fake_tensors(backbone: LTXFamily) -> None:
    text = backbone.encode_prompt("a blob")
    cost = fake_step(backbone, "set", (1, *SHAPE), 2, text, Savings())
    assert 0 < cost.forward < cost.operations and list(cost.blocks) == ["transformer_blocks"]


@pytest.fixture(scope="module")
def concept(backbone: LTXFamily) -> Concept:
    """A concept of both stages, trained on random latents."""
    text = backbone.encode_prompt("a sks blob")
    frames = FrameSet(latents_SCFHW=random(3, 128, 1, 2, 2), text=text)
    clip = FrameSequence(latents_CFHW=random(*SHAPE), text=text)
    identity = train_identity(backbone, Material(clips=[frames]), CONFIG)
    motion = train_motion(backbone, identity.layers, Material(clips=[clip]), CONFIG)
    info = ConceptInfo(
        name="blob",
        static_prompt="a sks blob",
        motion_prompt="a sks blob",
        identity_token="sks",
        motion_token="",
        base=backbone.fingerprint(),
        base_name=backbone.name,
        config={"rank": 2},
        training={},
    )
    return Concept(info=info, layers=motion.layers)


def test_both_stages_learn_in_every_layer_and_leave_no_trace(backbone: LTXFamily, concept: Concept) -> None:
    assert concept.layers.keys() == backbone.layers.keys()
    assert all(layer.identity_basis_OR.any() and layer.motion_residual_RI.any() for layer in concept.layers.values())
    assert not [name for name, _ in backbone.module.named_parameters() if "lora" in name]


def test_a_schedule_acts_by_the_time_that_the_sampler_is_at(backbone: LTXFamily, concept: Concept) -> None:
    noise = random(*SHAPE)

    def sampled(*schedule: tuple[float, float]) -> Tensor:
        acting = StrengthSchedule(identity=schedule, motion=schedule) if schedule else StrengthSchedule()
        weighted = WeightedConcept(concept=concept).times(AS_LEARNED, acting)
        with applied_concepts(backbone, [weighted]) as applied:
            return applied.sample(noise, "a sks blob", steps=2, guidance=1.0)

    always = sampled()
    torch.testing.assert_close(sampled((0.0, 1.0), (0.5, 1.0), (1.0, 0.999)), always, rtol=1e-3, atol=1e-4)
    never = sampled((0.0, 0.0))
    assert (always - never).abs().max() > 1e-2
    late = sampled((0.0, 0.0), (0.25, 0.0), (0.26, 1.0))
    assert (late - always).abs().max() > 1e-3 and (late - never).abs().max() > 1e-3


def test_regions_and_learned_tokens_are_refused_by_name(backbone: LTXFamily, concept: Concept) -> None:
    weighted = [WeightedConcept(concept=concept)] * 2
    with (
        pytest.raises(ConfigError, match=r"in regions of tiny_0\.9"),
        applied_concepts(backbone, weighted, stripes(2)),
    ):
        pass
    words = Words(static_prompt="a sks blob", motion_prompt="a sks blob")
    reference = Reference(clip=Clip(frames_FHWC=torch.rand(9, 32, 32, 3), fps=25.0, choice="x"), words=words)
    tokens = MethodConfig(rank=2, token_learning_rate=1e-3)
    with pytest.raises(ConfigError, match=r"tiny_0\.9 does not read the places"):
        learn_concept(backbone, [reference], tokens, name="x")


def test_weights_in_bfloat16_stay_near_those_in_float32(folder: Path, backbone: LTXFamily) -> None:
    half = loaded(ModelFiles(model=folder, dtype=torch.bfloat16))
    assert half.module.dtype == torch.bfloat16 and half.vae.dtype == torch.float32
    inputs = random(1, *SHAPE), torch.tensor([0.5])
    with torch.no_grad():
        full = backbone.velocity(*inputs, [backbone.encode_prompt("a blob")])
        found = half.velocity(*inputs, [half.encode_prompt("a blob")])
    assert found.dtype == torch.float32 and (found - full).abs().max() < 0.1 * full.std()
