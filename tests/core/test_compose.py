"""Several concepts on one model: added up, each in a region, with changing strengths, and with a transferred motion."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.compose.add import added_factors, transfer_motion
from setandseq_core.compose.apply import applied_concept, applied_concepts
from setandseq_core.compose.live import LiveConcepts, region_weights, to_the_middle, with_text
from setandseq_core.compose.regions import Method, check_region_prompts, stripes
from setandseq_core.compose.strengths import StrengthSchedule, WeightedConcept, progress_at, strength_at
from setandseq_core.concept import AS_LEARNED, WITHOUT, Concept, ConceptInfo, ConceptLayer, Strengths
from setandseq_core.errors import BackboneError, ConceptMismatchError, ConfigError
from setandseq_core.flow import sampling_times
from setandseq_core.prompts import with_embeddings
from setandseq_core.sample import latent_noise, sample_latents

RANK = 2
MakeConcept = Callable[..., Concept]


@pytest.fixture
def make_concept(tiny_backbone: WanBackbone) -> MakeConcept:
    """Makes a random concept of the tiny model, always the same for the same seed, with an effect that shows."""
    base = tiny_backbone.fingerprint()

    def make(seed: int, rank: int = RANK, basis_seed: int | None = None) -> Concept:
        generator = torch.Generator().manual_seed(seed)
        bases = torch.Generator().manual_seed(seed + 100 if basis_seed is None else basis_seed)
        layers = {
            name: ConceptLayer(
                identity_basis_OR=torch.randn(num_out, rank, generator=bases) / 8,
                coefficients_RI=torch.randn(rank, num_in, generator=generator) / num_in**0.5,
                motion_residual_RI=torch.randn(rank, num_in, generator=generator) / num_in**0.5,
            )
            for name, (num_out, num_in) in base.layers.items()
        }
        info = ConceptInfo(
            name=f"thing {seed}",
            static_prompt=f"a [v{seed}] thing",
            motion_prompt=f"a [v{seed}] thing, [u{seed}] hopping",
            identity_token=f"[v{seed}]",
            motion_token=f"[u{seed}]",
            base=base,
            base_name="tiny",
            config={},
            training={},
        )
        return Concept(info=info, layers=layers)

    return make


@pytest.fixture
def velocity(tiny_backbone: WanBackbone) -> Callable[..., Tensor]:
    """The tiny model's velocity for a fixed input at a time."""
    x_t, text = latent_noise((1, 16, 2, 4, 8), 3), tiny_backbone.encode_prompt("a blob")

    @torch.no_grad()
    def answer(time: float = 0.6, x_t: Tensor = x_t) -> Tensor:
        return tiny_backbone.velocity(x_t, torch.tensor([time]), [text])

    return answer


def weighted(concept: Concept, identity: float = 1.0, motion: float = 1.0) -> WeightedConcept:
    return WeightedConcept(concept=concept, strengths=Strengths(identity, motion))


# --- added up ---------------------------------------------------------------------------------------------------


def test_adding_is_concatenating_ranks(make_concept: MakeConcept) -> None:
    """sum_i A_i (s_id B1_i + s_mo B2_i) = [A_1 A_2] [B_1; B_2], by formula in float64."""
    name = "blocks.0.ffn.0"
    layers = []
    for concept in (make_concept(1), make_concept(2, rank=3)):
        one = concept.layers[name]
        parts = one.identity_basis_OR, one.coefficients_RI, one.motion_residual_RI
        basis, coefficients, residual = (part.double() for part in parts)
        layers.append(ConceptLayer(identity_basis_OR=basis, coefficients_RI=coefficients, motion_residual_RI=residual))
    up_OR, down_RI = added_factors(
        [({name: layers[0]}, Strengths(0.5, 2.0)), ({name: layers[1]}, Strengths(1.0, -1.0))]
    )[name]
    assert down_RI.shape[0] == RANK + 3
    expected = torch.zeros(up_OR.shape[0], down_RI.shape[1], dtype=torch.float64)
    for layer, identity, motion in zip(layers, (0.5, 1.0), (2.0, -1.0), strict=True):
        down = identity * layer.coefficients_RI + motion * layer.motion_residual_RI
        expected += layer.identity_basis_OR @ down
    torch.testing.assert_close(up_OR @ down_RI, expected, rtol=1e-12, atol=1e-12)


