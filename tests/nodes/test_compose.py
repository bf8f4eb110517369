"""Compose Concepts in regions and with schedules, Strength Schedule and Transfer Motion, in a real ComfyUI."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.backbones.wan_files import load_transformer
from setandseq_core.compose.live import LiveConcepts
from setandseq_core.concept import EMBEDDINGS
from setandseq_core.embedded.text import encode_prompt
from setandseq_core.prompts import Condition

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
Call = Callable[..., Any]
LATENTS = torch.randn(1, 16, 2, 4, 8, generator=torch.Generator().manual_seed(5))
TEXT = encode_prompt("a [v1] bee and a [v2] bee").unsqueeze(0)
SHIFT = 8.0
"""The time shift of ComfyUI's Wan, unless a node changes it."""


@pytest.fixture
def weighted(pack: Pack) -> Call:
    """A concept on a wire, with its identity and motion strength."""

    def make(concept: Any, identity: float = 1.0, motion: float = 1.0) -> Any:
        strengths = pack("setandseq_core.concept").Strengths(identity, motion)
        return pack("nodes.wires").WeightedConcept(concept=concept, strengths=strengths)

    return make


@pytest.fixture
def compose(run: Call) -> Call:
    """Runs Compose Concepts; returns its MODEL."""

    def execute(model: Any, *concepts: Any, **inputs: Any) -> Any:
        named = {f"concept_{index}": each for index, each in enumerate(concepts)}
        strengths = {"identity_strength": 1.0, "motion_strength": 1.0}
        return run("ComposeConcepts", model=model, concepts=named, **(strengths | inputs)).result[0]

    return execute


@pytest.fixture
def velocity_at(comfyui: ModuleType) -> Callable[..., Tensor]:
    """A MODEL's velocity at a time, with everything that nodes have put on it."""

    def answer(model: Any, time: float = 0.6, kinds: Sequence[int] = (0,)) -> Tensor:
        """The velocity with one row for each of `kinds`: 0 is for the prompt, 1 for the negative prompt."""
        latents, text = (value.repeat(len(kinds), *[1] * (value.ndim - 1)) for value in (LATENTS, TEXT))
        with torch.inference_mode():
            import_module("comfy.model_management").load_models_gpu([model])
            options = {"wrappers": model.wrappers, "cond_or_uncond": list(kinds)}
            sigma = torch.full((len(kinds),), time)
            denoised = model.model.apply_model(latents, sigma, None, text, {"input": []}, options)
            return ((latents - denoised) / time).clone()

    return answer


@pytest.fixture
def core_velocity(wan_file: Callable[..., Path]) -> Callable[..., Tensor]:
    """The velocity of the same file in the core, with live concepts on it."""
    backbone = WanBackbone(load_transformer(wan_file(), torch.float32), AutoencoderKLWan(base_dim=4), encode_prompt, "")

    @torch.no_grad()
    def answer(
        concepts: list[Any], regions: Tensor | None = None, time: float = 0.6, texts: Sequence[Tensor] = ()
    ) -> Tensor:
        with LiveConcepts(concepts, backbone.layers, regions, texts).running(backbone.module, SHIFT):
            return backbone.velocity(LATENTS, torch.tensor([time]), [Condition(tokens_ND=TEXT[0])])

    return answer


@pytest.fixture
def with_tokens() -> Call:
    """A concept whose learned tokens have a visible effect."""

    def add(concept: Any) -> Any:
        generator = torch.Generator().manual_seed(9)
        return replace(concept, embeddings={name: torch.randn(4096, generator=generator) for name in EMBEDDINGS})

    return add


@pytest.fixture
def schedule(run: Call) -> Call:
    """Runs Strength Schedule; returns its schedule."""

    def make(**inputs: float) -> Any:
        as_they_are = dict.fromkeys(("identity_first", "identity_last", "motion_first", "motion_last"), 1.0)
        return run("StrengthScheduleNode", **(as_they_are | {"begin": 0.0, "end": 1.0} | inputs)).result[0]

    return make


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("masked", [False, True], ids=["stripes", "masks"])
def test_regions_are_those_of_the_core(
    load_wan: Call,
    make_concept: Call,
    weighted: Call,
    compose: Call,
    velocity_at: Call,
    core_velocity: Call,
    masked: bool,
) -> None:
    model = load_wan()
    both = [weighted(make_concept(model, seed=1), 0.7, 1.2), weighted(make_concept(model, seed=2))]
    masks = torch.zeros(2, 32, 64)
    masks[0, :, :40], masks[1, 16:, 24:] = 1, 1  # they overlap, and leave a corner free
    regions = masks.unsqueeze(1) if masked else torch.eye(2).view(2, 1, 1, 2)
    before, expected = velocity_at(model), core_velocity(both, regions)
    found = compose(model, *both, method="regions", **({"masks": masks} if masked else {}))
    assert_close(velocity_at(found), expected)
    assert (expected - before).abs().max() > 1e-2
    assert (expected - velocity_at(compose(model, *both))).abs().max() > 1e-2
    assert torch.equal(velocity_at(model), before)
    assert not model.wrappers


