"""Every family of video models, each as a tiny random model in its own file: right gradients, both stages, no trace.

A new entry in nodes/families.py needs a tiny model of its kind in tools/tiny_models.py; one that is
refused is also named in REFUSED here.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from setandseq_core.config import MethodConfig, SequenceConfig, SetConfig
from tools.tiny_models import TINY, Tiny, TinyClip, load_tiny, random, random_weights

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
Call = Callable[..., Any]
REFUSED = ("minimax_h3",)
TRAINED = [name for name in TINY if name not in REFUSED]
CONFIG = MethodConfig(
    rank=2,
    gradient_clipping=1.0,
    set_stage=SetConfig(steps=2, batch=2, learning_rate=1e-2),
    sequence_stage=SequenceConfig(steps=2, batch=2, learning_rate=1e-2),
)


@pytest.fixture(scope="module")
def load(comfyui: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """A tiny MODEL by its name."""
    folder = tmp_path_factory.mktemp("families")
    return lambda name, seed=0: load_tiny(name, folder, seed)


@pytest.fixture(scope="module")
def vae_of(comfyui: ModuleType) -> Callable[[Tiny], Any]:
    """A random VAE of the tiny autoencoders' kind, for latents with that number of channels."""

    def make(tiny: Tiny) -> Any:
        network = import_module("comfy.taesd.taehv").TAEHV(tiny.latents[0])
        return import_module("comfy.sd").VAE(sd=random_weights(network))

    return make


@pytest.fixture(scope="module")
def backbone_of(pack: Pack, vae_of: Call) -> Callable[..., Any]:
    """A MODEL as the core's backbone, with its own text encoder."""

    def make(name: str, model: Any, **options: Any) -> Any:
        tiny = TINY[name]
        graph = [[random(1, 1, tiny.text[1]), tiny.graph(tiny.latents)]]
        wires = {"conditioning": graph} | options
        return pack("nodes.backbone").ComfyBackbone(model, TinyClip(tiny), vae_of(tiny), **wires)

    return make


def in_order(backbone: Any, name: str, text: Any) -> Any:
    """A prompt with the pictures that nodes of the graph put on its conditioning, and with a first frame."""
    if backbone.given is None:
        return text
    text = backbone.given.of_graph(text)
    if not backbone.given.first_frames[-1]:
        return text
    _, frames, height, width = TINY[name].latents
    side = backbone.model.model.latent_format.spacial_downscale_ratio
    first_1HWC = torch.rand(1, side * height, side * width, 3, generator=torch.Generator().manual_seed(5))
    return backbone.given.with_first_frame(text, first_1HWC, backbone.format.length(frames))


def sampled(model: Any, name: str, *, padding: int = 0, noise: Any = None) -> Any:
    """One step of ComfyUI's own sampling from fixed noise, without any of our code.

    Args:
        padding: tokens at the end of the prompt that are zeros.
        noise: in place of that of a video alone.
    """
    tiny, samplers = TINY[name], import_module("comfy.samplers")
    clip = TinyClip(tiny, given=tiny.graph(tiny.latents))
    ((text, values),) = clip.encode_from_tokens_scheduled(["a", "blob"])
    text[:, text.shape[1] - padding :] = 0
    with torch.inference_mode():
        guider = samplers.CFGGuider(model)
        guider.set_conds([[text, values]], [])
        guider.set_cfg(1.0)
        noise = random(1, *tiny.latents) if noise is None else noise
        sigmas = torch.tensor([float(model.get_model_object("model_sampling").percent_to_sigma(p)) for p in (0.3, 0.6)])
        return guider.sample(noise, noise * 0, samplers.sampler_object("euler"), sigmas, seed=0)


@pytest.fixture(scope="module")
def learned(pack: Pack, load: Call, backbone_of: Call) -> Callable[[str], Any]:
    """Trains both stages on random latents; returns the concept, and what the MODEL sampled before and after."""
    kept: dict[str, Any] = {}

    def learn(name: str) -> Any:
        if name not in kept:
            model = load(name)
            kept[name] = _learn(pack, backbone_of, name, model)
        return kept[name]

    return learn


