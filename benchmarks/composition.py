"""Ways to put two separately trained concepts into one video, side by side: how often are both there, as themselves?

    python -m benchmarks.composition [--concepts bee lantern butterfly mushroom] [--ways add regions joint] [--seeds 2]

Each concept is trained alone on a clip of its own, every pair jointly too, and every way gets the same prompts and
noise. What is trained and every clip's figures stay in build/composition/ under the base model's hash: the same command
goes on where it stopped, and another base starts anew. Writes the table of docs/composition.md and contact sheets.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import pairwise, permutations
from pathlib import Path

import torch
from torch import Tensor, nn

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.compose import Factors, WeightedConcept, layer_factors, stripes
from setandseq_core.concept import Concept, load_concept, save_concept
from setandseq_core.fitting import Clip
from setandseq_core.flow import sampling_times
from setandseq_core.learn import learn_concept
from setandseq_core.live import LiveConcepts
from setandseq_core.lora import applied_coefficients
from setandseq_core.reference import Reference, Words
from setandseq_core.sample import applied_concepts, latent_noise, sample_latents
from setandseq_core.sheet import contact_sheet
from setandseq_core.toy.concepts import CONCEPTS, ConceptClip
from setandseq_core.toy.detectors import detect
from setandseq_core.toy.metrics import Which, identity_similarity, motion_similarity
from setandseq_core.toy.model import EMBEDDED_CONFIG, TRANSFORMER_FILE, load_embedded
from setandseq_core.toy.world import (
    BACKGROUND_COLOURS,
    FRAMES,
    SIZE,
    Scene,
    background_tones,
    clip_times,
    render,
)
from setandseq_core.toy.world import Path as Motion

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "composition"
PAGE = ROOT / "docs" / "composition.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"
STEPS, GUIDANCE = 12, 4.0
BACKGROUND = "green"
RADIUS, REACH = 9.5, 0.5
"""Sprites are small and move half as far as in `CONCEPTS`, so that two of them fit beside each other."""

Pair = tuple[str, str]
"""Names of the concept on the left and the one on the right."""


# --- clips and prompts --------------------------------------------------------------------------------------------


def room_for_two(clip: ConceptClip) -> ConceptClip:
    """The concept small enough to leave room for another one."""

    def motion(times: Tensor) -> Motion:
        path = clip.motion(times)
        return replace(path, x=REACH * path.x, y=REACH * path.y)

    return replace(clip, radius=RADIUS, motion=motion)


CLIPS = {name: room_for_two(clip) for name, clip in CONCEPTS.items()}


def tokens(name: str) -> tuple[str, str]:
    """Every concept has its own."""
    number = list(CLIPS).index(name) + 1
    return f"[v{number}]", f"[u{number}]"


def reference(name: str, *, masked: bool) -> Reference:
    """The clip alone on its background, with prompts of its own, and perhaps a mask of the sprite."""
    clip, (v, u) = CLIPS[name], tokens(name)
    frames, scene = clip.frames(), clip.scene()
    empty = render(replace(scene, sprites=()))
    place = f"on a {clip.background} {clip.texture} background"
    words = Words(
        static_prompt=f"a small {v} creature {place}",
        motion_prompt=f"a small {v} creature {u} wandering {place}",
        identity_token=v,
        motion_token=u,
    )
    mask_FHW = ((frames - empty).abs().amax(-1) > 0.02).float()
    return Reference(
        clip=Clip(frames_FHWC=frames, fps=16.0, choice=name), words=words, mask_FHW=mask_FHW if masked else None
    )


def prompt(names: Sequence[str]) -> str:
    """Both, on a background that neither was trained on."""
    creatures = [f"a small {v} creature {u} wandering" for v, u in map(tokens, names)]
    return f"{' and '.join(creatures)} on a {BACKGROUND} plain background"


def truth(pair: Pair) -> Tensor:
    """What the prompt asks for, rendered."""
    sprites = [CLIPS[name].scene(clip_times(), place).sprites[0] for name, place in zip(pair, PLACES, strict=True)]
    return render(
        Scene(sprites=tuple(sprites), tones=background_tones(BACKGROUND_COLOURS[BACKGROUND]), texture="plain")
    )


PLACES = ((SIZE / 4, SIZE / 2), (3 * SIZE / 4, SIZE / 2))


# --- ways ---------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True, frozen=True)
class Task:
    """What a way is asked for."""

    backbone: WanBackbone
    pair: Pair
    concepts: list[Concept]
    noise: Tensor

    @property
    def weighted(self) -> list[WeightedConcept]:
        """The concepts as they were learned."""
        return [WeightedConcept(concept=each) for each in self.concepts]

    def sample(self, applied: AbstractContextManager[None]) -> Tensor:
        """Latents with concepts applied in some way."""
        with applied:
            return sample_latents(self.backbone, self.noise, prompt(self.pair), steps=STEPS, guidance=GUIDANCE)


def base(task: Task) -> Tensor:
    """The model alone: what comes by chance."""
    return task.sample(nullcontext())


def add(task: Task) -> Tensor:
    """The sum of all changes: stacked LoRAs."""
    return task.sample(applied_concepts(task.backbone, task.weighted))


def regions(task: Task) -> Tensor:
    """`live.LiveConcepts` in halves: each concept answers alone, with its half in the middle of the picture."""
    return task.sample(applied_concepts(task.backbone, task.weighted, stripes(len(task.concepts))))


def unmoved(task: Task) -> Tensor:
    """As `regions`, but without moving the half to the middle."""
    return _sample_in_turn(task, lambda _step: list(zip(range(2), stripes_of(task.noise), strict=True)))


def switch(task: Task) -> Tensor:
    """The concepts take turns, one a step (LoRA Switch of Zhong et al. 2024)."""
    return _sample_in_turn(task, lambda step: [(step % 2, torch.ones(()))])


def mean(task: Task) -> Tensor:
    """The mean of each concept's own guided velocity (LoRA Composite of Zhong et al. 2024)."""
    return _sample_in_turn(task, lambda _step: [(0, torch.tensor(0.5)), (1, torch.tensor(0.5))])


