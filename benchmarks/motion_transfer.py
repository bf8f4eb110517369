"""Measures whether a look can take on the motion of another concept.

    python -m benchmarks.motion_transfer [--concepts bee lantern mushroom] [--seeds 3]

The looks of all clips are learned jointly. On that one basis, the motion of each clip is learned separately for
`compose.transfer_motion`, and the motions of all clips are learned jointly, so that the prompt's tokens choose. Every
look is sampled with every motion, on the look's own background, and compared with the clips of both. This takes minutes
on one core; docs/composition.md holds the printed table.
"""

import argparse
from dataclasses import replace
from itertools import product

import torch

from benchmarks.scenes import CLIPS, reference
from benchmarks.shots import SAMPLING_STEPS
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.compose.add import transfer_motion
from setandseq_core.compose.apply import applied_concepts
from setandseq_core.compose.strengths import StrengthSchedule, WeightedConcept
from setandseq_core.concept import Concept
from setandseq_core.embedded.model import EMBEDDED_CONFIG, load_embedded
from setandseq_core.embedded.probes.metrics import identity_similarity, motion_similarity
from setandseq_core.embedded.world.scene import FRAMES, SIZE
from setandseq_core.learn import learn_identity, learn_motion
from setandseq_core.sample import latent_noise, sample_latents
from setandseq_core.training.prior import automatic_prior

FIRST_STEPS = StrengthSchedule(motion=((0.0, 1.0), (0.3, 1.0), (0.5, 0.0)))
"""Applies the motion early in sampling, because sampling decides the motion early and the look late."""
Figures = dict[str, float]


def learn(backbone: WanBackbone, names: list[str]) -> tuple[dict[str, Concept], Concept]:
    """Learn one concept per clip and one for all, on one basis, with as many steps per clip as for a clip alone."""
    stages = EMBEDDED_CONFIG.set_stage, EMBEDDED_CONFIG.sequence_stage
    longer, all_motions = (replace(stage, steps=len(names) * stage.steps) for stage in stages)
    config = replace(EMBEDDED_CONFIG, stitched_share=0.0, set_stage=longer)
    clips = {name: reference(name) for name in names}
    references = list(clips.values())
    prior = automatic_prior(backbone, references, config)
    looks = learn_identity(backbone, references, config, name="looks", prior=prior)
    found = {}
    for name, clip in clips.items():
        own = replace(looks, info=replace(looks.info, name=name, **_words(name)))
        found[name] = learn_motion(backbone, own, [clip], config, prior=prior)
    return found, learn_motion(backbone, looks, references, replace(config, sequence_stage=all_motions), prior=prior)


def _words(name: str) -> dict[str, str]:
    words = CLIPS[name].words
    return {"static_prompt": words.static_prompt, "identity_token": words.identity_token}


def figures(backbone: WanBackbone, concept: WeightedConcept, look: str, motion: str, seed: int) -> Figures:
    """Similarity of a look with another concept's motion to the clips of both concepts."""
    (v, _), (_, u), place = CLIPS[look].tokens, CLIPS[motion].tokens, CLIPS[look].caption
    prompt = f"a small {v} creature {u} wandering on a {place.background} {place.texture} background"
    noise = latent_noise(backbone.latent_shape(FRAMES, SIZE, SIZE), seed)
    with applied_concepts(backbone, [concept]):
        frames = backbone.decode_latents(sample_latents(backbone, noise, prompt, steps=SAMPLING_STEPS))
    one, two = CLIPS[look].frames(), CLIPS[motion].frames()
    return {
        "look, of its own": identity_similarity(one, frames),
        "look, of the other": identity_similarity(two, frames),
        "motion, of the other": motion_similarity(two, frames),
        "motion, of its own": motion_similarity(one, frames),
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.motion_transfer", description=__doc__)
    parser.add_argument("--concepts", nargs="+", choices=tuple(CLIPS), default=["bee", "lantern", "mushroom"])
    parser.add_argument("--seeds", type=int, default=3, help="noises that each prompt is made from")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    backbone = load_embedded()
    concepts, jointly = learn(backbone, arguments.concepts)
    rows: dict[str, list[Figures]] = {}
    for look, motion in product(concepts, repeat=2):
        alone = concepts[look] if look == motion else transfer_motion(concepts[look], concepts[motion])
        whose = "its own motion" if look == motion else "another's motion"
        ways = {
            "learned apart": WeightedConcept(concept=alone),
            "learned apart, for the first steps": WeightedConcept(concept=alone, schedules=(FIRST_STEPS,)),
            "learned jointly": WeightedConcept(concept=jointly),
        }
        for way, concept in ways.items():
            found = [figures(backbone, concept, look, motion, seed) for seed in range(arguments.seeds)]
            shown = ", ".join(f"{key} {_mean(found, key):.2f}" for key in found[0])
            print(f"{look} moving as {motion}, {way}: {shown}", flush=True)
            rows.setdefault(f"{whose}, {way}", []).extend(found)
    titles = list(next(iter(rows.values()))[0])
    print(f"\n| | clips | {' | '.join(titles)} |\n|---|---|{'---|' * len(titles)}")
    for title, found in rows.items():
        print(f"| {title} | {len(found)} | {' | '.join(f'{_mean(found, key):.2f}' for key in titles)} |")


def _mean(found: list[Figures], key: str) -> float:
    return sum(each[key] for each in found) / len(found)


if __name__ == "__main__":
    main()