def test_a_layer_that_only_one_has_is_zero_in_the_other(make_concept: MakeConcept) -> None:
    one, two = make_concept(1).layers, dict(make_concept(2).layers)
    del two["blocks.1.ffn.2"]
    up_OR, down_RI = added_factors([(one, AS_LEARNED), (two, AS_LEARNED)])["blocks.1.ffn.2"]
    assert down_RI.shape[0] == 2 * RANK
    expected = torch.mm(*one["blocks.1.ffn.2"].factors())
    torch.testing.assert_close(up_OR @ down_RI, expected)


def test_one_concept_alone_is_as_ever(
    tiny_backbone: WanBackbone, make_concept: MakeConcept, velocity: Callable[..., Tensor]
) -> None:
    concept = make_concept(1)
    with applied_concept(tiny_backbone, concept, Strengths(0.7, 1.3)):
        expected = velocity()
    with applied_concepts(tiny_backbone, [weighted(concept, 0.7, 1.3)]):
        assert torch.equal(velocity(), expected)


def test_the_order_does_not_matter_when_added(
    tiny_backbone: WanBackbone, make_concept: MakeConcept, velocity: Callable[..., Tensor]
) -> None:
    one, two = weighted(make_concept(1)), weighted(make_concept(2))
    with applied_concepts(tiny_backbone, [one, two]):
        expected = velocity()
    with applied_concepts(tiny_backbone, [two, one]):
        torch.testing.assert_close(velocity(), expected, rtol=1e-4, atol=1e-5)


# --- in regions -------------------------------------------------------------------------------------------------


def test_sampling_that_gives_no_finite_numbers_is_refused(
    tiny_backbone: WanBackbone, make_concept: MakeConcept
) -> None:
    noise = latent_noise(tiny_backbone.latent_shape(5, 32, 32), 0)
    with (
        applied_concept(tiny_backbone, make_concept(1), Strengths(1e38, 1e38)) as applied,
        pytest.raises(BackboneError, match="not finite.* Lower the strength"),
    ):
        applied.sample(noise, "a blob", steps=2)


def test_live_concepts_do_what_weights_do(
    tiny_backbone: WanBackbone, make_concept: MakeConcept, velocity: Callable[..., Tensor]
) -> None:
    both = [weighted(make_concept(1), 0.5, 2.0), weighted(make_concept(2))]
    before = velocity()
    with applied_concepts(tiny_backbone, both):
        expected = velocity()
    with LiveConcepts(both, tiny_backbone.layers).running(tiny_backbone.module, tiny_backbone.shift):
        torch.testing.assert_close(velocity(), expected, rtol=1e-4, atol=1e-5)
    assert (expected - before).abs().max() > 1e-2
    assert torch.equal(velocity(), before)


def test_a_region_of_the_whole_video_is_the_concept_itself(
    tiny_backbone: WanBackbone, make_concept: MakeConcept, velocity: Callable[..., Tensor]
) -> None:
    one, two = weighted(make_concept(1)), weighted(make_concept(2))
    with applied_concepts(tiny_backbone, [one]):
        expected = velocity()
    regions = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    with applied_concepts(tiny_backbone, [one, two], regions):
        torch.testing.assert_close(velocity(), expected, rtol=1e-4, atol=1e-5)


def test_no_region_at_all_is_the_model_itself(
    tiny_backbone: WanBackbone, make_concept: MakeConcept, velocity: Callable[..., Tensor]
) -> None:
    before = velocity()
    with applied_concepts(
        tiny_backbone, [weighted(make_concept(1)), weighted(make_concept(2))], torch.zeros(2, 1, 1, 1)
    ):
        torch.testing.assert_close(velocity(), before, rtol=1e-4, atol=1e-5)