def rows(task: Task) -> Tensor:
    """Each concept's coefficients without what lies in the other's row space: they read from different inputs."""

    def apart(own_RI: Tensor, other_RI: Tensor) -> Tensor:
        basis_IR = torch.linalg.svd(other_RI, full_matrices=False).Vh.T
        return own_RI - own_RI @ basis_IR @ basis_IR.T

    return task.sample(_applied(task, [lambda _, own, other: apart(own, other)] * 2))


def columns(task: Task) -> Tensor:
    """Each concept's identity basis without what lies in the other's column space: they write to different outputs."""
    one, two = (_factors(concept) for concept in task.concepts)
    factors: Factors = {}
    for name in one:
        (up_OR, down_RI), (other_OR, other_RI) = one[name], two[name]
        spaces = [torch.linalg.svd(up, full_matrices=False).U for up in (up_OR, other_OR)]
        ups = [up - space @ (space.T @ up) for up, space in zip((up_OR, other_OR), spaces[::-1], strict=True)]
        factors[name] = (torch.cat(ups, dim=1), torch.cat([down_RI, other_RI]))
    return task.sample(applied_coefficients(task.backbone.module, task.backbone.layers, factors))


def fusion(task: Task) -> Tensor:
    """Gradient fusion (Gu et al. 2023, Mix-of-Show) in closed form, which keeps A_i B_i: B_i C_i (C_1 + C_2)^-1.

    C_i is what concept i's layers read while it makes its own clip, as a matrix of second moments.
    """
    moments = [_second_moments(task.backbone, concept) for concept in task.concepts]
    changes = []
    for index in range(2):

        def change(name: str, own_RI: Tensor, _other: Tensor, index: int = index) -> Tensor:
            total_II = (moments[0][name] + moments[1][name]).double()
            total_II += 1e-3 * total_II.diagonal().mean() * torch.eye(len(total_II))
            return torch.linalg.solve(total_II, (own_RI @ moments[index][name]).double().T).T.float()

        changes.append(change)
    return task.sample(_applied(task, changes))


WAYS = {way.__name__: way for way in (base, add, rows, columns, fusion, switch, mean, unmoved, regions)}
JOINT = ("joint",)
"""Trained together, with stitched clips, instead of each alone."""


def stripes_of(noise_CFHW: Tensor) -> Tensor:
    """Two halves as masks of latents, (2, 1, H, W)."""
    return torch.nn.functional.interpolate(stripes(2)[:, 0].unsqueeze(1), noise_CFHW.shape[-2:], mode="nearest")


def _factors(concept: Concept) -> Factors:
    return {name: layer_factors(layer, 1.0, 1.0) for name, layer in concept.layers.items()}


