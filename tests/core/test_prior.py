import dataclasses
import os
from pathlib import Path

import pytest
import torch

from setandseq_core.backbone import Backbone
from setandseq_core.clips.clip import Clip, Reference, Words
from setandseq_core.clips.encode import EncodedPrior, FrameSequence, Material, encode_prior_clips, encode_prior_frames
from setandseq_core.clips.prior_prompts import PriorPrompt, automatic_prompts, read_prompts
from setandseq_core.compose.apply import applied_layers
from setandseq_core.config import MethodConfig, PriorConfig, SamplingConfig, SequenceConfig, SetConfig
from setandseq_core.embedded.model import load_embedded
from setandseq_core.embedded.world.scene import BACKGROUND_COLOURS
from setandseq_core.errors import ConfigError, PromptError, SetAndSequenceError, StorageError
from setandseq_core.learn import learn_concept
from setandseq_core.prompts import Condition
from setandseq_core.sample import latent_noise, sample_latents
from setandseq_core.train import train_identity, train_motion
from setandseq_core.training.prior import automatic_prior, make_prior, read_prior

PROMPTS = [PriorPrompt(appearance="a dog", motion="a dog, running"), PriorPrompt(appearance="a cat", motion="a cat up")]
WORDS = Words(
    static_prompt="a large [v] blob", motion_prompt="a [v] blob [u] hopping", identity_token="[v]", motion_token="[u]"
)
NOTHING = Condition(tokens_ND=torch.zeros(1, 1))
SIZE = (5, 32, 32)


@pytest.fixture
def config() -> MethodConfig:
    return MethodConfig(
        rank=4,
        gradient_clipping=1.0,
        prior=PriorConfig(share=0.5, clips=2),
        set_stage=SetConfig(steps=4, batch=2, learning_rate=1e-2),
        sequence_stage=SequenceConfig(steps=4, batch=2, learning_rate=1e-2),
    )


def test_prompts_have_two_parts():
    found = read_prompts("A man in blue | He is walking\n\n a red lantern|swinging slowly \n")
    assert found == [
        PriorPrompt(appearance="A man in blue", motion="A man in blue. He is walking"),
        PriorPrompt(appearance="a red lantern", motion="a red lantern, swinging slowly"),
    ]
    for line in ("A man in blue", "A man |", "| walking"):
        with pytest.raises(PromptError, match=r"lacks a part\. Write how it looks, a bar"):
            read_prompts(line)


def test_automatic_prompts_hold_the_concepts_own_without_tokens(tiny_backbone):
    found = automatic_prompts(tiny_backbone, [WORDS], 9)
    own = PriorPrompt(appearance="a large blob", motion="a blob hopping")
    assert [index for index, prompt in enumerate(found) if prompt == own] == [0, 4, 8]
    assert len(set(found)) == 7
    assert found == automatic_prompts(tiny_backbone, [WORDS], 9)
    assert found != automatic_prompts(tiny_backbone, [WORDS], 9, seed=1)


def test_the_embedded_model_is_prompted_in_its_own_words():
    found = automatic_prompts(load_embedded(), [], 6)
    assert all(any(colour in prompt.motion for colour in BACKGROUND_COLOURS) for prompt in found)


def test_what_is_alone_in_the_embedded_world_is_at_the_place_of_a_single_concept():
    def motions(*places: str) -> tuple[list[str], list[str]]:
        words = [dataclasses.replace(WORDS, motion_prompt=f"a large [v] creature [u] wandering{at}") for at in places]
        found = [prompt.motion for prompt in automatic_prompts(load_embedded(), words, 24)]
        return [p for p in found if " and " not in p], [p for p in found if " and " in p]

    pink, black = " on a pink striped background", " on a black plain background"
    alone, pairs = motions(pink)
    assert len(alone) > 9 and all(p.endswith(pink) for p in alone)
    assert len(pairs) > 5 and sum(pink in p for p in pairs) < len(pairs) / 2
    for places in ((pink, black), (" nowhere",)):
        assert len({p.split(" on a ")[-1] for p in motions(*places)[0]}) > 4


