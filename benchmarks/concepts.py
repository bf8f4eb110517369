"""Does the method keep a clip's look and motion and still follow prompts? On clips the embedded world has no words for.

    python -m benchmarks.concepts [--seeds 3] [--processes 2] [--concepts bee mushroom ...]

For every concept of `setandseq_core.toy.concepts` three methods get the same prompts: the base model alone, a plain
rank-8 LoRA trained on the clip for as many samples, and Set-and-Sequence. Writes docs/results.json (every clip),
docs/results.md (the tables), after every concept, and a contact sheet for each concept and method into build/concepts/.
"""

import argparse
import json
import math
import multiprocessing
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.concept import ConceptLayer
from setandseq_core.config import MethodConfig, SetConfig
from setandseq_core.lora import trainable_concept
from setandseq_core.material import FrameSequence, Material, encode_frame_sequence, encode_frame_set
from setandseq_core.runs import StageRun
from setandseq_core.sample import applied_layers, latent_noise, sample_latents
from setandseq_core.sheet import contact_sheet
from setandseq_core.toy.concepts import CONCEPTS, ConceptClip, with_tokens
from setandseq_core.toy.metrics import clip_figures
from setandseq_core.toy.model import EMBEDDED_CONFIG, load_embedded
from setandseq_core.toy.world import FRAMES, SIZE, Caption, SpriteWords
from setandseq_core.train import (
    run_sequence_stage,
    train_identity,
    train_motion,
)

DOCS = Path(__file__).parent.parent / "docs"
SHEETS = Path(__file__).parent.parent / "build" / "concepts"
"""Where the contact sheets go, which are not kept."""
METHODS = ("base", "LoRA rank 8", "Set-and-Sequence")
FIGURES = ("identity", "motion", "adherence", "coherence", "mse")
SECOND = (
    SpriteWords(size="small", colour="red", shape="star", motion="bouncing"),
    SpriteWords(size="small", colour="cyan", shape="square", motion="standing still"),
)
PLAIN_LEARNING_RATE = 1e-3
"""Of the plain LoRA."""
PLACES = (("brown", "checkered"), ("pink", "striped"), ("green", "plain"))


def tasks(clip: ConceptClip) -> list[tuple[str, Caption]]:
    """The prompts each method gets: the clip's own, two other backgrounds, a second object."""
    places = [place for place in PLACES if place[0] != clip.background][:2]
    found = [("reconstruct", clip.caption)]
    found += [("background", clip.edited(background=background, texture=texture)) for background, texture in places]
    return found + [("second object", clip.edited(second=words)) for words in SECOND]


def plain_lora(backbone: WanBackbone, sequence: FrameSequence, config: MethodConfig) -> dict[str, ConceptLayer]:
    """A plain rank-8 LoRA on the clip and its motion prompt, for as many samples as both stages together."""
    steps = config.set_stage.steps + config.sequence_stage.steps
    stage = SetConfig(steps=steps, learning_rate=PLAIN_LEARNING_RATE, batch=config.sequence_stage.batch)
    plain = MethodConfig(rank=8, token_masking=0.0, seed=config.seed, gradient_clipping=config.gradient_clipping)
    with trainable_concept(backbone.module, backbone.layers, rank=8, seed=config.seed) as layers:
        parameters = layers.begin_set_stage(0.0)
        run = StageRun(stage="plain", key="", parameters=parameters, config=stage, method=plain)
        run_sequence_stage(backbone, layers, Material(clips=[sequence]), plain, run)
        return layers.read()


def learn(method: str, backbone: WanBackbone, clip: ConceptClip) -> dict[str, ConceptLayer]:
    """The layers that a method learns from a clip; none for the base."""
    if method == "base":
        return {}
    sequence = encode_frame_sequence(backbone, clip.frames(), clip.motion_prompt)
    if method == "LoRA rank 8":
        return plain_lora(backbone, sequence, EMBEDDED_CONFIG)
    frame_set = encode_frame_set(backbone, clip.frames(), clip.static_prompt)
    identity = train_identity(backbone, Material(clips=[frame_set]), EMBEDDED_CONFIG).layers
    return train_motion(backbone, identity, Material(clips=[sequence]), EMBEDDED_CONFIG).layers


def generate(backbone: WanBackbone, layers: dict[str, ConceptLayer], caption: Caption, seed: int) -> Tensor:
    """A clip of the caption, with the concept's tokens in its prompt."""
    noise = latent_noise(backbone.latent_shape(FRAMES, SIZE, SIZE), seed)
    with applied_layers(backbone, layers) if layers else nullcontext():
        return backbone.decode_latents(sample_latents(backbone, noise, with_tokens(str(caption))))


