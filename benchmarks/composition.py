"""Measures how often several concepts in one video are all there, each with its own look and motion.

    python -m benchmarks.composition [--concepts bee lantern mushroom] [--ways add regions joint] [--seeds 2]

Each concept is trained alone on its own clip, and every pair and triple is also trained jointly. Every way of
`benchmarks.ways` gets the same prompts and noise, and so do the other methods of `benchmarks.methods`, whose changes
are added up. Trained concepts and every clip's figures are kept in build/composition/ under the base model's hash, so
the same command resumes where it stopped, and another base starts again. Writes the tables of docs/composition.md and
contact sheets; `benchmarks.method` takes the records over into docs/results.json.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import permutations
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.methods import BEST, METHODS, OURS, Job, as_concept
from benchmarks.scenes import CLIPS, Group, figures, prompt, reference, truth
from benchmarks.ways import ANY_NUMBER, PAIRS, STEPS, Task, add
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.video import write_video
from setandseq_core.compose.strengths import WeightedConcept
from setandseq_core.concept import Concept, Strengths
from setandseq_core.concept_file.file import load_concept, save_concept
from setandseq_core.embedded.files import TRANSFORMER_FILE, VAE_FILE
from setandseq_core.embedded.model import EMBEDDED_CONFIG, load_embedded
from setandseq_core.embedded.settings import EMBEDDED_GUIDANCE
from setandseq_core.embedded.world.scene import FPS, FRAMES, SIZE
from setandseq_core.evaluate.contact_sheet import contact_sheet
from setandseq_core.learn import learn_concept
from setandseq_core.sample import latent_noise
from setandseq_core.training.prior import automatic_prior
from tools.workflows.embedded import COMPOSE

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "composition"
PAGE = ROOT / "docs" / "composition.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"
JOINT, JOINT_PLAIN = "joint", "joint as trained"
"""Ways that use concepts trained together, with stitched clips. The first is sampled at `JOINT_MOTION`, the second like
all other ways."""
JOINT_MOTION = 1.1
"""If there are several concepts in the picture, each moves less far than alone."""
JOINT_STEPS, JOINT_STITCHED = (300, 1500), 0.6
"""Steps of the set stage and the sequence stage, and the share of stitched clips."""
STEPS_ALONE = EMBEDDED_CONFIG.set_stage.steps + EMBEDDED_CONFIG.sequence_stage.steps
OTHERS = [name for name in METHODS if name not in ("base", BEST)]
"""Methods whose changes are added up, as baselines."""
AS_METHOD = {"base": "base", **{n: n for n in OTHERS}, "regions": f"{OURS}, in regions", JOINT: f"{OURS}, jointly"}
"""The method in benchmarks.method that each of these ways stands for."""
TASKS = {2: "compose two", 3: "compose three"}
TITLES = {2: "Two concepts beside each other", 3: "Three concepts"}
Record = dict[str, Any]


SHOWN_PAIR = ("bee", "lantern")
"""Concepts in the thumbnail of the workflow."""


def measure(backbone: WanBackbone, way: str, group: Group, seed: int, folder: Path) -> Record:
    """Return the record of one clip; measure it if it was not measured before."""
    path = folder / way.replace(" ", "_") / f"{'_'.join(group)}_{seed}.json"
    if path.exists():
        return json.loads(path.read_text())
    frames_FHWC = generate(backbone, way, group, seed, folder)
    record = {"way": way, "group": list(group), "seed": seed} | figures(frames_FHWC, group)
    path.parent.mkdir(parents=True, exist_ok=True)
    if seed == 0:
        shown = (frames_FHWC * 255).round().to(torch.uint8).contiguous()
        save_file({"frames": shown}, path.with_suffix(".safetensors"))
    contact_sheet([(f"{way}: {' and '.join(group)}, {seed}", frames_FHWC)]).save(path.with_suffix(".png"))
    path.write_text(json.dumps(record) + "\n")
    return record


def generate(backbone: WanBackbone, way: str, group: Group, seed: int, folder: Path) -> Tensor:
    """The frames of one clip."""
    if way == "truth":  # the truth, after the losses of the VAE
        with torch.no_grad():
            return backbone.decode_latents(backbone.encode_frames(truth(group)))
    noise = latent_noise(backbone.latent_shape(FRAMES, SIZE, SIZE), seed)
    method = way if way in OTHERS else OURS
    if way in (JOINT, JOINT_PLAIN):
        concepts = [learned_jointly(backbone, sorted(group), folder)]
    else:
        concepts = [learned_alone(backbone, name, method, folder) for name in group if way != "base"]
    strengths = Strengths(1.0, JOINT_MOTION if way == JOINT else 1.0)
    weighted = [WeightedConcept(concept=concept, strengths=strengths) for concept in concepts]
    make = {**ANY_NUMBER, **PAIRS}.get(way, add)
    task = Task(backbone=backbone, group=group, weighted=weighted, noise=noise)
    return backbone.decode_latents(make(task))


def learned_alone(backbone: WanBackbone, name: str, method: str, folder: Path) -> Concept:
    """The concept of one clip, trained by a method or read from an earlier run."""
    path = folder / f"{name}_{method.replace(' ', '_')}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        prior = automatic_prior(backbone, [reference(name)], EMBEDDED_CONFIG, folder=folder)
        found = METHODS[method](backbone, Job(clip=CLIPS[name], prior=prior, config=EMBEDDED_CONFIG))
        save_concept(as_concept(backbone, found, CLIPS[name].words, path.stem), path)
    return load_concept(path)


def learned_jointly(backbone: WanBackbone, names: Sequence[str], folder: Path) -> Concept:
    """The concept of several clips, trained jointly or read from an earlier run."""
    path = folder / f"{'+'.join(names)}.safetensors"
    if not path.exists():
        references = [reference(name, masked=True) for name in names]
        look, motion = JOINT_STEPS
        config = replace(
            EMBEDDED_CONFIG,
            stitched_share=JOINT_STITCHED,
            set_stage=replace(EMBEDDED_CONFIG.set_stage, steps=look),
            sequence_stage=replace(EMBEDDED_CONFIG.sequence_stage, steps=motion),
        )
        prior = automatic_prior(backbone, references, config, folder=folder)
        concept = learn_concept(backbone, references, config, name=path.stem, prior=prior, folder=folder / "unfinished")
        save_concept(concept, path)
    return load_concept(path)


# --- report -------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True, frozen=True)
class Thresholds:
    """The lowest figures that count as a concept's own: half way between chance and the truth.

    Chance is the value that 95 % of the base model's clips stay below. The truth is the median of rendered clips after
    encoding and decoding by the VAE.
    """

    look: float
    motion: float


def thresholds(records: list[Record]) -> dict[str, Thresholds]:
    """The thresholds of every concept; the records must include those of the ways "base" and "truth"."""

    def values(way: str, name: str, figure: Callable[[Record, int], float]) -> list[float]:
        chosen = [r for r in records if r["way"] == way and name in r["group"]]
        return sorted(figure(r, r["group"].index(name)) for r in chosen)

    def half_way(name: str, figure: Callable[[Record, int], float]) -> float:
        chance, true = values("base", name, figure), values("truth", name, figure)
        return round((chance[math.ceil(0.95 * len(chance)) - 1] + true[len(true) // 2]) / 2, 3)

    names = sorted({name for record in records for name in record["group"]})
    return {name: Thresholds(look=half_way(name, own_look), motion=half_way(name, own_motion)) for name in names}


def own_look(record: Record, who: int) -> float:
    """Similarity between the concept's look and the sprite in its place."""
    return record["looks"][who][who]