def test_prior_clips_are_kept_by_content(tiny_backbone, tmp_path):
    seen = []
    first = make_prior(tiny_backbone, PROMPTS, SIZE, folder=tmp_path, progress=lambda *done: seen.append(done))
    assert seen == [(1, 2), (2, 2)]
    assert first.latents_KCFHW.shape == (2, 16, 2, 4, 4) and first.frames_KSCFHW.shape == (2, 3, 16, 1, 4, 4)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = make_prior(tiny_backbone, PROMPTS, SIZE, folder=tmp_path)
    assert torch.equal(again.latents_KCFHW, first.latents_KCFHW) and torch.equal(
        again.frames_KSCFHW, first.frames_KSCFHW
    )
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    make_prior(tiny_backbone, PROMPTS, SIZE, seed=5, folder=tmp_path)
    make_prior(tiny_backbone, PROMPTS[:1], (9, 32, 32), folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == len(before) + 3


def test_prior_clips_of_a_distilled_model_take_its_steps_and_no_guidance(tiny_backbone, tmp_path):
    usual = make_prior(tiny_backbone, PROMPTS, SIZE, seed=3, folder=tmp_path)
    few = SamplingConfig(steps=4, guidance=1.0)
    made = make_prior(tiny_backbone, PROMPTS, SIZE, seed=3, sampling=few, folder=tmp_path)
    noise = latent_noise(tiny_backbone.latent_shape(*SIZE), 3)
    wanted = sample_latents(tiny_backbone, noise, PROMPTS[0].motion, steps=4, guidance=1.0)
    assert torch.equal(made.latents_KCFHW[0], wanted)
    assert not torch.equal(made.latents_KCFHW, usual.latents_KCFHW)
    lcm = make_prior(
        tiny_backbone, PROMPTS, SIZE, seed=3, sampling=dataclasses.replace(few, sampler="lcm"), folder=tmp_path
    )
    assert not torch.equal(made.latents_KCFHW, lcm.latents_KCFHW)
    assert len(list(tmp_path.iterdir())) == 3 * len(PROMPTS)


def test_guidance_is_the_models_own_where_the_settings_name_none(tiny_backbone, monkeypatch, tmp_path):
    monkeypatch.setattr(tiny_backbone, "guidance", 1.0)
    own = make_prior(tiny_backbone, PROMPTS[:1], SIZE, sampling=SamplingConfig(steps=2), folder=tmp_path)
    named = SamplingConfig(steps=2, guidance=1.0)
    assert torch.equal(own.latents_KCFHW, make_prior(tiny_backbone, PROMPTS[:1], SIZE, sampling=named).latents_KCFHW)
    make_prior(tiny_backbone, PROMPTS[:1], SIZE, sampling=named, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_prior_clips_are_what_the_model_makes(tiny_backbone):
    made = make_prior(tiny_backbone, PROMPTS, SIZE, seed=3)
    noise = latent_noise(tiny_backbone.latent_shape(*SIZE), 4)
    wanted = sample_latents(tiny_backbone, noise, "a cat up", steps=20, guidance=4.0)
    assert torch.equal(made.latents_KCFHW[1], wanted)
    frames = tiny_backbone.decode_latents(wanted)
    assert torch.equal(made.frames_KSCFHW[1, 1], tiny_backbone.encode_frames(frames[2:3]))


def test_a_folder_of_prior_clips_is_read_again_and_checked(tiny_backbone, tmp_path):
    made = make_prior(tiny_backbone, PROMPTS, SIZE, folder=tmp_path)
    read = read_prior(tmp_path, tiny_backbone)
    assert set(read.prompts) == set(made.prompts) and read.latents_KCFHW.shape == made.latents_KCFHW.shape
    with pytest.raises(SetAndSequenceError, match="made by another base model"):
        read_prior(tmp_path, load_embedded())
    with pytest.raises(SetAndSequenceError, match="no prior clips in"):
        read_prior(tmp_path / "nowhere", tiny_backbone)


def test_a_damaged_prior_clip_is_named(tiny_backbone, tmp_path):
    make_prior(tiny_backbone, PROMPTS, SIZE, folder=tmp_path)
    path = min(tmp_path.iterdir())
    os.truncate(path, 50)
    with pytest.raises(SetAndSequenceError, match=f"{path.name} cannot be read.*Delete that file"):
        make_prior(tiny_backbone, PROMPTS, SIZE, folder=tmp_path)


def test_the_stages_see_frames_with_appearance_and_clips_with_motion(tiny_backbone):
    made = make_prior(tiny_backbone, PROMPTS, SIZE)
    frames, clips = encode_prior_frames(tiny_backbone, made), encode_prior_clips(tiny_backbone, made)
    assert frames.latents_KCFHW.shape == (6, 16, 1, 4, 4)
    assert torch.equal(frames.texts[3].tokens_ND, tiny_backbone.encode_prompt("a cat").tokens_ND)
    assert torch.equal(clips.latents_KCFHW, made.latents_KCFHW)
    assert torch.equal(clips.texts[1].tokens_ND, tiny_backbone.encode_prompt("a cat up").tokens_ND)


@pytest.mark.parametrize(
    ("batch", "share", "counts"), [(8, 0.25, [2, 2, 2, 2]), (1, 0.25, [0, 0, 0, 1]), (2, 0, [0] * 4)]
)
def test_prior_samples_are_their_share_of_all(config, batch, share, counts):
    prior = EncodedPrior(latents_KCFHW=torch.zeros(1, 1), texts=[NOTHING], empty=[NOTHING])
    config = dataclasses.replace(config, prior=PriorConfig(share=share))
    assert [Material(clips=[], prior=prior).prior_samples(step, batch, config) for step in range(4)] == counts


def both(backbone, frame_set, sequence, config, made):
    sets = Material(clips=[frame_set], prior=encode_prior_frames(backbone, made) if made else None)
    prior = encode_prior_clips(backbone, made) if made else None
    sequences: Material[FrameSequence] = Material(clips=[sequence], prior=prior)
    identity = train_identity(backbone, sets, config)
    return identity.record["losses"], train_motion(backbone, identity.layers, sequences, config).record["losses"]


def test_both_stages_train_on_the_prior(tiny_backbone, tiny_set, tiny_sequence, config):
    made = make_prior(tiny_backbone, PROMPTS, SIZE)
    without, with_prior = (both(tiny_backbone, tiny_set, tiny_sequence, config, prior) for prior in (None, made))
    assert with_prior == both(tiny_backbone, tiny_set, tiny_sequence, config, made)
    assert without[0] != with_prior[0] and without[1] != with_prior[1]
    weightless = dataclasses.replace(config, prior=PriorConfig(share=0.5, weight=0.0))
    assert both(tiny_backbone, tiny_set, tiny_sequence, weightless, made)[0] != with_prior[0]


@pytest.mark.parametrize(("size", "passes"), [(SIZE, 4), ((5, 32, 48), 8)])
def test_prior_clips_of_the_clips_size_take_no_forward_pass_of_their_own(
    tiny_backbone, tiny_set, tiny_sequence, config, monkeypatch, size, passes
):
    """Passes of the sequence stage's four steps. The loss is that of separate passes, except for rounding."""
    made, seen, velocity = make_prior(tiny_backbone, PROMPTS, size), [], tiny_backbone.velocity

    def recorded(x_t, time_B, texts):
        if torch.is_grad_enabled():  # validation uses only the clip
            seen.append(len(x_t))
        return velocity(x_t, time_B, texts)

    def one_by_one(x_t, time_B, texts):
        return torch.cat([velocity(x_t[i : i + 1], time_B[i : i + 1], texts[i : i + 1]) for i in range(len(x_t))])

    monkeypatch.setattr(tiny_backbone, "velocity", recorded)
    found = both(tiny_backbone, tiny_set, tiny_sequence, config, made)
    assert seen[-passes:] == [2 * 4 // passes] * passes
    monkeypatch.setattr(tiny_backbone, "velocity", one_by_one)
    separate = both(tiny_backbone, tiny_set, tiny_sequence, config, made)
    assert found[1] == pytest.approx(separate[1], rel=1e-4)


@pytest.mark.parametrize(("empty_prompts", "least", "most"), [(0.0, 0, 0), (0.5, 8, 32), (1.0, 40, 40)])
def test_some_prior_samples_have_the_empty_prompt(
    tiny_backbone, tiny_set, tiny_sequence, config, monkeypatch, empty_prompts, least, most
):
    """Counted over 40 samples in both stages; the clip's own samples never have the empty prompt."""
    stages = {name: dataclasses.replace(getattr(config, name), steps=20) for name in ("set_stage", "sequence_stage")}
    config = dataclasses.replace(config, prior=PriorConfig(share=0.5, empty_prompts=empty_prompts), token_masking=0.0)
    empty_ND, velocity, seen = tiny_backbone.encode_prompt("").tokens_ND, tiny_backbone.velocity, []

    def recorded(x_t, time_B, texts):
        if torch.is_grad_enabled():  # validation uses only the clip
            seen.extend(torch.equal(text.tokens_ND, empty_ND) for text in texts)
        return velocity(x_t, time_B, texts)

    monkeypatch.setattr(tiny_backbone, "velocity", recorded)
    made = make_prior(tiny_backbone, PROMPTS, SIZE)
    seen.clear()
    both(tiny_backbone, tiny_set, tiny_sequence, dataclasses.replace(config, **stages), made)
    assert len(seen) == 80 and least <= sum(seen) <= most


def test_the_prior_keeps_the_model_as_it_was_on_its_own_prompts(tiny_backbone, tiny_frames, config):
    """The loss on a prior clip rises if only the concept is learned, and less if training includes prior clips."""
    stage = SetConfig(steps=60, batch=4, learning_rate=2e-2, coefficient_dropout=0.0)
    config = dataclasses.replace(config, set_stage=stage, token_masking=0.0)
    made = make_prior(tiny_backbone, PROMPTS, SIZE)
    prior = encode_prior_frames(tiny_backbone, made)

    def prior_loss(layers) -> float:
        from setandseq_core.flow import flow_loss, interpolate, target_velocity

        noise = torch.randn(prior.latents_KCFHW.shape, generator=torch.Generator().manual_seed(1))
        time = torch.full((len(noise),), 0.6)
        with torch.no_grad(), applied_layers(tiny_backbone, layers):
            x_t = interpolate(prior.latents_KCFHW, noise, time)
            velocity = tiny_backbone.velocity(x_t, time, prior.texts)
        return flow_loss(velocity, target_velocity(prior.latents_KCFHW, noise)).item()

    from setandseq_core.clips.encode import encode_frame_set

    frame_set = encode_frame_set(tiny_backbone, tiny_frames, "a sks blob")
    found = [
        prior_loss(train_identity(tiny_backbone, Material(clips=[frame_set], prior=given), config).layers)
        for given in (None, prior)
    ]
    assert found[1] < found[0]


def test_learning_with_the_automatic_prior(tiny_backbone, tiny_frames, config, tmp_path):
    references = [Reference(clip=Clip(frames_FHWC=tiny_frames, fps=16.0, choice="all"), words=WORDS)]
    made = automatic_prior(tiny_backbone, references, config, folder=tmp_path)
    assert made is not None and made.latents_KCFHW.shape == (2, 16, 2, 4, 4)
    concept = learn_concept(tiny_backbone, references, config, name="blob", prior=made)
    assert concept.info.training["prior_clips"] == 2
    few = dataclasses.replace(config, sampling=SamplingConfig(steps=2, guidance=1.0))
    quick = automatic_prior(tiny_backbone, references, few, folder=tmp_path)
    assert quick is not None and not torch.equal(quick.latents_KCFHW, made.latents_KCFHW)
    distilled = learn_concept(tiny_backbone, references, few, name="blob", folder=tmp_path)
    assert distilled.info.config["sampling"] == {"steps": 2, "guidance": 1.0, "sampler": "euler"}
    off = dataclasses.replace(config, prior=PriorConfig(share=0.0))
    assert automatic_prior(tiny_backbone, references, off, folder=tmp_path) is None
    assert "prior_clips" not in learn_concept(tiny_backbone, references, off, name="blob", prior=made).info.training


@pytest.mark.parametrize(
    "values", [{"share": 1.0}, {"share": -0.1}, {"empty_prompts": 1.1}, {"weight": -1.0}, {"clips": 0}]
)
def test_bad_prior_settings_are_named(values):
    with pytest.raises(ConfigError, match=f"prior.{next(iter(values))}"):
        PriorConfig(**values)


def test_prior_clips_that_cannot_be_kept_are_an_error_only_where_they_must_be(
    tiny_backbone: Backbone, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    prompts = [PriorPrompt(appearance="a dog", motion="a dog running")]
    made = make_prior(tiny_backbone, prompts, (5, 32, 32), folder=tmp_path / "file" / "x", must_save=False)
    assert len(made.prompts) == 1
    with pytest.raises(StorageError, match="cannot be written"):
        make_prior(tiny_backbone, prompts, (5, 32, 32), folder=tmp_path / "file" / "x")