def test_in_halves_they_are_neither_added_nor_in_any_order(
    tiny_backbone: WanBackbone, make_concept: MakeConcept, velocity: Callable[..., Tensor]
) -> None:
    one, two = weighted(make_concept(1)), weighted(make_concept(2))
    with applied_concepts(tiny_backbone, [one, two]):
        added = velocity()
    with applied_concepts(tiny_backbone, [one, two], stripes(2)):
        found = velocity()
    with applied_concepts(tiny_backbone, [two, one], stripes(2)):
        swapped = velocity()
    assert (found - added).abs().max() > 1e-2
    assert (found - swapped).abs().max() > 1e-2


def test_regions_are_the_formula(
    tiny_backbone: WanBackbone, make_concept: MakeConcept, velocity: Callable[..., Tensor]
) -> None:
    """v = sum_i m_i S_i^-1 v_i(S_i x_t) + (1 - sum_i m_i) v_0(x_t), with a region on the right and none on the left."""
    concept, x_t = make_concept(1), latent_noise((1, 16, 2, 4, 8), 4)
    region = torch.zeros(1, 1, 4, 8)
    region[..., 4:] = 1  # its centre is two latents right of the middle
    with applied_concept(tiny_backbone, concept):
        moved = velocity(0.6, x_t.roll(-2, -1)).roll(2, -1)
    expected = torch.where(region > 0, moved, velocity(0.6, x_t))
    with applied_concepts(tiny_backbone, [weighted(concept)], region):
        torch.testing.assert_close(velocity(0.6, x_t), expected, rtol=1e-4, atol=1e-5)