def _learn(pack: Pack, backbone_of: Call, name: str, model: Any) -> tuple[Any, Any, Tensor, Tensor]:
    encode, train = pack("setandseq_core.clips.encode"), pack("setandseq_core.train")
    before = sampled(model, name)
    with torch.inference_mode(), pack("nodes.backbone").differentiable():
        backbone = backbone_of(name, model)
        text, channels, size = backbone.encode_prompt("a [v] blob"), TINY[name].latents[0], TINY[name].latents[2:]
        frames = encode.FrameSet(latents_SCFHW=random(3, channels, 1, *size), text=text)
        clip = encode.FrameSequence(latents_CFHW=random(*TINY[name].latents), text=in_order(backbone, name, text))
        identity = train.train_identity(backbone, encode.Material(clips=[frames]), CONFIG)
        trained = train.train_motion(backbone, identity.layers, encode.Material(clips=[clip]), CONFIG)
        info = pack("setandseq_core.concept").ConceptInfo(
            name="blob",
            static_prompt="a [v] blob",
            motion_prompt="a [v] blob, [u] hopping",
            identity_token="[v]",
            motion_token="[u]",
            base=backbone.fingerprint(),
            base_name=backbone.name,
            config={"rank": 2},
            training={},
        )
    concept = pack("setandseq_core.concept").Concept(info=info, layers=trained.layers)
    return model, concept, before, sampled(model, name)


def test_every_family_has_a_tiny_model(pack: Pack) -> None:
    families = pack("nodes.families").FAMILIES
    kinds = {tiny.kind for tiny in TINY.values()}
    assert [family.name for family in families if not kinds & family.kinds.keys() and not family.caution] == []


def test_a_backbone_knows_the_label_for_managers(load: Call, backbone_of: Call) -> None:
    assert backbone_of("ltxv", load("ltxv")).base_label == "LTXV"


@pytest.mark.parametrize("name", TINY)
def test_comfyui_detects_the_tiny_model(load: Call, name: str) -> None:
    assert type(load(name).model.model_config).__name__ == TINY[name].kind


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("name", TRAINED)
def test_gradients_are_right(pack: Pack, load: Call, backbone_of: Call, name: str, checkpointing: bool) -> None:
    """Compares autograd with central differences along a random direction of all factors."""
    flow, lora, tiny = pack("setandseq_core.flow"), pack("setandseq_core.lora"), TINY[name]
    model = load(name)
    with torch.inference_mode(), pack("nodes.backbone").differentiable():
        backbone = backbone_of(name, model)
        savings = pack("setandseq_core.backbone").Savings(recomputed=1000 if checkpointing else 0)
        x_0, noise, time_B = (
            random(2, *tiny.latents, seed=1),
            random(2, *tiny.latents, seed=2),
            torch.tensor([0.6, 0.4]),
        )
        x_t, target = flow.interpolate(x_0, noise, time_B), flow.target_velocity(x_0, noise)
        texts = [in_order(backbone, name, backbone.encode_prompt("a blob"))] * 2
        with (
            backbone.running(x_t.shape, savings),
            lora.trainable_concept(backbone.module, backbone.layers, rank=2, seed=0) as concept,
        ):
            factors = concept.begin_set_stage(0.0)
            draw = torch.Generator().manual_seed(4)
            with torch.no_grad():
                for key, value in factors.items():
                    if key.endswith("basis"):
                        value.copy_(0.05 * torch.randn(value.shape, generator=draw))
            direction = {key: torch.randn(value.shape, generator=draw) for key, value in factors.items()}

            def loss() -> Tensor:
                return flow.flow_loss(backbone.velocity(x_t.clone(), time_B, texts).double(), target.double())

            def moved(step: float) -> float:
                with torch.no_grad():
                    for key, value in factors.items():
                        value.add_(direction[key], alpha=step)
                    found = loss_as_trained().item()
                    for key, value in factors.items():
                        value.add_(direction[key], alpha=-step)
                return found

            def loss_as_trained() -> Tensor:
                with torch.enable_grad():
                    return loss()

            with backbone.step(), concept.dropped_out():
                loss().backward()
            gradients = {key: value.grad for key, value in factors.items()}
            assert all(grad is not None and grad.isfinite().all() and grad.any() for grad in gradients.values())
            slope = sum(float((gradients[key].double() * direction[key].double()).sum()) for key in factors)
            with backbone.step():
                differences = (moved(1e-3) - moved(-1e-3)) / 2e-3
    assert slope == pytest.approx(differences, rel=0.01)


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_is_planned_and_leaves_nothing_fake(pack: Pack, load: Call, backbone_of: Call, name: str) -> None:
    """Every training is planned before it begins."""
    fake, savings = pack("setandseq_core.training.fake_step"), pack("setandseq_core.backbone").Savings()
    latents = random(1, *TINY[name].latents)
    with torch.inference_mode(), pack("nodes.backbone").differentiable():
        backbone = backbone_of(name, load(name))
        text = in_order(backbone, name, backbone.encode_prompt("a blob"))
        cost = fake.fake_step(backbone, "set", tuple(latents.shape), 2, text, savings)
        with torch.no_grad(), backbone.running(latents.shape, savings):
            assert backbone.velocity(latents, torch.tensor([0.5]), [text]).isfinite().all()
    assert 0 < cost.forward < cost.operations


