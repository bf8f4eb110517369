"""Measures what a shorter training costs: in steps, samples per step, frames or pixels.

    python -m benchmarks.budget [--concepts bee lantern] [--noises 2] [--processes 1]

Each row changes one thing of the embedded model's recipe. What a training costs is counted in tokens: samples times
tokens per sample, over both stages. Each result is sampled at the model's own length and size, with the clip's prompt
and its edits. A training takes about two minutes on one core; records stay in build/budget, so the same command resumes
where it stopped. Prints the table of docs/results_earlier.md and draws docs/images/budget.png.
"""

import argparse
import json
import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import matplotlib
import torch
from torch import Tensor
from torch.nn import functional

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.method import base_folder, measures_key
from benchmarks.methods import Learned, words_of
from benchmarks.shots import Shot, generate, shots
from setandseq_core.clips.clip import Clip, Reference
from setandseq_core.config import MethodConfig
from setandseq_core.embedded.model import EMBEDDED_CONFIG, load_embedded
from setandseq_core.embedded.probes.metrics import clip_figures
from setandseq_core.embedded.world.concepts import CONCEPTS, ConceptClip
from setandseq_core.embedded.world.scene import FPS, FRAMES, SIZE
from setandseq_core.learn import learn_concept

ROOT = Path(__file__).parent.parent
FIGURE = ROOT / "docs" / "images" / "budget.png"
TOKEN_PIXELS = 16
"""Side of a token in pixels: the VAE's 8 times the transformer's patch of 2."""
FRAMES_PER_LATENT = 4
TASKS = {"clip's own prompt": ("reconstruct",), "edits": ("background", "second object")}
COLUMNS = (
    ("clip's own prompt", "identity"),
    ("clip's own prompt", "motion"),
    ("edits", "identity"),
    ("edits", "adherence"),
)
Figures = dict[str, str | float]
"""Figures of one clip by their names, with its task."""
Measure = Callable[[str, str, int], list[Figures]]
"""Gives the figures of the clips of a title and a concept, made from so many noises."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Budget:
    """A training's settings and the part of the clip that it sees."""

    config: MethodConfig = EMBEDDED_CONFIG
    frames: int = FRAMES
    side: int = SIZE

    @property
    def tokens(self) -> int:
        """Samples times tokens per sample, over both stages."""
        picture = (self.side // TOKEN_PIXELS) ** 2
        clip = picture * (1 + (self.frames - 1) // FRAMES_PER_LATENT)
        look, motion = self.config.set_stage, self.config.sequence_stage
        return look.steps * look.batch * picture + motion.steps * motion.batch * clip


def changed(*, steps: float = 1.0, batch: int | None = None) -> Budget:
    """The recipe with a share of both stages' steps, and another number of samples per step."""
    config = EMBEDDED_CONFIG
    look, motion = config.set_stage, config.sequence_stage
    return Budget(
        config=replace(
            config,
            set_stage=replace(look, steps=round(steps * look.steps), batch=batch or look.batch),
            sequence_stage=replace(motion, steps=round(steps * motion.steps), batch=batch or motion.batch),
        )
    )


BUDGETS = {
    "the recipe": Budget(),
    "a quarter of the steps": changed(steps=0.25),
    "half the steps": changed(steps=0.5),
    "twice the steps": changed(steps=2),
    "1 sample per step": changed(batch=1),
    "1 sample per step, four times the steps": changed(steps=4, batch=1),
    "9 frames": Budget(frames=9),
    "5 frames": Budget(frames=5),
    "32x32 pixels": Budget(side=32),
}
KINDS = {
    "steps": ("a quarter of the steps", "half the steps", "the recipe", "twice the steps"),
    "samples per step": ("1 sample per step", "the recipe"),
    "frames": ("5 frames", "9 frames", "the recipe"),
    "pixels": ("32x32 pixels", "the recipe"),
}
"""The lines of the figure."""


def measure(folder: Path, title: str, concept: str, noises: int) -> list[Figures]:
    """Figures of every clip that a training makes; reads them if that was done before."""
    path = folder / f"{title.replace(' ', '_')}_{concept}_{noises}.json"
    if path.exists():
        return json.loads(path.read_text())
    torch.set_num_threads(1)
    budget, clip, backbone = BUDGETS[title], CONCEPTS[concept], load_embedded()
    frames = functional.interpolate(
        clip.frames()[: budget.frames].movedim(-1, 1), (budget.side, budget.side), mode="bilinear", antialias=True
    ).movedim(1, -1)
    seen = Reference(clip=Clip(frames_FHWC=frames, fps=float(FPS), choice=title), words=words_of(clip))
    learned = learn_concept(backbone, [seen], budget.config, name=concept, folder=folder)
    used = Learned(layers=learned.layers, embeddings=learned.embeddings)
    found = records(clip, lambda shot, seed: generate(backbone, used, shot, seed), noises)
    path.write_text(json.dumps(found))
    print(f"{title}, {concept}: {len(found)} clips", flush=True)
    return found


def records(clip: ConceptClip, make: Callable[[Shot, int], Tensor], noises: int) -> list[Figures]:
    """Figures of the clip's shots at full motion strength, each made from several noises.

    Args:
        make: makes a clip (F, H, W, 3) of a shot from the noise of a seed.
    """
    found = list[Figures]()
    for shot in shots(clip):
        for seed in range(noises) if shot.motion_strength == 1 else ():
            figures = clip_figures(clip.frames(), make(shot, seed), shot.caption)
            kept = {"identity": figures.identity, "motion": figures.motion, "adherence": figures.adherence}
            found.append({"task": shot.task, **{name: round(value, 4) for name, value in kept.items()}})
    return found


def mean(found: Sequence[Figures], task: str, figure: str) -> float:
    """A figure's mean over the clips of some tasks."""
    values = [float(record[figure]) for record in found if record["task"] in TASKS[task]]
    return sum(values) / len(values)


def print_table(found: Mapping[str, Sequence[Figures]], heads: str, second: Mapping[str, str] | None = None) -> None:
    """Print a row for each title with the means of all figures, after a second column if there is one."""
    print(f"| {heads} | {' | '.join(f'{name}, {task}' for task, name in COLUMNS)} |")
    print("|" + "---|" * (heads.count("|") + 1 + len(COLUMNS)))
    for title, clips in found.items():
        row = [title, *([second[title]] if second else [])]
        print(f"| {' | '.join([*row, *(f'{mean(clips, task, name):.2f}' for task, name in COLUMNS)])} |")


def draw(found: dict[str, list[Figures]]) -> None:
    """Draw each figure against the tokens, with a line for each kind of saving."""
    figure, panels = plt.subplots(1, len(COLUMNS), figsize=(11, 2.8), layout="constrained", sharey=True)
    for axes, (task, name) in zip(panels, COLUMNS, strict=True):
        for kind, titles in KINDS.items():
            tokens = [BUDGETS[title].tokens / 1000 for title in titles]
            axes.plot(tokens, [mean(found[title], task, name) for title in titles], marker="o", label=kind)
        axes.set(xscale="log", ylim=(0, 1.05), title=f"{name}, {task}", xlabel="thousand tokens")
        axes.set_xticks([20, 50, 100], labels=["20", "50", "100"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[-1].legend(loc="lower right", fontsize=8)
    figure.savefig(FIGURE, dpi=100, metadata={"Software": None})
    plt.close(figure)


def parsed(program: str, description: str | None) -> argparse.Namespace:
    """The command line's options: concepts, noises and processes."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("--concepts", nargs="+", choices=tuple(CONCEPTS), default=["bee", "lantern"])
    parser.add_argument("--noises", type=int, default=2, help="noises that each prompt is made from")
    parser.add_argument("--processes", type=int, default=1)
    return parser.parse_args()


def measured(measure: Measure, titles: Iterable[str], options: argparse.Namespace) -> dict[str, list[Figures]]:
    """All clips' figures by title, measured for each concept in processes of their own."""
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        asked = {
            title: [pool.apply_async(measure, (title, name, options.noises)) for name in options.concepts]
            for title in titles
        }
        return {title: [clip for job in jobs for clip in job.get()] for title, jobs in asked.items()}


def main() -> None:
    """Measure, print a table and draw the figure."""
    options = parsed("benchmarks.budget", __doc__)
    folder = ROOT / "build" / "budget" / f"{base_folder().name}_{measures_key()}"
    folder.mkdir(parents=True, exist_ok=True)
    found = measured(partial(measure, folder), BUDGETS, options)
    print_table(found, "changed | thousand tokens", {title: f"{BUDGETS[title].tokens / 1000:.0f}" for title in found})
    draw(found)


if __name__ == "__main__":
    main()