def _applied(task: Task, changes: list) -> AbstractContextManager[None]:
    """Both concepts added up, with the coefficients of each changed: (layer, own, other's) -> own."""
    one, two = (_factors(concept) for concept in task.concepts)
    factors = {}
    for name in one:
        downs = one[name][1], two[name][1]
        changed = [change(name, own, other) for change, own, other in zip(changes, downs, downs[::-1], strict=True)]
        factors[name] = (torch.cat([one[name][0], two[name][0]], dim=1), torch.cat(changed))
    return applied_coefficients(task.backbone.module, task.backbone.layers, factors)


@torch.no_grad()
def _second_moments(backbone: WanBackbone, concept: Concept) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def record(name: str, _layer: nn.Module, args: tuple) -> None:
        inputs_NI = args[0].flatten(0, -2).float()
        found[name] = found.get(name, torch.zeros(())) + inputs_NI.T @ inputs_NI / len(inputs_NI)

    with applied_concepts(backbone, [WeightedConcept(concept=concept)]):
        handles = [
            backbone.module.get_submodule(path).register_forward_pre_hook(partial(record, name))
            for name, path in backbone.layers.items()
        ]
        noise = latent_noise(backbone.latent_shape(FRAMES, SIZE, SIZE), 1000)
        sample_latents(backbone, noise, concept.motion_prompt, steps=6, guidance=1.0)
        for handle in handles:
            handle.remove()
    return found


@torch.no_grad()
def _sample_in_turn(task: Task, who: Callable[[int], Iterable[tuple[int, Tensor]]]) -> Tensor:
    """Euler steps along a weighted sum of single concepts' guided velocities; `who` gives (concept, weight) by step."""
    backbone, x_t = task.backbone, task.noise
    text_BND = torch.stack([backbone.encode_prompt(text) for text in (prompt(task.pair), "")])
    live = [LiveConcepts([each], backbone.layers) for each in task.weighted]
    times = sampling_times(STEPS, backbone.shift)
    for step, (now, after) in enumerate(pairwise(times)):
        total = torch.zeros_like(x_t)
        for index, weight in who(step):
            with live[index].running(backbone.module, backbone.shift):
                asked, negative = backbone.velocity(x_t.expand(2, *x_t.shape), now.expand(2), text_BND)
            total += weight * (negative + GUIDANCE * (asked - negative))
        x_t = x_t + (after - now) * total
    return x_t


# --- figures ------------------------------------------------------------------------------------------------------


def figures(frames_FHWC: Tensor, pair: Pair) -> dict[str, object]:
    """What the detectors read: number of sprites, each side's likeness to both looks and to its own movement."""
    sides: tuple[Which, Which] = ("left", "right")
    references = [CLIPS[name].frames() for name in pair]
    looks = [[identity_similarity(one, frames_FHWC, which=side) for one in references] for side in sides]
    motions = [motion_similarity(one, frames_FHWC, which=side) for one, side in zip(references, sides, strict=True)]
    return {
        "sprites": len(detect(frames_FHWC).sprites),
        "looks": [[round(value, 4) for value in row] for row in looks],
        "motions": [round(value, 4) for value in motions],
    }


def measure(backbone: WanBackbone, way: str, pair: Pair, seed: int, folder: Path) -> dict[str, object]:
    """The record of one clip, made or read."""
    path = folder / way / f"{'_'.join(pair)}_{seed}.json"
    if path.exists():
        return json.loads(path.read_text())
    frames_FHWC = generate(backbone, way, pair, seed, folder)
    record = {"way": way, "pair": list(pair), "seed": seed} | figures(frames_FHWC, pair)
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet([(f"{way}: {' and '.join(pair)}, {seed}", frames_FHWC)]).save(path.with_suffix(".png"))
    path.write_text(json.dumps(record) + "\n")
    return record


def generate(backbone: WanBackbone, way: str, pair: Pair, seed: int, folder: Path) -> Tensor:
    """The frames of one clip."""
    if way == "truth":  # what the VAE alone leaves of it
        with torch.no_grad():
            return backbone.decode_latents(backbone.encode_frames(truth(pair)))
    noise = latent_noise(backbone.latent_shape(FRAMES, SIZE, SIZE), seed)
    if way in JOINT:
        concepts, make = [learned(backbone, sorted(pair), folder)], add
    else:
        concepts, make = [learned(backbone, [name], folder) for name in pair] if way != "base" else [], WAYS[way]
    return backbone.decode_latents(make(Task(backbone=backbone, pair=pair, concepts=concepts, noise=noise)))