def own_motion(record: Record, who: int) -> float:
    """Similarity between the concept's motion and that of the sprite in its place."""
    return record["motions"][who]


def verdict(record: Record, needed: Mapping[str, Thresholds]) -> dict[str, bool]:
    """Whether every place holds a sprite, all looks are right, all motions are right, and all of this together."""
    group = list(enumerate(record["group"]))
    present = record["present"] == len(group)
    look = present and all(
        own_look(record, who) >= needed[name].look and own_look(record, who) == max(record["looks"][who])
        for who, name in group
    )
    motion = present and all(own_motion(record, who) >= needed[name].motion for who, name in group)
    return {"present": present, "looks": look, "motions": motion, "success": look and motion}


def report(records: list[Record]) -> Iterator[str]:
    """The table, with one row for each way."""
    needed = thresholds(records)
    limits = [f"{name} {limit.look:g} and {limit.motion:g}" for name, limit in needed.items()]
    yield f"Thresholds of look and motion: {', '.join(limits)}."
    yield ""
    titles = "way", "clips", "all there", "all looks", "all movements", "**success** (95 %)"
    yield f"| {' | '.join([*titles, 'own look', 'looks of others', 'own motion'])} |"
    yield "|" + "---|" * 9
    ways = ("truth", *ANY_NUMBER, *PAIRS, JOINT, JOINT_PLAIN, *OTHERS)
    for way in sorted({record["way"] for record in records}, key=ways.index):
        chosen = [record for record in records if record["way"] == way]
        verdicts = [verdict(record, needed) for record in chosen]
        shares = [f"{sum(v[key] for v in verdicts) / len(verdicts):.0%}" for key in ("present", "looks", "motions")]
        low, high = wilson(sum(v["success"] for v in verdicts), len(verdicts))
        success = f"**{sum(v['success'] for v in verdicts) / len(verdicts):.0%}** ({low:.0%} to {high:.0%})"
        own = [own_look(record, who) for record in chosen for who in range(len(record["group"]))]
        others = [
            value
            for record in chosen
            for who, row in enumerate(record["looks"])
            for index, value in enumerate(row)
            if index != who
        ]
        motion = [value for record in chosen for value in record["motions"]]
        means = [f"{sum(values) / len(values):.2f}" for values in (own, others, motion)]
        yield f"| {way} | {len(chosen)} | {' | '.join([*shares, success, *means])} |"


