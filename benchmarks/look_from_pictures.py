"""Measures whether a look from pictures can take on the motion of a clip that shows something else.

    python -m benchmarks.look_from_pictures [--pairs bee-lantern lantern-mushroom mushroom-bee] [--seeds 2]

For each pair, twelve pictures of the first concept, on backgrounds of all kinds, give the look, and the clip of the
second concept gives the motion. *Reference Pictures* offers several ways of keeping the look of the clip out of the
motion; each is tried. The result is sampled on a background where neither concept was seen, and compared with the clips
of both. A training takes about two minutes on one core; docs/composition.md holds the printed table.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from benchmarks.motion_transfer import FIRST_STEPS
from benchmarks.scenes import BACKGROUND, CLIPS, reference
from benchmarks.shots import SAMPLING_STEPS
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.clip import Words
from setandseq_core.clips.pictures import with_pictures
from setandseq_core.compose.apply import applied_concepts
from setandseq_core.compose.strengths import StrengthSchedule, WeightedConcept
from setandseq_core.concept import Concept
from setandseq_core.config import MethodConfig
from setandseq_core.embedded.model import EMBEDDED_CONFIG, load_embedded
from setandseq_core.embedded.probes.metrics import identity_similarity, motion_similarity
from setandseq_core.embedded.world.scene import BACKGROUND_COLOURS, FRAMES, SIZE, TEXTURES
from setandseq_core.learn import learn_concept
from setandseq_core.sample import latent_noise, sample_latents

NUM_PICTURES = 12
MORE_DROPOUT = 0.7


@dataclass(kw_only=True, slots=True, frozen=True)
class Way:
    """A way to keep the look of the clip out of the motion."""

    look_of_clip: bool = False
    masked: bool = False
    more_dropout: bool = False


WAYS = {
    "pictures alone": Way(),
    "the clip's look is learned, too": Way(look_of_clip=True),
    "the clip's look, and a mask": Way(look_of_clip=True, masked=True),
    f"the clip's look, and motion dropout {MORE_DROPOUT}": Way(look_of_clip=True, more_dropout=True),
}

SCHEDULES: dict[str, tuple[StrengthSchedule, ...]] = {"": (), ", motion for the first steps": (FIRST_STEPS,)}


def pictures(name: str) -> Iterator[Tensor]:
    """Single frames of a concept, (1, H, W, 3), each on a different background."""
    chance = Random(0)
    backgrounds = [colour for colour in BACKGROUND_COLOURS if colour != BACKGROUND]
    for _ in range(NUM_PICTURES):
        clip = replace(CLIPS[name], background=chance.choice(backgrounds), texture=chance.choice(TEXTURES))
        yield clip.frames(torch.tensor([chance.random()]))


def learn(backbone: WanBackbone, look: str, motion: str, way: Way) -> Concept:
    """Learn the look from pictures of one concept and the motion from the clip of another."""
    token, _ = CLIPS[look].tokens
    prompt = f"a small {token} creature"
    both = with_pictures(
        reference(motion, masked=way.masked),
        pictures(look),
        Words(static_prompt=prompt, motion_prompt=prompt, identity_token=token),
        multiple=16,
        max_pixels=SIZE * SIZE,
        look_of_clip=way.look_of_clip,
    )
    return learn_concept(backbone, [both], _config(way), name=f"{look} as {motion}")


def _config(way: Way) -> MethodConfig:
    set_stage, sequence_stage = EMBEDDED_CONFIG.set_stage, EMBEDDED_CONFIG.sequence_stage
    if way.look_of_clip:  # each of the two looks gets as many steps as a single look
        set_stage = replace(set_stage, steps=2 * set_stage.steps)
    if way.more_dropout:
        sequence_stage = replace(sequence_stage, coefficient_dropout=MORE_DROPOUT)
    return replace(EMBEDDED_CONFIG, stitched_share=0.0, set_stage=set_stage, sequence_stage=sequence_stage)


def figures(backbone: WanBackbone, concept: WeightedConcept, look: str, motion: str, seed: int) -> list[float]:
    """Similarity of one sample to the look of the pictures, the look of the clip, and the motion of the clip."""
    (v, _), (_, u) = CLIPS[look].tokens, CLIPS[motion].tokens
    prompt = f"a small {v} creature {u} wandering on a {BACKGROUND} plain background"
    noise = latent_noise(backbone.latent_shape(FRAMES, SIZE, SIZE), seed)
    with applied_concepts(backbone, [concept]):
        frames = backbone.decode_latents(sample_latents(backbone, noise, prompt, steps=SAMPLING_STEPS))
    of_pictures, of_clip = CLIPS[look].frames(), CLIPS[motion].frames()
    return [
        identity_similarity(of_pictures, frames),
        identity_similarity(of_clip, frames),
        motion_similarity(of_clip, frames),
    ]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.look_from_pictures", description=__doc__)
    parser.add_argument("--pairs", nargs="+", default=["bee-lantern", "lantern-mushroom", "mushroom-bee"])
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=2, help="noises that each prompt is made from")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    backbone = load_embedded()
    pairs = [pair.split("-") for pair in arguments.pairs]
    print("| way | clips | look of the pictures | look of the clip | motion of the clip |\n|---|---|---|---|---|")
    for title in arguments.ways:
        concepts = [learn(backbone, look, motion, WAYS[title]) for look, motion in pairs]
        for when, schedules in SCHEDULES.items():
            found = [
                figures(backbone, WeightedConcept(concept=concept, schedules=schedules), look, motion, seed)
                for concept, (look, motion) in zip(concepts, pairs, strict=True)
                for seed in range(arguments.seeds)
            ]
            means = " | ".join(f"{sum(values) / len(found):.2f}" for values in zip(*found, strict=True))
            print(f"| {title}{when} | {len(found)} | {means} |", flush=True)


if __name__ == "__main__":
    main()