def learned(backbone: WanBackbone, names: Sequence[str], folder: Path) -> Concept:
    """The concept of one clip, or of several jointly in as many steps for each, trained or read."""
    path = folder / f"{'+'.join(names)}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        stages = {
            stage: replace(getattr(EMBEDDED_CONFIG, stage), steps=len(names) * getattr(EMBEDDED_CONFIG, stage).steps)
            for stage in ("set_stage", "sequence_stage")
        }
        references = [reference(name, masked=len(names) > 1) for name in names]
        config = replace(EMBEDDED_CONFIG, **stages)
        concept = learn_concept(backbone, references, config, name=path.stem, folder=folder / "unfinished")
        save_concept(concept, path)
    return load_concept(path)


# --- report -------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True, frozen=True)
class Thresholds:
    """From where on a figure counts as the concept's: half way from what the base reaches by chance to the truth.

    By chance: what 95 of 100 base clips stay below. The truth: the median of rendered clips that went through the VAE.
    """

    look: float
    motion: float


def thresholds(records: list[dict]) -> Thresholds:
    """Of a benchmark's records, among them those of the ways "base" and "truth"."""

    def half_way(values: Callable[[dict], list[float]]) -> float:
        chance, true = (sorted(v for r in records if r["way"] == way for v in values(r)) for way in ("base", "truth"))
        return round((chance[math.ceil(0.95 * len(chance)) - 1] + true[len(true) // 2]) / 2, 3)

    return Thresholds(look=half_way(own_looks), motion=half_way(lambda record: record["motions"]))


def own_looks(record: dict) -> list[float]:
    """Each side's likeness to the look that belongs there."""
    return [record["looks"][side][side] for side in range(2)]


def verdict(record: dict, needed: Thresholds) -> dict[str, bool]:
    """Whether two sprites are there, each with its own look and not the other's, each with its own movement."""
    present = record["sprites"] == 2
    looks = [
        own >= needed.look and own == max(row) for own, row in zip(own_looks(record), record["looks"], strict=True)
    ]
    motions = [motion >= needed.motion for motion in record["motions"]]
    look, motion = present and all(looks), present and all(motions)
    return {"two": present, "looks": look, "motions": motion, "success": look and motion}


def report(records: list[dict]) -> Iterator[str]:
    """The table, a row for each way."""
    needed = thresholds(records)
    yield f"Look from {needed.look:g}, motion from {needed.motion:g}."
    yield ""
    titles = "way", "clips", "two sprites", "both looks", "both movements", "**success** (95 %)"
    yield f"| {' | '.join([*titles, 'own look', 'look of the other', 'own motion'])} |"
    yield "|" + "---|" * 9
    for way in dict.fromkeys(record["way"] for record in records):
        chosen = [record for record in records if record["way"] == way]
        verdicts = [verdict(record, needed) for record in chosen]
        shares = [f"{sum(v[key] for v in verdicts) / len(verdicts):.0%}" for key in ("two", "looks", "motions")]
        low, high = wilson(sum(v["success"] for v in verdicts), len(verdicts))
        success = f"**{sum(v['success'] for v in verdicts) / len(verdicts):.0%}** ({low:.0%} to {high:.0%})"
        own = [value for record in chosen for value in own_looks(record)]
        other = [record["looks"][side][1 - side] for record in chosen for side in range(2)]
        motion = [value for record in chosen for value in record["motions"]]
        means = [f"{sum(values) / len(values):.2f}" for values in (own, other, motion)]
        yield f"| {way} | {len(chosen)} | {' | '.join([*shares, success, *means])} |"


def wilson(successes: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    z = 1.96
    middle = (successes + z * z / 2) / (count + z * z)
    reach = z / (count + z * z) * math.sqrt(successes * (count - successes) / count + z * z / 4)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.composition", description=__doc__)
    parser.add_argument(
        "--concepts", nargs="+", choices=tuple(CLIPS), default=["bee", "lantern", "butterfly", "mushroom"]
    )
    parser.add_argument("--ways", nargs="+", choices=(*WAYS, *JOINT), default=[*WAYS, *JOINT])
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = FOLDER / sha256(TRANSFORMER_FILE.read_bytes()).hexdigest()[:8]
    backbone, records = load_embedded(), []
    for way in dict.fromkeys(("truth", "base", *arguments.ways)):
        for pair in permutations(arguments.concepts, 2):
            for seed in range(1 if way == "truth" else arguments.seeds):
                records.append(measure(backbone, way, pair, seed, folder))
        print(way, flush=True)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    table = "\n".join([f"Concepts: {', '.join(arguments.concepts)}; {STEPS} sampling steps.", "", *report(records), ""])
    PAGE.write_text(before + BEGIN + table + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
