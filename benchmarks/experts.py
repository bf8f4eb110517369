"""Measures what each of two experts should learn of look and motion, on two copies of the embedded model.

    python -m benchmarks.experts [--concepts bee lantern] [--noises 2] [--processes 1]

Each copy is first fine-tuned on its own noise levels, as the experts of Wan 2.2 14B were. Both then learn each concept,
and videos are made with parts of what they learned, or after trainings with fewer steps. Models, trainings and records
stay in build/experts, so the same command resumes where it stopped; all of it takes an hour and a half on a slow core.
Prints the losses of the models at all noise levels, and the table of docs/video_models.md.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.budget import Figures, changed, measured, parsed, print_table, records
from benchmarks.methods import words_of
from benchmarks.shots import SAMPLING_STEPS, Shot
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.clip import Clip, Reference
from setandseq_core.compose.apply import applied_concept
from setandseq_core.concept import HIGH_NOISE, LOW_NOISE, WITHOUT, Concept, Range, Strengths, in_words
from setandseq_core.embedded.model import load_embedded
from setandseq_core.embedded.world.concepts import CONCEPTS, with_tokens
from setandseq_core.embedded.world.scene import FPS, FRAMES, SIZE, render, scene_of
from setandseq_core.flow import flow_loss, interpolate, random_times, sampling_times, target_velocity
from setandseq_core.learn import learn_concept
from setandseq_core.sample import latent_noise, sample_latents
from setandseq_core.training.prior import automatic_prior
from tools.embedded_model.quality import held_out_captions
from tools.embedded_model.train_transformer import TransformerTraining, encode_pool, train_transformer

FOLDER = Path(__file__).parent.parent / "build" / "experts"
BOUNDARY = 0.875
"""Wan 2.2's own; at the embedded model's shift, three in ten steps of the sampler are above it."""
RANGES: dict[str, Range] = {HIGH_NOISE: (BOUNDARY, 1.0), LOW_NOISE: (0.0, BOUNDARY)}
POOL_CLIPS = 640
FINE_TUNING = TransformerTraining(steps=150, batch=16, learning_rate=3e-4, warmup=10, save_every=50)
BOTH = Strengths(1.0, 1.0)
LOOK = Strengths(1.0, 0.0)
MOTION = Strengths(0.0, 1.0)


@dataclass(kw_only=True, slots=True, frozen=True)
class Use:
    """Which part of the concept each expert uses, and the share of the recipe's steps that it was trained for."""

    high: Strengths = BOTH
    low: Strengths = BOTH
    high_steps: float = 1.0
    low_steps: float = 1.0


USES = {
    "look and motion in both": Use(),
    "high noise: look only": Use(high=LOOK),
    "high noise: motion only": Use(high=MOTION),
    "high noise: nothing": Use(high=WITHOUT),
    "low noise: look only": Use(low=LOOK),
    "low noise: motion only": Use(low=MOTION),
    "low noise: nothing": Use(low=WITHOUT),
    "high noise: half the steps": Use(high_steps=0.5),
    "low noise: half the steps": Use(low_steps=0.5),
}


def expert(name: str) -> WanBackbone:
    """A copy of the embedded model that was fine-tuned on an expert's noise levels, or is now."""
    backbone, file = load_embedded(), FOLDER / f"{name}.safetensors"
    if not file.exists():
        folder = FOLDER / "fine_tuning"
        folder.mkdir(parents=True, exist_ok=True)
        encode_pool(backbone.vae, folder, POOL_CLIPS, FINE_TUNING)
        lowest, highest = RANGES[name]
        config = replace(FINE_TUNING, lowest_time=lowest, highest_time=highest)
        save_file(train_transformer(folder, config, backbone.module).state_dict(), file)
        for state in folder.glob("transformer_*"):  # the other expert trains in the same folder, on the same clips
            state.unlink()
    backbone.module.load_state_dict(load_file(file))
    backbone.module.eval().requires_grad_(False)
    return backbone