def test_each_region_answers_to_its_own_prompt(
    tiny_backbone: WanBackbone, make_concept: MakeConcept, velocity: Callable[..., Tensor]
) -> None:
    """Each region also has its own learned tokens. Places outside all regions and the negative prompt get neither."""
    one, x_t = make_concept(1), latent_noise((1, 16, 2, 4, 12), 4)
    token = torch.randn(tiny_backbone.encode_prompt("").tokens_ND.shape[1], generator=torch.Generator().manual_seed(6))
    one, two = replace(one, embeddings={"identity_embedding": token}), make_concept(2)
    prompts, negative = ("a red star", "a blue ball"), tiny_backbone.encode_prompt("")
    places = stripes(3)[:2]

    def answers(prompt: str, tokens: list[Tensor], move: int) -> Tensor:
        asked = with_embeddings([tiny_backbone.encode_prompt(prompt)], tokens)
        moved = x_t.roll(move, -1).expand(2, -1, -1, -1, -1)
        return tiny_backbone.velocity(moved, torch.full((2,), 0.6), [*asked, negative]).roll(-move, -1)

    with torch.no_grad():
        with applied_concept(tiny_backbone, one):
            left = answers(prompts[0], [token], 4)
        with applied_concept(tiny_backbone, two):
            middle = answers(prompts[1], [], 0)
        expected = torch.cat([left[..., :4], middle[..., 4:8], answers("a blob", [], 0)[..., 8:]], dim=-1)
        with applied_concepts(tiny_backbone, [weighted(one), weighted(two)], places, prompts):
            found = answers("a blob", [], 0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_text_of_another_length_is_the_same_to_attention() -> None:
    text_BND, own_ND = torch.randn(2, 6, 3), torch.randn(4, 3)
    found = with_text(text_BND, own_ND, torch.tensor([1.0, 0.0]))
    assert torch.equal(found[0], own_ND.repeat(3, 1))
    assert torch.equal(found[1], text_BND[1].repeat(2, 1))


@pytest.mark.parametrize(
    ("method", "prompts", "match"),
    [("add", 2, "the method is 'add', which has no regions"), ("regions", 1, "prompts for 1 regions, but 2 concepts")],
)
def test_prompts_without_a_region_are_refused(method: Method, prompts: int, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        check_region_prompts(method, 2, prompts)


def test_regions_share_where_they_overlap() -> None:
    regions = torch.zeros(2, 1, 4, 8)
    regions[0, :, :, :6], regions[1, :, :, 4:] = 1, 1
    weights = region_weights(regions, (3, 2, 4))
    assert weights[0, 1, 0].tolist() == [1.0, 1.0, 0.5, 0.0]
    assert weights[1, 1, 0].tolist() == [0.0, 0.0, 0.5, 1.0]
    moving = torch.zeros(1, 5, 1, 2)
    moving[0, 2:, :, 1] = 1
    assert region_weights(moving, (5, 1, 2))[0, :, 0].tolist() == [[0, 0], [0, 0], [0, 1], [0, 1], [0, 1]]


def test_stripes_are_alike_for_videos_of_any_size() -> None:
    for frames, height, width in ((2, 6, 6), (5, 4, 12), (1, 1, 3)):
        weights = region_weights(stripes(3), (frames, height, width))
        torch.testing.assert_close(weights.sum(dim=0), torch.ones(frames, height, width))
        third = width // 3
        assert weights[1, 0, 0].tolist() == [0.0] * third + [1.0] * third + [0.0] * third


def test_a_region_is_moved_to_the_middle_by_whole_tokens() -> None:
    weights = region_weights(stripes(2), (3, 8, 8))
    assert [to_the_middle(each) for each in weights] == [(0, 2), (0, -2)]
    corner = torch.zeros(2, 8, 16)
    corner[:, 5:, :3] = 1  # its centre is 2.5 below and 6.5 left of the middle
    assert to_the_middle(corner) == (-2, 6)
    assert to_the_middle(torch.zeros(2, 8, 16)) == to_the_middle(torch.ones(2, 8, 16)) == (0, 0)


# --- strengths that change ----------------------------------------------------------------------------------------


def test_strengths_lie_on_lines_between_points() -> None:
    points = ((0.2, 1.0), (0.6, 3.0))
    assert [strength_at(points, p) for p in (0.0, 0.2, 0.6, 1.0)] == [1.0, 1.0, 3.0, 3.0]
    assert strength_at(points, 0.4) == pytest.approx(2.0)
    schedule = StrengthSchedule(identity=points)
    assert schedule.at(1.0) == Strengths(3.0, 1.0)
    assert not schedule.constant
    assert StrengthSchedule(motion=((0.0, 0.3), (1.0, 0.3))).constant


@pytest.mark.parametrize(
    "points", [(), ((0.5, 1.0), (0.5, 2.0)), ((0.5, 1.0), (0.2, 2.0)), ((-0.1, 1.0),), ((1.1, 1.0),)]
)
def test_points_that_do_not_rise_are_refused(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ConfigError, match="schedule of the motion strength"):
        StrengthSchedule(motion=points)


def test_progress_is_the_share_of_the_steps() -> None:
    times = sampling_times(10, 3.0)
    assert [progress_at(float(time), 3.0) for time in times] == pytest.approx(
        [step / 10 for step in range(11)], abs=1e-6
    )


def test_a_constant_schedule_is_a_constant_strength(
    tiny_backbone: WanBackbone, make_concept: MakeConcept, velocity: Callable[..., Tensor]
) -> None:
    concept = make_concept(1)
    with applied_concepts(tiny_backbone, [weighted(concept, 0.5, 2.0)]):
        expected = velocity()
    schedule = StrengthSchedule(identity=((0.0, 0.25), (1.0, 0.25)), motion=((0.5, 4.0),))
    scheduled = weighted(concept, 2.0, 0.5).times(AS_LEARNED, schedule)
    with applied_concepts(tiny_backbone, [scheduled]):
        assert torch.equal(velocity(), expected)


def test_a_schedule_gives_the_strength_of_the_time(
    tiny_backbone: WanBackbone, make_concept: MakeConcept, velocity: Callable[..., Tensor]
) -> None:
    concept = make_concept(1)
    schedule = StrengthSchedule(identity=((0.0, 0.0), (1.0, 2.0)), motion=((0.0, 1.0), (1.0, 0.0)))
    for time in (1.0, 0.75, 0.1):
        progress = progress_at(time, tiny_backbone.shift)
        with applied_concepts(tiny_backbone, [weighted(concept, 2 * progress, 1 - progress)]):
            expected = velocity(time)
        with applied_concepts(tiny_backbone, [weighted(concept).times(AS_LEARNED, schedule)]):
            torch.testing.assert_close(velocity(time), expected, rtol=1e-4, atol=1e-5)


def test_a_schedule_acts_while_a_clip_is_sampled(tiny_backbone: WanBackbone, make_concept: MakeConcept) -> None:
    """The concept is off in the first half of the steps, which equals sampling that half without it."""
    concept, noise = make_concept(1), latent_noise((16, 2, 4, 4), 0)
    late = StrengthSchedule(identity=((0.45, 0.0), (0.46, 1.0)), motion=((0.45, 0.0), (0.46, 1.0)))
    with applied_concepts(tiny_backbone, [weighted(concept).times(AS_LEARNED, late)]):
        found = sample_latents(tiny_backbone, noise, "a blob", steps=4, guidance=1.0)
    text, x_t = tiny_backbone.encode_prompt("a blob"), noise.unsqueeze(0)
    times = sampling_times(4, tiny_backbone.shift)
    for step in range(4):
        with (
            torch.no_grad(),
            applied_concept(tiny_backbone, concept, AS_LEARNED if step > 1 else WITHOUT),
        ):
            x_t = x_t + (times[step + 1] - times[step]) * tiny_backbone.velocity(x_t, times[step : step + 1], [text])
    torch.testing.assert_close(found, x_t[0], rtol=1e-4, atol=1e-4)


def test_a_concept_may_be_weaker_for_the_negative_prompt(tiny_backbone: WanBackbone, make_concept: MakeConcept) -> None:
    """Both for a concept alone and for one whose region is the whole video."""
    concept, x_t = make_concept(1), latent_noise((1, 16, 2, 4, 8), 3)
    texts = [tiny_backbone.encode_prompt(text) for text in ("a blob", "")]

    @torch.no_grad()
    def answers() -> Tensor:
        return tiny_backbone.velocity(x_t.expand(2, -1, -1, -1, -1), torch.full((2,), 0.6), texts)

    with applied_concept(tiny_backbone, concept):
        asked = answers()[0]
    with applied_concept(tiny_backbone, concept, Strengths(0.25, 0.25)):
        negative = answers()[1]
    weaker = StrengthSchedule(negative_strength=0.5)
    for regions in (None, torch.ones(1, 1, 1, 1)):
        with applied_concepts(
            tiny_backbone, [weighted(concept).times(AS_LEARNED, weaker).times(AS_LEARNED, weaker)], regions
        ):
            torch.testing.assert_close(answers(), torch.stack([asked, negative]), rtol=1e-4, atol=1e-5)


# --- motion transfer ------------------------------------------------------------------------------------------------


def test_motion_goes_over_on_a_shared_basis(make_concept: MakeConcept) -> None:
    look, movement = make_concept(1, basis_seed=7), make_concept(2, basis_seed=7)
    found = transfer_motion(look, movement)
    for name, layer in found.layers.items():
        assert torch.equal(layer.identity_basis_OR, look.layers[name].identity_basis_OR)
        assert torch.equal(layer.coefficients_RI, look.layers[name].coefficients_RI)
        assert torch.equal(layer.motion_residual_RI, movement.layers[name].motion_residual_RI)
    assert found.info.name == "thing 1 moving as thing 2"
    assert found.info.motion_prompt == "a [v1] thing, [u2] hopping"
    assert (found.info.identity_token, found.info.motion_token) == ("[v1]", "[u2]")


def test_motion_of_another_basis_is_refused(make_concept: MakeConcept) -> None:
    with pytest.raises(ConceptMismatchError, match="'thing 1' and 'thing 2' do not share an identity basis"):
        transfer_motion(make_concept(1), make_concept(2))
    shared = make_concept(2, basis_seed=101)
    fewer = replace(shared, layers={name: layer for name, layer in shared.layers.items() if "ffn" not in name})
    with pytest.raises(ConceptMismatchError, match=r"blocks\.0\.ffn\.0"):
        transfer_motion(make_concept(1), fewer)
