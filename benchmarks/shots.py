"""What every method is asked to show of one concept, and the clips of it.

Letters: F frames, H height, W width.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from torch import Tensor

from benchmarks.methods import Learned, as_concept
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.compose import WeightedConcept
from setandseq_core.concept import scaled_embeddings
from setandseq_core.sample import applied_concepts, applied_layers, latent_noise, sample_latents
from setandseq_core.schedule import StrengthSchedule
from setandseq_core.toy.concepts import ConceptClip, with_tokens
from setandseq_core.toy.metrics import clip_figures
from setandseq_core.toy.world import FRAMES, SIZE, Caption, SpriteWords

SAMPLING_STEPS = 14
SECOND = (
    SpriteWords(size="small", colour="red", shape="star", motion="bouncing"),
    SpriteWords(size="small", colour="cyan", shape="square", motion="standing still"),
)
PLACES = (("brown", "checkered"), ("pink", "striped"), ("green", "plain"))
OTHER_SECOND = (
    SpriteWords(size="small", colour="green", shape="triangle", motion="rising"),
    SpriteWords(size="small", colour="yellow", shape="circle", motion="zigzagging"),
)
OTHER_PLACES = (("blue", "dotted"), ("black", "striped"), ("grey", "checkered"))
OTHER_SEEDS = 100, 101
"""Second objects, backgrounds and noises that strengths are chosen on."""
STRENGTHS = (
    StrengthSchedule(),
    StrengthSchedule(identity=((0.0, 1.0), (1.0, 1.5)), motion=((0.0, 1.2),), negative=0.6),
    StrengthSchedule(identity=((0.0, 1.5), (1.0, 2.5))),
)
"""As learned; and more of the look late, when it changes nothing else, or less of all for the negative prompt."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Shot:
    """One prompt that every method gets."""

    task: str
    caption: Caption
    motion_strength: float = 1.0
    """For methods without one, the strength of all they learned."""


def shots(clip: ConceptClip) -> list[Shot]:
    """The clip's own prompt, two other backgrounds, a second object, and half the motion strength."""
    return [
        Shot(task="reconstruct", caption=clip.caption),
        *_edits(clip, PLACES, SECOND),
        Shot(task="motion strength 0.5", caption=clip.caption, motion_strength=0.5),
    ]


def _edits(clip: ConceptClip, places: Sequence[tuple[str, str]], second: Sequence[SpriteWords]) -> list[Shot]:
    """Two of the backgrounds that are not the clip's, and the second objects."""
    backgrounds = [clip.edited(background=name, texture=texture) for name, texture in places if name != clip.background]
    objects = [clip.edited(second=words) for words in second]
    return [
        *(Shot(task="background", caption=caption) for caption in backgrounds[:2]),
        *(Shot(task="second object", caption=caption) for caption in objects),
    ]


def choosing_shots(clip: ConceptClip) -> list[Shot]:
    """Edits that strengths are chosen on; no method is measured on them."""
    return _edits(clip, OTHER_PLACES, OTHER_SECOND)


def at_its_best(backbone: WanBackbone, learned: Learned, clip: ConceptClip) -> Learned:
    """With those `STRENGTHS` at which identity and prompt adherence are highest in sum, on edits of their own.

    What an artist does who tries some strengths before using a concept; the training stays as it is.
    """

    def worth(schedule: StrengthSchedule) -> float:
        tried = replace(learned, schedule=schedule)
        found = [
            clip_figures(clip.frames(), generate(backbone, tried, shot, seed), shot.caption)
            for shot in choosing_shots(clip)
            for seed in OTHER_SEEDS
        ]
        return sum(figures.identity + figures.adherence for figures in found)

    return replace(learned, schedule=max(STRENGTHS, key=worth))


def generate(backbone: WanBackbone, learned: Learned, shot: Shot, seed: int) -> Tensor:
    """A clip of the shot, (F, H, W, 3) in [0, 1], with the concept's tokens in its prompt."""
    noise = latent_noise(backbone.latent_shape(FRAMES, SIZE, SIZE), seed)
    has_motion = any(layer.motion_residual_RI.any() for layer in learned.layers.values())
    strengths = {"motion_strength": shot.motion_strength}
    strengths["identity_strength"] = 1.0 if has_motion else shot.motion_strength
    options = {"embeddings": scaled_embeddings(learned.embeddings, **strengths), "steps": SAMPLING_STEPS}
    with _applied(backbone, learned, strengths):
        return backbone.decode_latents(sample_latents(backbone, noise, with_tokens(str(shot.caption)), **options))


def _applied(backbone: WanBackbone, learned: Learned, strengths: dict[str, float]) -> AbstractContextManager[None]:
    if not learned.layers:
        return nullcontext()
    if learned.schedule is None:
        return applied_layers(backbone, learned.layers, **strengths)
    concept = as_concept(backbone, learned)
    return applied_concepts(backbone, [WeightedConcept(concept=concept, schedules=(learned.schedule,), **strengths)])
