"""Does the method keep a clip's look and motion and still follow prompts, better than others from as many samples?

    python -m benchmarks.method [--seeds 3] [--trainings 1] [--processes 2] [--concepts bee ...] [--ablations]

Every method of `benchmarks.methods` learns every clip of `setandseq_core.toy.concepts`, none of which can be said in
the embedded world's grammar, and makes the same prompts from the same noise. What is done stays in build/method/
under the base model's hash: the same command goes on where it stopped. Writes docs/results.json (a record for every
clip), the tables of docs/results.md and a contact sheet for each task, with what benchmarks.composition has measured.
"""

import argparse
import json
import multiprocessing
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks import composition
from benchmarks.figures import write_figures
from benchmarks.methods import ABLATIONS, METHODS, OURS, WORDS, Job, Learned, as_concept
from benchmarks.tables import DOCS, TASKS, write_report
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.compose import WeightedConcept
from setandseq_core.concept import scaled_embeddings
from setandseq_core.prior import PriorSet, automatic_prompts, make_prior
from setandseq_core.sample import applied_concepts, applied_layers, latent_noise, sample_latents
from setandseq_core.toy.concepts import CONCEPTS, DEMO, ConceptClip, with_tokens
from setandseq_core.toy.metrics import clip_figures
from setandseq_core.toy.model import EMBEDDED_CONFIG, TRANSFORMER_FILE, VAE_FILE, load_embedded
from setandseq_core.toy.world import FRAMES, SIZE, Caption, SpriteWords

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "method"
SAMPLING_STEPS = 14
SECOND = (
    SpriteWords(size="small", colour="red", shape="star", motion="bouncing"),
    SpriteWords(size="small", colour="cyan", shape="square", motion="standing still"),
)
PLACES = (("brown", "checkered"), ("pink", "striped"), ("green", "plain"))


@dataclass(kw_only=True, slots=True, frozen=True)
class Shot:
    """One prompt that every method gets."""

    task: str
    caption: Caption
    motion_strength: float = 1.0
    """For methods without one, the strength of all they learned."""


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


def prior_of(backbone: WanBackbone, clip: ConceptClip, folder: Path) -> PriorSet:
    """The prior clips that training with this clip makes automatically."""
    words = replace(WORDS, static_prompt=clip.static_prompt, motion_prompt=clip.motion_prompt)
    prompts = automatic_prompts(backbone.fingerprint(), [words], EMBEDDED_CONFIG.prior.clips)
    return make_prior(backbone, prompts, (FRAMES, SIZE, SIZE), folder=folder)


def measure(name: str, method: str, training: int, seeds: int, folder: Path) -> str:
    """Learn one concept by one method and write a record for every clip made with it, unless that is there already."""
    path = folder / f"{name}_{method.replace(' ', '_')}_{training}.json"
    if path.exists():
        return f"{name}, {method}, training {training}: was there"
    torch.set_num_threads(1)
    backbone, clip = load_embedded(), CONCEPTS[name]
    config = replace(EMBEDDED_CONFIG, seed=training)
    learned = {**METHODS, **ABLATIONS}[method](
        backbone, Job(clip=clip, prior=prior_of(backbone, clip, folder), config=config)
    )
    records, shown = [], {}
    for number, shot in enumerate(shots(clip)):
        for seed in range(seeds):
            frames = generate(backbone, learned, shot, seed)
            figures = {
                key: round(value, 4) for key, value in asdict(clip_figures(clip.frames(), frames, shot.caption)).items()
            }
            figures["prompt_adherence"] = figures.pop("adherence")
            figures["temporal_coherence"] = figures.pop("coherence")
            about = {"method": method, "task": shot.task, "concept": name, "prompt": with_tokens(str(shot.caption))}
            records.append({**about, "training": training, "seed": seed, "steps": len(learned.losses), **figures})
            if seed == 0:
                shown[str(number)] = (frames * 255).round().to(torch.uint8).contiguous()
    save_file(shown, path.with_suffix(".safetensors"))
    path.write_text(json.dumps(records))
    return f"{name}, {method}, training {training}: {len(records)} clips"


def sheet_rows(folder: Path, methods: list[str], name: str, task: str) -> list[tuple[str, Tensor]]:
    """The clip, and what each method made of the task's first prompt from the first noise."""
    number = next(index for index, shot in enumerate(shots(CONCEPTS[name])) if shot.task == task)
    rows = [("the clip", CONCEPTS[name].frames())]
    for method in methods:
        path = folder / f"{name}_{method.replace(' ', '_')}_0.safetensors"
        if path.exists():
            rows.append((method, load_file(path)[str(number)].float() / 255))
    return rows


def base_folder() -> Path:
    """Where what is done with this base model and recipe stays."""
    weights = TRANSFORMER_FILE.read_bytes() + VAE_FILE.read_bytes()
    recipe = json.dumps(EMBEDDED_CONFIG.as_dict(), sort_keys=True).encode()
    return FOLDER / sha256(weights + recipe).hexdigest()[:16]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.method", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="noises that each prompt is made from")
    parser.add_argument("--trainings", type=int, default=1, help="seeds that each method is trained with")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--concepts", nargs="+", choices=tuple(CONCEPTS), default=list(CONCEPTS))
    parser.add_argument("--methods", nargs="+", choices=(*METHODS, *ABLATIONS), default=list(METHODS))
    parser.add_argument(
        "--ablations", action="store_true", help="the recipe with one thing changed each, instead of methods"
    )
    parser.add_argument("--only-report", action="store_true", help="of what is there")
    options = parser.parse_args()
    folder = base_folder()
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        (name, method, training, options.seeds, folder)
        for training in range(options.trainings)
        for name in options.concepts
        for method in (ABLATIONS if options.ablations else options.methods)
    ]
    if not options.only_report:
        backbone = load_embedded()
        for name in options.concepts:  # here, because two processes would make the same
            prior_of(backbone, CONCEPTS[name], folder)
        with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
            for result in [pool.apply_async(measure, job) for job in jobs]:
                print(result.get(), flush=True)
    records: list[dict[str, Any]] = [
        record for path in sorted(folder.glob("*_?.json")) for record in json.loads(path.read_text())
    ]
    sheets = {task: sheet_rows(folder, list(METHODS), DEMO, task) for task in TASKS}
    sheets |= {task: rows for number, task in composition.TASKS.items() if (rows := composition.sheet_rows(number))}
    records += composition.method_records()
    figures = write_figures(records, OURS, DOCS / "images")
    write_report(records, list(METHODS), [OURS, *ABLATIONS], sheets, figures)


if __name__ == "__main__":
    main()
