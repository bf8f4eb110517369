"""Measures how well each method keeps a clip's look and motion and still follows prompts, from as many samples.

    python -m benchmarks.method [--seeds 3] [--trainings 0 1] [--processes 2] [--concepts bee ...] [--ablations]

Every method of `benchmarks.methods` learns every clip of `embedded.world.concepts`, and those clips of
`benchmarks.more_clips` that are named. None of these clips can be described in the embedded world's grammar. All
methods then sample the same prompts from the same noise. Results are kept in build/method/ under the base model's hash,
so the same command resumes where it stopped. Writes docs/results.json (a record for every clip), the tables of
docs/results.md and a contact sheet for each task, including the results of benchmarks.composition.
"""

import argparse
import inspect
import json
import multiprocessing
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks import composition
from benchmarks.figures import write_figures
from benchmarks.methods import ABLATIONS, BEST, METHODS, OURS, Job, Learned, as_concept, words_of
from benchmarks.more_clips import MORE_CLIPS
from benchmarks.shots import AT_BEST, generate, shots
from benchmarks.tables import DOCS, TASKS, ablated_records, write_report
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.prior_prompts import PriorSet, automatic_prompts
from setandseq_core.concept_file.file import load_concept, save_concept
from setandseq_core.embedded.files import TRANSFORMER_FILE, VAE_FILE
from setandseq_core.embedded.model import EMBEDDED_CONFIG, load_embedded
from setandseq_core.embedded.probes import backdrop, detectors, metrics, sprites
from setandseq_core.embedded.probes.metrics import clip_figures
from setandseq_core.embedded.settings import EMBEDDED_GUIDANCE
from setandseq_core.embedded.world.concepts import CONCEPTS, DEMO, ConceptClip, with_tokens
from setandseq_core.embedded.world.scene import FRAMES, SIZE
from setandseq_core.training.prior import make_prior

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "method"
CLIPS = CONCEPTS | MORE_CLIPS


def prior_of(backbone: WanBackbone, clip: ConceptClip, folder: Path) -> PriorSet:
    """The prior clips that training with this clip makes automatically."""
    prompts = automatic_prompts(backbone, [words_of(clip)], EMBEDDED_CONFIG.prior.clips)
    return make_prior(backbone, prompts, (FRAMES, SIZE, SIZE), folder=folder)


def file_stem(name: str, method: str, training: int) -> str:
    """The common start of the names of one training's files."""
    return f"{name}_{method.replace(' ', '_')}_{training}"


def learn(backbone: WanBackbone, name: str, method: str, training: int, folder: Path) -> Learned:
    """Learn a concept from a clip by a method, or read it if that was done before."""
    method = OURS if method == BEST else method
    path = folder / f"{file_stem(name, method, training)}_concept.safetensors"
    if path.exists():
        concept = load_concept(path)
        return Learned(layers=concept.layers, embeddings=concept.embeddings, losses=concept.info.training["losses"])
    clip, config = CLIPS[name], replace(EMBEDDED_CONFIG, seed=training)
    job = Job(clip=clip, prior=prior_of(backbone, clip, folder), config=config)
    learned = {**METHODS, **ABLATIONS}[method](backbone, job)
    save_concept(as_concept(backbone, learned, name=name), path)
    return learned


def clips_of(backbone: WanBackbone, name: str, method: str, training: int, seed: int, folder: Path) -> list[Tensor]:
    """A method's video of every shot from one noise, sampled or read from an earlier run.

    Clips are stored in eight bits and measured as stored, so that a better measure needs no new clips.
    """
    path = folder / f"{file_stem(name, method, training)}_noise{seed}.safetensors"
    if not path.exists():
        learned, made = learn(backbone, name, method, training, folder), {}
        for number, shot in enumerate(shots(CLIPS[name])):
            used = replace(learned, schedule=AT_BEST.get(shot.task)) if method == BEST else learned
            made[str(number)] = (generate(backbone, used, shot, seed) * 255).round().to(torch.uint8).contiguous()
        save_file(made, path)
    clips = load_file(path)
    return [clips[str(number)].float() / 255 for number in range(len(clips))]


