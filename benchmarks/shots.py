"""The shots that every method has to make, and the clips of them.

Letters: F frames, H height, W width.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor

from benchmarks.methods import Learned, as_concept
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.compose.apply import applied_concepts, applied_layers
from setandseq_core.compose.strengths import StrengthSchedule, WeightedConcept
from setandseq_core.concept import Strengths, scaled_embeddings
from setandseq_core.embedded.world.concepts import ConceptClip, with_tokens
from setandseq_core.embedded.world.scene import FRAMES, SIZE, Caption, SpriteWords
from setandseq_core.sample import latent_noise, sample_latents

SAMPLING_STEPS = 14
SECOND = (
    SpriteWords(size="small", colour="red", shape="star", motion="bouncing"),
    SpriteWords(size="small", colour="cyan", shape="square", motion="standing still"),
)
PLACES = (("brown", "checkered"), ("pink", "striped"), ("green", "plain"))
AT_BEST = {
    "background": StrengthSchedule(identity=((0.0, 1.0), (1.0, 1.3)), negative_strength=0.5),
    "second object": StrengthSchedule(identity=((0.0, 1.5),)),
}
"""Schedules that show most of the look while the prompt is still followed. The clip's own prompt needs none. The
schedules were chosen for the earlier embedded model, on these prompts, with the first two noises."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Shot:
    """One prompt that every method gets."""

    task: str
    caption: Caption
    motion_strength: float = 1.0
    """Strength of the motion; for methods without a separate motion, strength of everything that was learned."""


def shots(clip: ConceptClip) -> list[Shot]:
    """The clip's own prompt, two other backgrounds, a second object, and half the motion strength."""
    places = [place for place in PLACES if place[0] != clip.background][:2]
    found = [Shot(task="reconstruct", caption=clip.caption)]
    found += [
        Shot(task="background", caption=clip.edited(background=background, texture=texture))
        for background, texture in places
    ]
    found += [Shot(task="second object", caption=clip.edited(second=words)) for words in SECOND]
    return [*found, Shot(task="motion strength 0.5", caption=clip.caption, motion_strength=0.5)]


def generate(backbone: WanBackbone, learned: Learned, shot: Shot, seed: int) -> Tensor:
    """A clip of the shot, (F, H, W, 3) in [0, 1], with the concept's tokens in its prompt."""
    noise = latent_noise(backbone.latent_shape(FRAMES, SIZE, SIZE), seed)
    has_motion = any(layer.motion_residual_RI.any() for layer in learned.layers.values())
    strengths = Strengths(1.0 if has_motion else shot.motion_strength, shot.motion_strength)
    options = {"embeddings": scaled_embeddings(learned.embeddings, strengths), "steps": SAMPLING_STEPS}
    with _applied(backbone, learned, strengths):
        return backbone.decode_latents(sample_latents(backbone, noise, with_tokens(str(shot.caption)), **options))


def _applied(backbone: WanBackbone, learned: Learned, strengths: Strengths) -> AbstractContextManager[object]:
    if not learned.layers:
        return nullcontext()
    if learned.schedule is None:
        return applied_layers(backbone, learned.layers, strengths)
    concept = as_concept(backbone, learned)
    weighted = WeightedConcept(concept=concept, strengths=strengths, schedules=(learned.schedule,))
    return applied_concepts(backbone, [weighted])