def wilson(successes: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    z = 1.96
    middle = (successes + z * z / 2) / (count + z * z)
    reach = z / (count + z * z) * math.sqrt(successes * (count - successes) / count + z * z / 4)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def base_folder() -> Path:
    """The folder for all results with this base model, recipe and guidance."""
    recipe = json.dumps([EMBEDDED_CONFIG.as_dict(), EMBEDDED_GUIDANCE], sort_keys=True).encode()
    return FOLDER / sha256(TRANSFORMER_FILE.read_bytes() + VAE_FILE.read_bytes() + recipe).hexdigest()[:16]


def read_records() -> list[Record]:
    """Every record found, for two and for three concepts."""
    return [json.loads(path.read_text()) for path in sorted(base_folder().glob("*/*_?.json"))]


def method_records() -> list[Record]:
    """Convert the records of ways that stand for methods into records of benchmarks.method."""
    figures = ("identity", "motion", "prompt_adherence", "temporal_coherence", "mse")
    found = []
    for record in read_records():
        if record["way"] not in AS_METHOD:
            continue
        group = tuple(record["group"])
        about = {
            "method": AS_METHOD[record["way"]],
            "task": TASKS[len(group)],
            "concept": " + ".join(group),
            "prompt": prompt(group),
            "training": 0,
            "seed": record["seed"],
            "steps": {"base": 0, JOINT: sum(JOINT_STEPS)}.get(record["way"], STEPS_ALONE),
        }
        found.append(about | {figure: record[figure] for figure in figures})
    order = list(AS_METHOD.values())
    return sorted(found, key=lambda record: order.index(record["method"]))


def sheet_rows(number: int) -> list[tuple[str, Tensor]]:
    """A row that shows the truth, and one for each method with its video of the same group and noise."""
    paths = {way: sorted((base_folder() / way.replace(" ", "_")).glob("*_0.safetensors")) for way in AS_METHOD}
    first = [next((p for p in found if p.stem.count("_") == number), None) for found in paths.values()]
    group = next((tuple(p.stem.split("_")[:-1]) for p in first if p), None)
    rows = [("asked for", truth(group))] if group else []
    for method, path in zip(AS_METHOD.values(), first, strict=True):
        if path:
            rows.append((method, load_file(path)["frames"].float() / 255))
    return rows


def write_rows(backbone: WanBackbone, out: Path) -> None:
    """Write both clips of a pair, and both concepts in one video."""
    frames_FHWC = generate(backbone, "regions", SHOWN_PAIR, 0, base_folder())
    rows = [*(CLIPS[name].frames() for name in SHOWN_PAIR), frames_FHWC]
    for number, row in enumerate(rows):
        write_video(out / f"{COMPOSE} {number}.mp4", row, FPS)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.composition", description=__doc__)
    parser.add_argument("--concepts", nargs="+", choices=tuple(CLIPS), default=["bee", "lantern", "mushroom"])
    ways = (*ANY_NUMBER, *PAIRS, *OTHERS, JOINT, JOINT_PLAIN)
    parser.add_argument("--ways", nargs="+", choices=ways, default=list(ways))
    parser.add_argument("--numbers", nargs="+", type=int, choices=tuple(TITLES), default=list(TITLES))
    parser.add_argument("--seeds", type=int, default=2)
    text = "only write a pair's clips and both in one video there, as tools.pictures.thumbnails reads them"
    parser.add_argument("--rows", type=Path, metavar="FOLDER", help=text)
    parser.add_argument("--only-report", action="store_true", help="of what is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    backbone, folder = load_embedded(), base_folder()
    if arguments.rows:
        write_rows(backbone, arguments.rows)
        return
    for number in arguments.numbers:
        for way in dict.fromkeys(("truth", "base", *arguments.ways)):
            if arguments.only_report or (number > 2 and way in PAIRS):
                continue
            for group in permutations(arguments.concepts, number):
                for seed in range(1 if way == "truth" else arguments.seeds):
                    measure(backbone, way, group, seed, folder)
            print(f"{number} concepts: {way}", flush=True)
    write_page(read_records())


def write_page(records: list[Record]) -> None:
    """The tables of docs/composition.md."""
    lines = []
    for number, title in TITLES.items():
        chosen = [record for record in records if len(record["group"]) == number]
        if chosen:
            names = sorted({name for record in chosen for name in record["group"]})
            lines += [f"### {title}", "", f"{', '.join(names)}; {STEPS} sampling steps.", "", *report(chosen), ""]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n".join(lines) + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