def measure(name: str, method: str, seeds: int) -> tuple[list[dict], list[Tensor]]:
    """One concept by one method: a record for every generated clip, and the first seed's frames."""
    torch.set_num_threads(1)
    backbone, clip = load_embedded(), CONCEPTS[name]
    layers = learn(method, backbone, clip)
    records, shown = [], []
    for task, caption in tasks(clip):
        for seed in range(seeds):
            frames = generate(backbone, layers, caption, seed)
            figures = asdict(clip_figures(clip.frames(), frames, caption))
            record = {
                "concept": name,
                "method": method,
                "task": task,
                "prompt": with_tokens(str(caption)),
                "seed": seed,
            }
            records.append(record | {key: round(value, 4) for key, value in figures.items()})
            if seed == 0:
                shown.append(frames)
    return records, shown


def mean_and_interval(values: list[float]) -> str:
    """The mean with its 95 % interval, from the standard error."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)
    return f"{mean:.3f} +- {1.96 * math.sqrt(variance / len(values)):.3f}"


def table(records: list[dict], task_names: tuple[str, ...], concept: str | None = None) -> Iterator[str]:
    """Markdown rows, one per method, over the records of some tasks."""
    yield f"| method | clips | {' | '.join(FIGURES)} |"
    yield "|---|---|" + "---|" * len(FIGURES)
    for method in METHODS:
        chosen = [r for r in records if r["method"] == method and r["task"] in task_names]
        chosen = [r for r in chosen if concept is None or r["concept"] == concept]
        cells = [mean_and_interval([r[figure] for r in chosen]) for figure in FIGURES]
        yield f"| {method} | {len(chosen)} | {' | '.join(cells)} |"


def report(records: list[dict], seeds: int) -> str:
    """docs/results.md."""
    concepts = list(dict.fromkeys(r["concept"] for r in records))
    stages = EMBEDDED_CONFIG.set_stage, EMBEDDED_CONFIG.sequence_stage
    steps = stages[0].steps + stages[1].steps
    lines = [
        "# Results on the embedded model",
        "",
        f"Made by `python -m benchmarks.concepts --seeds {seeds} --concepts {' '.join(concepts)}`; every clip is a",
        "record in results.json. Means with 95 % intervals over clips. Figures are those of",
        "`setandseq_core.toy.metrics`: identity 0 to 1, motion -1 to 1, adherence (share of what the prompt states",
        "that the detectors find) 0 to 1, coherence -1 to 1.",
        "",
        f"Concepts: {', '.join(concepts)}; none can be said in the embedded world's grammar. Set-and-Sequence: rank",
        f"{EMBEDDED_CONFIG.rank}, {stages[0].steps} steps at {stages[0].learning_rate:g} + {stages[1].steps} steps at",
        f"{stages[1].learning_rate:g}, batch {stages[0].batch}; the plain LoRA: rank 8, {steps} steps of that batch",
        f"on the clip at {PLAIN_LEARNING_RATE:g}, no dropout, no masking.",
        "",
    ]
    sections = {
        "Reconstruction: the clip's own prompt": ("reconstruct",),
        "Edits: all": ("background", "second object"),
        "Edits: another background": ("background",),
        "Edits: a second object": ("second object",),
    }
    for title, names in sections.items():
        lines += [f"## {title}", "", *table(records, names), ""]
    for concept in concepts:
        lines += [f"## {concept}: reconstruction, then edits", "", *table(records, ("reconstruct",), concept), ""]
        lines += [*table(records, ("background", "second object"), concept), ""]
    return "\n".join(lines)


def write(records: list[dict], seeds: int) -> None:
    """docs/results.json and docs/results.md."""
    (DOCS / "results.json").write_text(json.dumps(records, indent=0) + "\n")
    (DOCS / "results.md").write_text(report(records, seeds))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.concepts", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--concepts", nargs="+", choices=tuple(CONCEPTS), default=list(CONCEPTS))
    arguments = parser.parse_args()
    jobs = [(name, method, arguments.seeds) for name in arguments.concepts for method in METHODS]
    records: list[dict] = []
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        results = [pool.apply_async(measure, job) for job in jobs]
        for (name, method, seeds), result in zip(jobs, results, strict=True):
            found, shown = result.get()
            records += found
            rows = [(task, frames) for (task, _), frames in zip(tasks(CONCEPTS[name]), shown, strict=True)]
            sheet = contact_sheet([(f"{name}, the clip", CONCEPTS[name].frames()), *rows])
            SHEETS.mkdir(parents=True, exist_ok=True)
            sheet.save(SHEETS / f"{name}_{method.replace(' ', '_')}.png")
            print(f"{name}, {method}: {len(found)} clips", flush=True)
            if method == METHODS[-1]:
                write(records, seeds)


if __name__ == "__main__":
    main()