@pytest.mark.parametrize("name", TRAINED)
def test_both_stages_learn_in_every_layer_and_leave_no_trace(learned: Call, name: str) -> None:
    model, concept, before, after = learned(name)
    assert torch.equal(before, after)
    assert not model.patches and not model.wrappers
    for layer in concept.layers.values():
        assert layer.identity_basis_OR.any() and layer.motion_residual_RI.any()


@pytest.mark.parametrize("name", TRAINED)
def test_the_stock_loader_matches_every_key(pack: Pack, learned: Call, name: str, tmp_path: Path) -> None:
    """A saved and loaded LoRA also gives the same sample as the concept that our nodes apply to the MODEL."""
    model, concept, before, _ = learned(name)
    files, export = pack("setandseq_core.concept_file.file"), pack("setandseq_core.concept_file.export")
    concept = _stronger(concept)
    files.save_concept(concept, tmp_path / "blob.safetensors")
    again = files.load_concept(tmp_path / "blob.safetensors")
    export.export_lora(again, tmp_path / "plain.safetensors")
    lora, keys = (
        load_file(tmp_path / "plain.safetensors"),
        import_module("comfy.lora").model_lora_keys_unet(model.model),
    )
    matched = import_module("comfy.lora").load_lora(dict(lora), keys)
    assert len(matched) == len(concept.layers)
    with torch.inference_mode():
        stock, _ = import_module("comfy.sd").load_lora_for_models(model, None, lora, 1.0, 0.0)
    weighted = pack("nodes.wires").WeightedConcept(concept=again)
    ours = pack("nodes.apply").apply_concepts(model, [weighted])
    expected = sampled(ours, name)
    torch.testing.assert_close(sampled(stock, name), expected, rtol=1e-4, atol=1e-4)
    assert (expected - before).abs().max() > 1e-3


@pytest.mark.parametrize("name", TRAINED)
def test_a_schedule_acts_by_the_noise_that_the_sampler_is_at(pack: Pack, learned: Call, name: str) -> None:
    """The model runs once, after three tenths of the sampling; models that count noise in steps come close to that."""
    model, concept, before, _ = learned(name)
    concept, strengths = _stronger(concept), pack("setandseq_core.compose.strengths")

    def at(value: float, *points: tuple[float, float]) -> Tensor:
        schedules = (strengths.StrengthSchedule(identity=points, motion=points),) if points else ()
        given = pack("setandseq_core.concept").Strengths(value, value)
        weighted = pack("nodes.wires").WeightedConcept(concept=concept, strengths=given, schedules=schedules)
        return sampled(pack("nodes.apply").apply_concepts(model, [weighted]), name)

    whole = at(1.0)
    assert (whole - before).abs().max() > 1e-3
    torch.testing.assert_close(at(1.0, (0.0, 1.0), (0.8, 1.0), (0.81, 0.0)), whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(at(1.0, (0.0, 1.0), (0.05, 0.0)), before, rtol=1e-4, atol=1e-4)
    if pack("nodes.times").times_of(model).is_flow:
        torch.testing.assert_close(at(1.0, (0.0, 1.0), (1.0, 0.0)), at(0.7), rtol=1e-4, atol=1e-4)


def test_a_live_concept_acts_on_ltx2_with_sound_as_a_merged_one_does(pack: Pack, learned: Call) -> None:
    model, concept, _, _ = learned("ltx2")
    constant = pack("setandseq_core.compose.strengths").StrengthSchedule(
        identity=((0.0, 1.0), (1.0, 1.0)), motion=((0.0, 1.0), (1.0, 1.0))
    )
    merged = pack("nodes.wires").WeightedConcept(concept=_stronger(concept))
    live = replace(merged, schedules=(constant,))
    picture_and_sound = random(1, *TINY["ltx2"].latents), random(1, 8, 9, 16, seed=4)
    noise = import_module("comfy.nested_tensor").NestedTensor(picture_and_sound)
    apply = pack("nodes.apply").apply_concepts
    models = model, apply(model, [merged]), apply(model, [live])
    bare, expected, found = (sampled(each, "ltx2", noise=noise).unbind() for each in models)
    for part, whole, without in zip(found, expected, bare, strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-4)
        assert (part - without).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["wan_t2v", "hunyuan_video_15"])
