"""Compares the look and the motion of concepts stored in bfloat16 with the same concepts in float32.

    python -m benchmarks.stored [--concepts bee lantern] [--seeds 1]

Each concept is learned once on the embedded model with the whole recipe and saved twice. Both files are sampled with
the clip's own prompt and its edits, from the same noise, and the embedded world's probes measure the clips.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.method import prior_of
from benchmarks.methods import METHODS, OURS, Job, Learned, as_concept
from benchmarks.shots import generate, shots
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.concept_file.file import load_concept, save_concept
from setandseq_core.embedded.model import EMBEDDED_CONFIG, load_embedded
from setandseq_core.embedded.probes.metrics import clip_figures
from setandseq_core.embedded.world.concepts import CONCEPTS

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FIGURES = ("identity", "motion", "adherence")
Figures = dict[str, float]


def measure(backbone: WanBackbone, name: str, seeds: int, folder: Path) -> Iterator[tuple[str, str, Figures]]:
    """Learn a concept; for each file and shot, yield the file's type, the shot's task and the figures of its clip."""
    clip = CONCEPTS[name]
    job = Job(clip=clip, prior=prior_of(backbone, clip, folder), config=replace(EMBEDDED_CONFIG, seed=0))
    learned = METHODS[OURS](backbone, job)
    concept = as_concept(backbone, learned, name=name)
    for kind, dtype in TYPES.items():
        path = folder / f"{name}_{kind}.safetensors"
        save_concept(concept, path, dtype=dtype)
        stored = load_concept(path)
        print(f"{name} in {kind}: {path.stat().st_size / 2**20:.2f} MiB", flush=True)
        for shot in shots(clip):
            for seed in range(seeds):
                used = Learned(layers=stored.layers, embeddings=stored.embeddings)
                figures = clip_figures(clip.frames(), generate(backbone, used, shot, seed), shot.caption)
                yield kind, shot.task, asdict(figures)


def rows(concepts: list[str], seeds: int) -> Iterator[str]:
    """The lines of the table."""
    found: dict[str, list[Figures]] = {kind: [] for kind in TYPES}
    backbone = load_embedded()
    with TemporaryDirectory() as folder:
        for name in concepts:
            for kind, _, figures in measure(backbone, name, seeds, Path(folder)):
                found[kind].append(figures)
    yield f"{', '.join(concepts)}: {len(found['float32'])} clips of each"
    yield ""
    yield f"| stored in | {' | '.join(FIGURES)} |"
    yield "|---|" + "---|" * len(FIGURES)
    for kind, clips in found.items():
        means = [sum(clip[figure] for clip in clips) / len(clips) for figure in FIGURES]
        yield f"| {kind} | {' | '.join(f'{mean:.4f}' for mean in means)} |"
    pairs = [*zip(found["float32"], found["bfloat16"], strict=True)]
    most = [max(abs(one[figure] - two[figure]) for one, two in pairs) for figure in FIGURES]
    yield f"| largest difference of a clip | {' | '.join(f'{value:.4f}' for value in most)} |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stored", description=__doc__)
    parser.add_argument("--concepts", nargs="+", choices=tuple(CONCEPTS), default=["bee", "lantern"])
    parser.add_argument("--seeds", type=int, default=1, help="noises that each prompt is made from")
    options = parser.parse_args()
    for line in rows(options.concepts, options.seeds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