def test_without_a_method_concepts_add_up_as_patches(
    load_wan: Call, make_concept: Call, weighted: Call, compose: Call, velocity_at: Call, core_velocity: Call
) -> None:
    model = load_wan()
    both = [weighted(make_concept(model, seed=1)), weighted(make_concept(model, seed=2))]
    found = compose(model, *both)
    assert found.patches
    assert not found.wrappers
    assert_close(velocity_at(found), core_velocity(both))


def test_a_schedule_gives_the_strength_of_the_time(
    load_wan: Call, make_concept: Call, weighted: Call, compose: Call, velocity_at: Call, schedule: Call
) -> None:
    model = load_wan()
    concept = weighted(make_concept(model), 1.0, 0.5)
    changing = schedule(identity_first=0.0, identity_last=2.0, motion_first=2.0, motion_last=0.0, begin=0.25, end=0.75)
    found = compose(model, concept, schedule=changing)
    sampling = model.get_model_object("model_sampling")
    for percent, identity, motion in ((0.1, 0.0, 2.0), (0.5, 1.0, 1.0), (0.9, 2.0, 0.0)):
        time = float(sampling.percent_to_sigma(percent))
        expected = compose(model, concept, identity_strength=identity, motion_strength=motion)
        assert_close(velocity_at(found, time), velocity_at(expected, time))


def test_a_constant_schedule_is_a_constant_strength(
    load_wan: Call, make_concept: Call, weighted: Call, compose: Call, velocity_at: Call, schedule: Call
) -> None:
    model = load_wan()
    concept = weighted(make_concept(model))
    constant = schedule(identity_first=0.5, identity_last=0.5, motion_first=2.0, motion_last=2.0)
    found = compose(model, concept, schedule=constant)
    assert not found.wrappers
    expected = compose(model, concept, identity_strength=0.5, motion_strength=2.0)
    assert torch.equal(velocity_at(found), velocity_at(expected))


def test_sampling_obeys_a_schedule(
    comfyui: ModuleType, load_wan: Call, make_concept: Call, weighted: Call, compose: Call, schedule: Call
) -> None:
    """With guidance in the stock sampler, an almost constant schedule gives almost the result of a constant one."""
    model = load_wan()
    concept = weighted(make_concept(model))

    def sampled(patched: Any) -> Tensor:
        positive, negative = ([[text, {}]] for text in (TEXT, torch.zeros_like(TEXT)))
        with torch.inference_mode():
            latent = {"samples": torch.zeros_like(LATENTS)}
            return comfyui.common_ksampler(patched, 3, 3, 4.0, "euler", "simple", positive, negative, latent)[0][
                "samples"
            ]

    changing = schedule(identity_first=0.5, identity_last=0.5 + 1e-6, motion_first=2.0, motion_last=2.0)
    expected = sampled(compose(model, concept, identity_strength=0.5, motion_strength=2.0))
    assert_close(sampled(compose(model, concept, schedule=changing)), expected)
    assert (sampled(model) - expected).abs().max() > 1e-2


def test_a_schedule_of_the_loader_stays_with_its_concept(
    load_wan: Call, make_concept: Call, weighted: Call, run: Call, folders: Path, compose: Call, schedule: Call
) -> None:
    model = load_wan()
    run("SaveDynamicConcept", concept=weighted(make_concept(model)), name="bee", plain_lora=False)
    late = schedule(identity_first=0.0)
    strengths = {"identity_strength": 1.0, "motion_strength": 1.0}
    patched, wire, *_ = run(
        "LoadDynamicConcept", concept="bee.safetensors", model=model, schedule=late, **strengths
    ).result
    assert wire.schedules == (late,)
    assert patched.wrappers
    assert compose(model, wire).wrappers


