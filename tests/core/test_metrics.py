"""Evaluation of clips, with figures computed by hand and by the embedded probes."""

import json
from dataclasses import dataclass, replace
from random import Random

import pytest
import torch
from torch.nn import functional

from setandseq_core.embedded.evaluation import embedded_probes
from setandseq_core.embedded.probes.metrics import clip_figures
from setandseq_core.embedded.world.captions import parse_caption
from setandseq_core.embedded.world.concepts import CONCEPTS
from setandseq_core.embedded.world.scene import Caption, random_caption, render
from setandseq_core.errors import VideoError
from setandseq_core.evaluate.metrics import (
    embedding_coherence,
    evaluate,
    identity_similarity,
    text_similarity,
    without_tokens,
)

PROMPT = "a large [v] creature [u] wandering on a blue plain background"
METRICS = ["identity", "motion", "prompt_adherence", "temporal_coherence", "mse"]


@pytest.fixture(scope="module")
def bee() -> torch.Tensor:
    return CONCEPTS["bee"].frames()


def other_look(name: str, look: str, background: str = "brown") -> torch.Tensor:
    """The motion of one concept with the look and background of another, at another place."""
    clip = replace(CONCEPTS[name], look=CONCEPTS[look].look, background=background, texture="checkered")
    return render(clip.scene(place=(30, 34)))


@dataclass
class Colours:
    """A simple embedder: the mean colour of a picture, with the words red, green and blue."""

    name: str = "mean colour"
    text: str = "red green blue"

    def embed_images(self, frames_FHWC: torch.Tensor) -> torch.Tensor:
        return functional.normalize(frames_FHWC.mean(dim=(1, 2)), dim=1)

    def embed_text(self, prompt: str) -> torch.Tensor:
        return functional.normalize(torch.tensor([float(word in prompt) for word in self.text.split()]), dim=0)


def plain(*colours: tuple[float, float, float], size: int = 8) -> torch.Tensor:
    return torch.tensor(colours).view(-1, 1, 1, 3).expand(-1, size, size, 3)


RED, GREEN, BLUE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


# --- figures by hand ----------------------------------------------------------------------------------------------


def test_figures_follow_their_formulas() -> None:
    model = Colours()
    generated = plain(RED, (0.6, 0.8, 0.0), GREEN)
    assert identity_similarity(model.embed_images(plain(RED, BLUE)), model.embed_images(generated)) == pytest.approx(
        (1 + 0.6 + 0) / 3
    )
    assert text_similarity(model.embed_images(generated), model.embed_text("all red")) == pytest.approx(
        (1 + 0.6 + 0) / 3
    )
    assert embedding_coherence(model.embed_images(generated)) == pytest.approx((0.6 + 0.8) / 2)


def test_evaluate_takes_the_models_it_is_given_and_says_so() -> None:
    model = Colours()
    found = evaluate(plain(RED, GREEN), plain(RED, RED), "a [v] red thing", image_model=model, text_model=model)
    assert (found.identity.value, found.prompt_adherence.value, found.temporal_coherence.value) == (1, 1, 1)
    assert found.mse.value == pytest.approx(1 / 3)
    assert {found.identity.by, found.prompt_adherence.by, found.temporal_coherence.by} == {"mean colour"}
    assert found.mse.by == "pixels"
    assert "identity: 1.000 (-1 to 1, higher is better; mean colour)" in found.report()
    assert "MSE: 0.3333 (0 to 1, lower is better; pixels)" in found.report()


def test_what_cannot_be_computed_has_no_value_and_says_why(bee: torch.Tensor) -> None:
    found = evaluate(bee, bee, "a bee over a meadow")
    assert found.identity.value is None and "Load CLIP Vision" in found.identity.why
    assert found.prompt_adherence.value is None and "--clip" in found.prompt_adherence.why
    assert found.motion.value == pytest.approx(1, abs=1e-3) and found.mse.value == 0
    assert "identity: not computed. No model of images" in found.report()
    read = json.loads(json.dumps(found.as_dict()))
    assert list(read) == METRICS and read["identity"]["value"] is None


