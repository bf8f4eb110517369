"""LTX-Video through diffusers: a tiny random model in a real folder, its gradients, and folders that are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from setandseq_core.backbone import Backbone, Savings
from setandseq_core.backbones.families import LTX, WAN, family_of
from setandseq_core.backbones.folders import ModelFiles
from setandseq_core.backbones.ltx import CAUSAL, LTX_FORMAT, LTX_TEXT, LTXBackbone, load_ltx, token_places
from setandseq_core.backbones.t5 import T5Prompts
from setandseq_core.clips.clip import Clip, Reference, Words
from setandseq_core.clips.encode import FrameSequence, FrameSet, Material
from setandseq_core.compose.apply import applied_concepts
from setandseq_core.compose.regions import stripes
from setandseq_core.compose.strengths import StrengthSchedule, WeightedConcept
from setandseq_core.concept import AS_LEARNED, Concept, ConceptInfo
from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig
from setandseq_core.errors import BackboneError, ConfigError
from setandseq_core.flow import flow_loss, interpolate, target_velocity
from setandseq_core.learn import learn_concept
from setandseq_core.lora import trainable_concept
from setandseq_core.train import train_identity, train_motion
from setandseq_core.training.fake_step import fake_step
from tools.tiny_folders import LTX_VAE, LTX_VAE_091, write_ltx, write_wan

SHAPE = (128, 3, 2, 2)
CONFIG = MethodConfig(
    rank=2,
    prior=PriorConfig(share=0.0),
    set_stage=SetConfig(steps=2, batch=2, learning_rate=1e-2),
    sequence_stage=SequenceConfig(steps=2, batch=2, learning_rate=1e-2),
)
Change = Callable[[Path], object]


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ltx(tmp_path_factory.mktemp("models") / "tiny_ltx_0.9")


@pytest.fixture(scope="module")
def backbone(folder: Path) -> LTXBackbone:
    return load_ltx(ModelFiles(model=folder))


def rewritten(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_backbone_has_all_that_the_method_needs(backbone: LTXBackbone) -> None:
    as_protocol: Backbone = backbone
    assert as_protocol.name == "tiny_ltx_0.9"
    assert len(backbone.layers) == 2 * 10 and all(name == path for name, path in backbone.layers.items())
    assert backbone.fingerprint().family == "ltxv"


def test_a_latent_frame_stands_for_eight_frames_of_32_pixels(backbone: LTXBackbone) -> None:
    frames_FHWC = torch.rand(9, 64, 32, 3, generator=torch.Generator().manual_seed(0))
    latents = backbone.encode_frames(frames_FHWC)
    assert latents.shape == backbone.latent_shape(9, 64, 32) == (128, 2, 2, 1)
    assert backbone.encode_frames(frames_FHWC[:1]).shape == backbone.latent_shape(1, 64, 32)
    decoded = backbone.decode_latents(latents)
    assert decoded.shape == frames_FHWC.shape and decoded.min() >= 0 and decoded.max() <= 1


@torch.no_grad()
def test_latents_are_normalised_by_the_mean_and_the_deviation_of_the_vae(backbone: LTXBackbone) -> None:
    frames_FHWC = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    raw = backbone.vae.encode(frames_FHWC.permute(3, 0, 1, 2)[None] * 2 - 1).latent_dist.mode()[0]
    mean, std = (each.view(-1, 1, 1, 1) for each in (backbone.vae.latents_mean, backbone.vae.latents_std))
    assert mean.any() and (std != 1).any()
    latents = backbone.encode_frames(frames_FHWC)
    torch.testing.assert_close(latents, (raw - mean) / std)
    decoded = backbone.vae.decode(raw[None], return_dict=False)[0][0].permute(1, 2, 3, 0)
    torch.testing.assert_close(backbone.decode_latents(latents), ((decoded + 1) / 2).clamp(0, 1))


@torch.no_grad()
def test_a_decoder_that_draws_noise_always_gives_the_same_and_changes_no_other_draw(tmp_path: Path) -> None:
    backbone = load_ltx(ModelFiles(model=write_ltx(tmp_path / "ltx", vae=LTX_VAE_091)))
    asked: list[Tensor] = []
    backbone.vae.decoder.register_forward_pre_hook(lambda _, args: asked.append(args[1]))
    latents = random(128, 2, 1, 1)
    before = torch.get_rng_state()
    first = backbone.decode_latents(latents)
    assert torch.equal(torch.get_rng_state(), before) and first.shape == (9, 32, 32, 3)
    torch.rand(1)
    assert torch.equal(backbone.decode_latents(latents), first)
    assert [time_B.tolist() for time_B in asked] == [[pytest.approx(0.05)]] * 2
    without = backbone.vae.decode(
        (latents * backbone._std + backbone._mean)[None], torch.tensor([0.05]), return_dict=False
    )
    assert not torch.equal(((without[0][0] + 1) / 2).clamp(0, 1).permute(1, 2, 3, 0), first)


@torch.no_grad()
def test_padding_of_a_shorter_prompt_has_no_effect(backbone: LTXBackbone) -> None:
    texts = [backbone.encode_prompt(prompt) for prompt in ("a sks blob zub", "")]
    assert [len(text.tokens_ND) for text in texts] == [5, 1]
    x_t, time_B = random(2, *SHAPE), torch.tensor([0.3, 0.8])
    together = backbone.velocity(x_t, time_B, texts)
    alone = [backbone.velocity(x_t[i : i + 1], time_B[i : i + 1], texts[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert (backbone.velocity(x_t, time_B, texts[::-1]) - together).abs().max() > 1e-4


def test_prompts_of_any_length_are_encoded(folder: Path) -> None:
    text = T5Prompts(LTX_TEXT, folder, torch.device("cpu"), torch.float32)("a " * 600)
    assert text.shape == (601, 16)


def test_places_are_seconds_and_pixels() -> None:
    places_3S = token_places((3, 1, 2), LTX_FORMAT, causal=False)
    seconds = torch.tensor([0, 0, 8, 8, 16, 16]) / 25
    torch.testing.assert_close(places_3S, torch.stack([seconds, torch.zeros(6), torch.tensor([0.0, 32.0] * 3)]))
    causal_3S = token_places((3, 1, 2), LTX_FORMAT, causal=True)
    torch.testing.assert_close(causal_3S[0], torch.tensor([0, 0, 1, 1, 9, 9]) / 25)
    assert torch.equal(causal_3S[1:], places_3S[1:])


@torch.no_grad()
def test_releases_since_095_count_time_from_the_first_frame_of_each_latent_frame(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "ltx")
    found: dict[str, Tensor] = {}
    for pipeline in CAUSAL:
        rewritten(tmp_path / "ltx" / "model_index.json", _class_name=pipeline)
        backbone = load_ltx(ModelFiles(model=tmp_path / "ltx"))
        found[pipeline] = backbone.velocity(random(1, *SHAPE), torch.tensor([0.5]), [backbone.encode_prompt("a blob")])
    assert torch.equal(found["LTXPipeline"], found["LTXImageToVideoPipeline"])
    assert torch.equal(found["LTXConditionPipeline"], found["LTXI2VLongMultiPromptPipeline"])
    assert not torch.equal(found["LTXPipeline"], found["LTXConditionPipeline"])


@pytest.mark.parametrize("recomputed", [0, 1, 1000], ids=["kept", "one recomputed", "all recomputed"])
def test_gradients_are_right(backbone: LTXBackbone, recomputed: int) -> None:
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


def test_checkpointing_changes_no_gradient(backbone: LTXBackbone) -> None:
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


def test_a_step_is_planned_on_fake_tensors(backbone: LTXBackbone) -> None:
    text = backbone.encode_prompt("a blob")
    cost = fake_step(backbone, "set", (1, *SHAPE), 2, text, Savings())
    assert 0 < cost.forward < cost.operations and list(cost.blocks) == ["transformer_blocks"]


@pytest.fixture(scope="module")
def concept(backbone: LTXBackbone) -> Concept:
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


def test_both_stages_learn_in_every_layer_and_leave_no_trace(backbone: LTXBackbone, concept: Concept) -> None:
    assert concept.layers.keys() == backbone.layers.keys()
    assert all(layer.identity_basis_OR.any() and layer.motion_residual_RI.any() for layer in concept.layers.values())
    assert not [name for name, _ in backbone.module.named_parameters() if "lora" in name]


def test_a_schedule_acts_by_the_time_that_the_sampler_is_at(backbone: LTXBackbone, concept: Concept) -> None:
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


def test_regions_and_learned_tokens_are_refused_by_name(backbone: LTXBackbone, concept: Concept) -> None:
    weighted = [WeightedConcept(concept=concept)] * 2
    with (
        pytest.raises(ConfigError, match=r"in regions of tiny_ltx_0\.9"),
        applied_concepts(backbone, weighted, stripes(2)),
    ):
        pass
    words = Words(static_prompt="a sks blob", motion_prompt="a sks blob")
    reference = Reference(clip=Clip(frames_FHWC=torch.rand(9, 32, 32, 3), fps=25.0, choice="x"), words=words)
    tokens = MethodConfig(rank=2, token_learning_rate=1e-3)
    with pytest.raises(ConfigError, match=r"tiny_ltx_0\.9 does not read the places"):
        learn_concept(backbone, [reference], tokens, name="x")


def test_a_folder_is_recognised_by_the_class_of_its_transformer(folder: Path, tmp_path: Path) -> None:
    assert family_of(folder) is family_of(folder / "transformer") is LTX
    assert family_of(write_wan(tmp_path / "wan")) is WAN
    assert family_of(tmp_path / "wan.safetensors") is WAN


@pytest.mark.parametrize("kind", ["LTX2VideoTransformer3DModel", "MochiTransformer3DModel"])
def test_a_folder_of_another_video_model_is_sent_to_comfyui(tmp_path: Path, kind: str) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(BackboneError, match=f"holds a {kind}, which the command line does not train") as caught:
        family_of(tmp_path)
    assert "in ComfyUI, by the node Train Concept" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda at: (at / "model_index.json").unlink(), r"no readable model_index\.json"),
        (
            lambda at: rewritten(at / "model_index.json", _class_name="LTXLatentUpsamplePipeline"),
            "names LTXLatentUpsamplePipeline; for LTX-Video",
        ),
        (lambda at: rewritten(at / "transformer/config.json", in_channels=256), "256 channels in, 128 out"),
        (lambda at: rewritten(at / "transformer/config.json", patch_size=2), r"patches \(2, 1\)"),
        (lambda at: rewritten(at / "transformer/config.json", num_layers=3), "weights do not fit its config.json"),
        (lambda at: rewritten(at / "vae/config.json", patch_size=2), "do not fit|shape"),
        (lambda at: shutil.rmtree(at / "vae"), "no readable config.json in it or in its folder 'vae'"),
        (lambda at: rewritten(at / "vae/config.json", _class_name="AutoencoderKLWan"), "not a AutoencoderKLLTXVideo"),
        (lambda at: shutil.rmtree(at / "tokenizer"), "has no folder 'tokenizer'. LTX-Video needs"),
        (lambda at: _pickled(at / "text_encoder"), "cannot be loaded"),
    ],
    ids=[
        "no index",
        "upsampler",
        "image channels",
        "patches",
        "blocks missing",
        "VAE of other patches",
        "no VAE",
        "VAE of Wan",
        "no tokenizer",
        "pickled encoder",
    ],
)
def test_a_folder_that_does_not_fit_is_refused_in_words(
    folder: Path, tmp_path: Path, change: Change, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    change(Path(shutil.copytree(folder, tmp_path / "ltx")))
    with pytest.raises(BackboneError, match=message):
        load_ltx(ModelFiles(model=tmp_path / "ltx"))


def _pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def test_a_vae_of_another_compression_is_refused(folder: Path, tmp_path: Path) -> None:
    other: dict[str, Any] = {"block_out_channels": (4, 4, 8), "spatio_temporal_scaling": (True, True, False)}
    other |= {"decoder_block_out_channels": (4, 4, 8), "decoder_spatio_temporal_scaling": (True, True, False)}
    other |= {"layers_per_block": (1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1)}
    other |= {"down_block_types": ("LTXVideoDownBlock3D",) * 3}
    vae = write_ltx(tmp_path / "other", vae=LTX_VAE | other) / "vae"
    with pytest.raises(BackboneError, match="128 channels for 4 frames of 16x16 pixels; the transformer needs 128 for"):
        load_ltx(ModelFiles(model=folder, vae=vae))


def test_weights_in_bfloat16_stay_near_those_in_float32(folder: Path, backbone: LTXBackbone) -> None:
    half = load_ltx(ModelFiles(model=folder, dtype=torch.bfloat16))
    assert half.module.dtype == torch.bfloat16 and half.vae.dtype == torch.float32
    inputs = random(1, *SHAPE), torch.tensor([0.5])
    with torch.no_grad():
        full = backbone.velocity(*inputs, [backbone.encode_prompt("a blob")])
        found = half.velocity(*inputs, [half.encode_prompt("a blob")])
    assert found.dtype == torch.float32 and (found - full).abs().max() < 0.1 * full.std()