@torch.no_grad()
def levels_loss(backbone: WanBackbone, levels: Range, clips: int = 32) -> float:
    """Flow-matching loss (Eq. 1) on clips that no training has, at noise levels within a range."""
    losses = list[float]()
    for number, caption in enumerate(held_out_captions(clips)):
        torch.manual_seed(number)
        x_0 = backbone.encode_frames(render(scene_of(caption, Random(number)))).unsqueeze(0)
        noise, time = torch.randn_like(x_0), random_times(x_0, backbone.shift, levels)
        velocity = backbone.velocity(interpolate(x_0, noise, time), time, [backbone.encode_prompt(str(caption))])
        losses.append(float(flow_loss(velocity, target_velocity(x_0, noise))))
    return sum(losses) / len(losses)


def learn(backbone: WanBackbone, name: str, concept: str, steps: float) -> Concept:
    """A concept that one expert learned at its own noise levels, in a share of the recipe's steps."""
    clip = CONCEPTS[concept]
    seen = Clip(frames_FHWC=clip.frames(), fps=float(FPS), choice=concept)
    reference = Reference(clip=seen, words=words_of(clip))
    config = replace(changed(steps=steps).config, time_range=RANGES[name])
    # An expert alone cannot make a whole clip. The model that both come from can, and knows the same things.
    prior = automatic_prior(load_embedded(), [reference], config, folder=FOLDER)
    return learn_concept(backbone, [reference], config, name=concept, prior=prior, folder=FOLDER)


def generate(
    experts: Mapping[str, WanBackbone], concepts: Mapping[str, Concept], use: Use, shot: Shot, seed: int
) -> Tensor:
    """A clip of the shot, (F, H, W, 3) in [0, 1]: the high-noise expert begins, and the low-noise one ends."""
    high, low = experts[HIGH_NOISE], experts[LOW_NOISE]
    times = sampling_times(SAMPLING_STEPS, high.shift)
    of_high = int((times >= BOUNDARY).sum())
    latents = latent_noise(high.latent_shape(FRAMES, SIZE, SIZE), seed)
    for name, strengths, part in ((HIGH_NOISE, use.high, times[: of_high + 1]), (LOW_NOISE, use.low, times[of_high:])):
        with applied_concept(experts[name], concepts[name], strengths) as applied:
            prompt, steps = with_tokens(str(shot.caption)), len(part) - 1
            latents = sample_latents(applied.backbone, latents, prompt, steps=steps, times=part)
    return low.decode_latents(latents)


def measure(title: str, concept: str, noises: int) -> list[Figures]:
    """Figures of every clip made in one way; reads them if that was done before."""
    path = FOLDER / f"{title.replace(' ', '_').replace(':', '')}_{concept}_{noises}.json"
    if path.exists():
        return json.loads(path.read_text())
    torch.set_num_threads(1)
    use = USES[title]
    experts = {name: expert(name) for name in RANGES}
    steps = {HIGH_NOISE: use.high_steps, LOW_NOISE: use.low_steps}
    concepts = {name: learn(experts[name], name, concept, steps[name]) for name in RANGES}
    found = records(CONCEPTS[concept], lambda shot, seed: generate(experts, concepts, use, shot, seed), noises)
    path.write_text(json.dumps(found))
    print(f"{title}, {concept}: {len(found)} clips", flush=True)
    return found


def main() -> None:
    """Fine-tune the experts, measure, and print both tables."""
    options = parsed("benchmarks.experts", __doc__)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    models = {"embedded model": load_embedded()} | {f"{in_words(name)} expert": expert(name) for name in RANGES}
    print("| loss | high noise levels | low noise levels |\n|---|---|---|")
    for name, backbone in models.items():
        print(f"| {name} | {' | '.join(f'{levels_loss(backbone, levels):.3f}' for levels in RANGES.values())} |")
    print_table(measured(measure, USES, options), "what is used")


if __name__ == "__main__":
    main()