def measure(name: str, method: str, training: int, seeds: int, folder: Path) -> str:
    """Learn one concept by one method and write a record for every clip made with it, unless the record exists."""
    torch.set_num_threads(1)
    backbone, clip, stem = load_embedded(), CLIPS[name], file_stem(name, method, training)
    steps, made = len(learn(backbone, name, method, training, folder).losses), 0
    about = {"method": method, "concept": name, "training": training, "steps": steps}
    for seed in range(seeds):
        path = folder / measures_key() / f"{stem}_noise{seed}.json"
        if path.exists():
            continue
        records = []
        clips = clips_of(backbone, name, method, training, seed, folder)
        for shot, frames in zip(shots(clip), clips, strict=True):
            figures = {
                key: round(value, 4) for key, value in asdict(clip_figures(clip.frames(), frames, shot.caption)).items()
            }
            figures["prompt_adherence"] = figures.pop("adherence")
            figures["temporal_coherence"] = figures.pop("coherence")
            asked = {"task": shot.task, "prompt": with_tokens(str(shot.caption)), "seed": seed}
            records.append({**about, **asked, **figures})
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(records))
        made += len(records)
    return f"{stem}: {made} clips"


def sheet_rows(folder: Path, methods: list[str], name: str, task: str) -> list[tuple[str, Tensor]]:
    """Rows with the clip, and with each method's video of the task's first prompt from the first noise."""
    number = next(index for index, shot in enumerate(shots(CLIPS[name])) if shot.task == task)
    rows = [("the clip", CLIPS[name].frames())]
    for method in methods:
        path = folder / f"{file_stem(name, method, 0)}_noise0.safetensors"
        if path.exists():
            rows.append((method, load_file(path)[str(number)].float() / 255))
    return rows


def base_folder() -> Path:
    """The folder for all results with this base model, recipe and guidance."""
    weights = TRANSFORMER_FILE.read_bytes() + VAE_FILE.read_bytes()
    recipe = json.dumps([EMBEDDED_CONFIG.as_dict(), EMBEDDED_GUIDANCE], sort_keys=True).encode()
    return FOLDER / sha256(weights + recipe).hexdigest()[:16]


def measures_key() -> str:
    """A hash of the code that measures; when it changes, records are measured again."""
    code = (inspect.getsource(module).encode() for module in (metrics, detectors, sprites, backdrop))
    return sha256(b"".join(code)).hexdigest()[:8]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.method", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="noises that each prompt is made from")
    parser.add_argument("--trainings", nargs="+", type=int, default=[0], help="seeds that each method is trained with")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--concepts", nargs="+", choices=tuple(CLIPS), default=list(CONCEPTS))
    parser.add_argument("--methods", nargs="+", choices=(*METHODS, *ABLATIONS), default=list(METHODS))
    parser.add_argument(
        "--ablations", action="store_true", help="the recipe with one thing changed each, instead of methods"
    )
    parser.add_argument("--only-report", action="store_true", help="of what is there")
    options = parser.parse_args()
    folder = base_folder()
    folder.mkdir(parents=True, exist_ok=True)
    methods = ABLATIONS if options.ablations else options.methods
    jobs = [
        (name, method, training, options.seeds, folder)
        for training in options.trainings
        for method in sorted(methods, key=BEST.__eq__)  # last: it uses another method's concept
        for name in options.concepts
        if method != "base" or training == options.trainings[0]  # it is not trained, so its clips would count twice
    ]
    if not options.only_report:
        backbone = load_embedded()
        for name in options.concepts:  # here, because two processes would make the same clips
            prior_of(backbone, CLIPS[name], folder)
        with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
            for result in [pool.apply_async(measure, job) for job in jobs]:
                print(result.get(), flush=True)
    records: list[dict[str, Any]] = [
        record for path in sorted(folder.glob(f"{measures_key()}/*.json")) for record in json.loads(path.read_text())
    ]
    sheets = {task: sheet_rows(folder, list(METHODS), DEMO, task) for task in TASKS}
    sheets |= {task: rows for number, task in composition.TASKS.items() if (rows := composition.sheet_rows(number))}
    records += composition.method_records()
    figures = write_figures(ablated_records(records, [OURS, *ABLATIONS]), OURS, DOCS / "images")
    measured = [name for name in METHODS if any(record["method"] == name for record in records)]
    write_report(records, measured, [OURS, *ABLATIONS], sheets, figures)


if __name__ == "__main__":
    main()