def test_a_prompt_of_600_tokens_trains_together_with_practice_clips(
    pack: Pack, load: Call, backbone_of: Call, name: str
) -> None:
    encode, train = pack("setandseq_core.clips.encode"), pack("setandseq_core.train")
    config = replace(CONFIG, prior=replace(CONFIG.prior, share=0.5))
    channels, _, *size = TINY[name].latents
    with torch.inference_mode(), pack("nodes.backbone").differentiable():
        backbone = backbone_of(name, load(name))
        long, *short, empty = (
            backbone.encode_prompt(prompt) for prompt in ("a [v] blob " + 600 * "moss ", "a dog", "a tree", "")
        )
        assert len(long.tokens_ND) > 600 > len(short[0].tokens_ND)
        frames = encode.FrameSet(latents_SCFHW=random(3, channels, 1, *size), text=long)
        stills = encode.EncodedPrior(latents_KCFHW=random(2, channels, 1, *size), texts=short, empty=[empty] * 2)
        identity = train.train_identity(backbone, encode.Material(clips=[frames], prior=stills), config)
        clip = encode.FrameSequence(latents_CFHW=random(*TINY[name].latents), text=long)
        clips = encode.EncodedPrior(latents_KCFHW=random(2, *TINY[name].latents), texts=short, empty=[empty] * 2)
        trained = train.train_motion(backbone, identity.layers, encode.Material(clips=[clip], prior=clips), config)
    for layer in trained.layers.values():
        assert layer.motion_residual_RI.isfinite().all() and layer.motion_residual_RI.any()


@pytest.mark.parametrize("name", TRAINED)
def test_learned_tokens_reach_the_model_or_are_refused_by_name(pack: Pack, learned: Call, name: str) -> None:
    model, concept, _, _ = learned(name)
    if not pack("nodes.families").family_of(model).reads_padding:
        learning = pack("nodes.settings").TrainingOptions(config=replace(CONFIG, token_learning_rate=0.01))
        lesson = pack("nodes.lesson").Lesson(clip=None, vae=None, references=(), options=learning)
        with pytest.raises(Exception, match="does not read the places") as caught:
            lesson.backbone(model)
        assert type(caught.value).__name__ == "ConfigError"
        return
    taught = replace(concept, embeddings={"identity_embedding": torch.ones(TINY[name].text[1])})
    plain, learnt = (
        pack("nodes.apply").apply_concepts(model, [pack("nodes.wires").WeightedConcept(concept=each)])
        for each in (concept, taught)
    )
    difference = sampled(learnt, name, padding=3) - sampled(plain, name, padding=3)
    assert difference.isfinite().all() and difference.abs().max() > 1e-6


@pytest.mark.parametrize("name", TRAINED)
def test_concepts_act_in_regions_or_are_refused_by_name(pack: Pack, learned: Call, name: str) -> None:
    model, concept, before, _ = learned(name)
    weighted = pack("nodes.wires").WeightedConcept(concept=_stronger(concept))
    regions = torch.ones(1, 1, 8, 8)
    if pack("nodes.families").family_of(model).regions:
        assert (sampled(pack("nodes.apply").apply_concepts(model, [weighted], regions), name) - before).any()
    else:
        with pytest.raises(Exception, match="cannot act in regions of") as caught:
            pack("nodes.apply").apply_concepts(model, [weighted], regions)
        assert type(caught.value).__name__ == "ConfigError"


def _stronger(concept: Any) -> Any:
    """Make the effect visible after two steps of training."""
    layers = {
        name: replace(layer, identity_basis_OR=30 * layer.identity_basis_OR) for name, layer in concept.layers.items()
    }
    return replace(concept, layers=layers)


@pytest.mark.parametrize("name", TRAINED)
def test_another_model_of_the_family_and_another_family_are_refused_by_name(
    pack: Pack, load: Call, learned: Call, name: str
) -> None:
    _, concept, _, _ = learned(name)
    weighted = pack("nodes.wires").WeightedConcept(concept=concept)
    error = pack("setandseq_core.errors").ConceptMismatchError
    with pytest.raises(error, match="does not fit the connected model.*other weights"):
        pack("nodes.apply").apply_concepts(load(name, seed=1), [weighted])
    other = "ltxv" if pack("nodes.families").family_of(load(name)).name == "wan" else "wan_t2v"
    with pytest.raises(error, match="does not fit the connected model.*family, this model is"):
        pack("nodes.apply").apply_concepts(load(other), [weighted])


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_in_words(pack: Pack, load: Call, name: str) -> None:
    with pytest.raises(pack("setandseq_core.errors").BackboneError, match="guidance is distilled"):
        pack("nodes.models").check_video_model(load(name))


def test_a_model_that_is_not_listed_is_trained_under_its_own_name_with_a_caution(pack: Pack, load: Call) -> None:
    family = pack("nodes.families").family_of(load("unlisted"))
    assert family.name == "cosmost2v" and "not in the list" in family.caution
    assert family.writes_in_place and not family.batches