def test_a_prompt_of_tokens_alone_asks_for_nothing() -> None:
    found = evaluate(plain(RED), plain(RED), "[v], sks", tokens=["sks"], text_model=Colours())
    assert found.prompt_adherence.value is None and "says nothing" in found.prompt_adherence.why


def test_halves_of_different_models_do_not_go_together() -> None:
    found = evaluate(plain(RED), plain(RED), "red", text_model=Colours(text="red green"))
    assert found.prompt_adherence.value is None and "2 numbers" in found.prompt_adherence.why


def test_other_lengths_and_sizes_are_compared_in_what_they_share(bee: torch.Tensor) -> None:
    larger = functional.interpolate(bee.movedim(-1, 1), scale_factor=3.0, mode="nearest").movedim(1, -1)
    found = evaluate(bee, torch.cat([larger, larger]), "a bee").mse.value
    assert found is not None and found < 1e-3


def test_frames_that_cannot_be_used_are_refused(bee: torch.Tensor) -> None:
    with pytest.raises(VideoError, match="must be in"):
        evaluate(bee, bee * 255, "a bee")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (PROMPT, "a large creature wandering on a blue plain background"),
        ("sks, a lantern, [v] , zub swinging.", "a lantern, swinging"),
        ("[v] [u]", ""),
    ],
)
def test_tokens_are_left_out_of_the_prompt(prompt: str, expected: str) -> None:
    assert without_tokens(prompt, ["sks", "zub", ""]) == expected


# --- the embedded world -------------------------------------------------------------------------------------------


def unnamed(caption: Caption) -> Caption:
    """Name the sprite as its prompt does: a creature without a colour."""
    sprites = (replace(s, colour="white") if s.shape == "creature" else s for s in caption.sprites)
    return replace(caption, sprites=tuple(sprites))


def test_prompts_are_read_back_into_captions() -> None:
    rng = Random(0)
    for number in range(300):
        caption = unnamed(random_caption(rng, sprites=1 + number % 2, creatures=0.3))
        assert parse_caption(str(caption)) == caption
        assert parse_caption(caption.motion.upper() + ".") == caption
        still = tuple(replace(sprite, motion="wandering") for sprite in caption.sprites)
        assert parse_caption(caption.static) == replace(caption, sprites=still, camera="still")


@pytest.mark.parametrize(
    "prompt",
    ["", "a bee", "a large creature", "a large creature on a blue plain background, rising and falling", "a huge sun"],
)
def test_other_prompts_are_none(prompt: str) -> None:
    assert parse_caption(prompt) is None


def test_embedded_probes_give_the_embedded_figures(bee: torch.Tensor) -> None:
    clip = other_look("bee", "bee", "blue")
    probes = embedded_probes(without_tokens(PROMPT), bee, clip)
    found = evaluate(bee, clip, PROMPT, probes=probes)
    caption = parse_caption(without_tokens(PROMPT))
    assert caption is not None
    figures = clip_figures(bee, clip, caption)
    assert found.identity.value == figures.identity > 0.9
    assert found.motion.value == figures.motion > 0.9
    assert found.prompt_adherence.value == figures.adherence == 0.5
    assert found.temporal_coherence.value == figures.coherence
    assert found.mse.value == pytest.approx(figures.mse)
    assert found.identity.by == "probes of the embedded model" and found.identity.low == 0


def test_probes_are_for_the_embedded_world_only(bee: torch.Tensor) -> None:
    inside = without_tokens(PROMPT)
    assert embedded_probes(inside, bee, torch.zeros(17, 256, 256, 3)) is not None
    assert embedded_probes(inside, bee, torch.zeros(17, 480, 832, 3)) is None
    assert embedded_probes(inside, bee, torch.zeros(17, 512, 512, 3)) is None
    assert embedded_probes("a bee over a meadow", bee) is None


def test_a_model_that_is_given_goes_before_the_probes(bee: torch.Tensor) -> None:
    probes = embedded_probes(without_tokens(PROMPT), bee)
    found = evaluate(bee, bee, PROMPT, probes=probes, image_model=Colours())
    assert found.identity.by == "mean colour" and found.prompt_adherence.by == "probes of the embedded model"