def test_region_prompts_are_those_of_the_core(
    load_wan: Call,
    make_concept: Call,
    weighted: Call,
    compose: Call,
    velocity_at: Call,
    core_velocity: Call,
    with_tokens: Call,
) -> None:
    """The negative prompt's rows keep their text; each region has only the learned tokens of its own concept."""
    model = load_wan()
    both = [weighted(with_tokens(make_concept(model, seed=1))), weighted(make_concept(model, seed=2))]
    texts = [encode_prompt("a [v1] bee"), encode_prompt("a [v2] bee")]
    prompts = {f"prompt_{index}": [[text.unsqueeze(0), {"pooled_output": None}]] for index, text in enumerate(texts)}
    found = compose(model, *both, method="regions", prompts=prompts)
    regions = torch.eye(2).view(2, 1, 1, 2)
    expected = core_velocity(both, regions, texts=texts)
    assert_close(velocity_at(found), expected)
    assert (expected - core_velocity(both, regions)).abs().max() > 1e-2
    negative = velocity_at(found, kinds=[1])
    assert_close(negative, velocity_at(compose(model, *both, method="regions"), kinds=[1]))
    rows = velocity_at(found, kinds=[1, 0])  # ComfyUI gives the negative prompt first
    assert_close(rows, torch.cat([negative, expected]))


def test_a_weaker_negative_prompt_is_that_of_the_core(
    load_wan: Call, make_concept: Call, weighted: Call, compose: Call, velocity_at: Call, schedule: Call
) -> None:
    model = load_wan()
    concept = weighted(make_concept(model))
    found = compose(model, concept, schedule=schedule(negative_strength=0.5))
    weaker = compose(model, concept, identity_strength=0.5, motion_strength=0.5)
    assert_close(velocity_at(found), velocity_at(compose(model, concept)))
    assert_close(velocity_at(found, kinds=[1, 0])[:1], velocity_at(weaker))


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        ({"method": "regions", "masks": torch.ones(3, 8, 8)}, "3 masks for 2 concepts"),
        ({"masks": torch.ones(2, 8, 8)}, "the method is 'add', which has no regions"),
        ({"prompts": {"prompt_0": [[TEXT, {}]], "prompt_1": [[TEXT, {}]]}}, "the method is 'add', which has no"),
        ({"method": "regions", "prompts": {"prompt_0": [[TEXT, {}]]}}, "prompts for 1 regions, but 2 concepts"),
        (
            {"method": "regions", "prompts": {"prompt_0": [[TEXT, {}]], "prompt_1": [[TEXT, {"mask": TEXT}]]}},
            "The prompt of region 2 holds additional settings .mask.",
        ),
        (
            {"method": "regions", "prompts": {"prompt_0": [[TEXT, {}]] * 2, "prompt_1": [[TEXT, {}]]}},
            "The prompt of region 1 holds 2 prompts",
        ),
    ],
)
def test_masks_and_prompts_that_do_not_fit_are_refused(
    pack: Pack, load_wan: Call, make_concept: Call, weighted: Call, compose: Call, inputs: dict[str, Any], match: str
) -> None:
    model = load_wan()
    one = weighted(make_concept(model))
    with pytest.raises(pack("setandseq_core.errors").ConfigError, match=match):
        compose(model, one, one, **inputs)


def test_regions_come_from_one_node(
    pack: Pack, load_wan: Call, make_concept: Call, weighted: Call, compose: Call, schedule: Call
) -> None:
    model = load_wan()
    one = weighted(make_concept(model))
    changing = compose(model, one, schedule=schedule(identity_first=0.0))
    once = compose(changing, one, one, method="regions")
    with pytest.raises(pack("setandseq_core.errors").ConfigError, match="already has concepts in regions"):
        compose(once, one, one, method="regions")


def test_a_change_that_ends_before_it_begins_is_refused(pack: Pack, schedule: Call) -> None:
    with pytest.raises(pack("setandseq_core.errors").ConfigError, match="each later than the one before"):
        schedule(begin=0.6, end=0.4)


def test_motion_is_transferred_with_the_strengths_of_each(
    pack: Pack, load_wan: Call, make_concept: Call, weighted: Call, run: Call
) -> None:
    concept = make_concept(load_wan())
    result = run("TransferMotion", identity=weighted(concept, 0.5, 0.6), motion=weighted(concept, 0.7, 0.8)).result[0]
    assert (result.at().identity, result.at().motion) == (0.5, 0.8)
    assert result.concept.info.training["motion_from"] == "bee"
    other = weighted(make_concept(load_wan(), seed=2))
    with pytest.raises(pack("setandseq_core.errors").ConceptMismatchError, match="do not share an identity basis"):
        run("TransferMotion", identity=weighted(concept), motion=other)
