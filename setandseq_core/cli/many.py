"""Many trainings on the workers of Ray: one concept for each task, and a task that is lost runs again elsewhere."""

# Ray leaves the types of the functions used here open.
# pyright: reportMissingTypeStubs=false, reportMissingImports=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false

import csv
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..atomic import replaced
from ..clips.clip import Reference
from ..clips.prior_prompts import PriorSet, automatic_prompts
from ..clips.stretch import Stretch
from ..compose.apply import applied_concepts
from ..compose.strengths import WeightedConcept
from ..concept import Concept
from ..concept_file.file import save_concept
from ..embedded.evaluation import embedded_probes
from ..errors import BackboneError, SetAndSequenceError
from ..evaluate import metrics
from ..learn import learn_concept
from ..sample import latent_noise
from ..training.prior import make_prior
from .manifest import Entry
from .model import Model, load_model
from .options import ClipOptions, ModelOptions
from .references import read_reference

RETRIES = 5
"""How often a concept is begun again after its worker was lost."""
PRIOR_SEED = 0
"""The same for all concepts, whatever their own seeds are, because they share the clips."""
LOOK_SECONDS = 1.0
"""Time between two looks at the workers."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Job:
    """Everything that the workers of a manifest share."""

    out: Path
    """Folder of the concepts, their unfinished work, their prior clips and the table."""
    clip: ClipOptions
    model: ModelOptions


@dataclass(kw_only=True, slots=True, frozen=True)
class Row:
    """A concept's row in the table."""

    name: str
    state: str = "waiting"
    """"waiting", "done" or "failed"."""
    seconds: float | None = None
    look_loss: float | None = None
    """Of the last steps of the set stage."""
    motion_loss: float | None = None
    identity: float | None = None
    """Metrics of a clip that is sampled with the concept and its motion prompt; None where no model measures them."""
    adherence: float | None = None
    message: str = ""
    """Why it failed, and what to do next."""


def finished_row(entry: Entry, job: Job) -> Row | None:
    """The row of a concept that was finished before; None for any other."""
    path = _record(entry, job)
    if not path.exists() or not _concept(entry, job).exists():
        return None
    return Row(**json.loads(path.read_text(encoding="utf-8")))


def train_all(
    entries: Sequence[Entry], job: Job, *, address: str | None, workers: int, tell: Callable[[Sequence[Row]], None]
) -> list[Row]:
    """Train what is not finished yet.

    Args:
        address: of a Ray cluster; None starts Ray on this machine for as long as it takes.
        workers: processes on this machine, each with a card of its own where the model runs on one.
        tell: called with all rows at the start and whenever one changes.
    Raises:
        BackboneError: Ray is missing.
    """
    rows = {entry.name: finished_row(entry, job) or Row(name=entry.name) for entry in entries}
    tell([*rows.values()])
    left = [entry for entry in entries if rows[entry.name].state == "waiting"]
    if not left:
        return [*rows.values()]
    ray = _started_ray(address, workers)
    cards = 1 if job.model.device == "cuda" else 0
    try:
        remote = ray.remote(num_cpus=1, num_gpus=cards, max_retries=RETRIES)
        ray.get(remote(make_priors).remote(left, job))
        running = {remote(train_one).remote(entry, job): entry for entry in left}
        while running:
            ended, _ = ray.wait([*running], timeout=LOOK_SECONDS)
            for task in ended:
                entry = running.pop(task)
                rows[entry.name] = _result(ray, task, entry)
                tell([*rows.values()])
    finally:
        ray.shutdown()
    return [*rows.values()]


def _started_ray(address: str | None, workers: int) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no network
    try:
        import ray
    except ImportError as error:
        raise BackboneError(
            "Training many concepts needs the package 'ray'.",
            hint="Install it with: python -m pip install ray",
        ) from error
    checkout = str(Path(__file__).parents[2])
    ray.init(
        address=address,
        num_cpus=None if address else workers,
        include_dashboard=None if address else False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": checkout}},
    )
    return ray


def _result(ray: Any, task: Any, entry: Entry) -> Row:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:300]
        return Row(name=entry.name, state="failed", message=f"Its worker was lost {RETRIES + 1} times: {reason}")


# --- in the workers -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _model(options: ModelOptions) -> Model:
    """A worker loads the model once for all its concepts."""
    return load_model(options)


def make_priors(entries: Sequence[Entry], job: Job) -> None:
    """Make the prior clips once for each size of clip, before the trainings that share them."""
    for entry in entries:
        try:
            _prior(entry, _reference(entry, job), job)
        except SetAndSequenceError:
            continue  # told in the entry's own training


def train_one(entry: Entry, job: Job) -> Row:
    """Train a concept, from where a lost worker left it, and measure it."""
    before = finished_row(entry, job)
    if before is not None:  # the worker was lost after its last word was written
        return before
    begun = time.monotonic()
    try:
        concept, reference = _trained(entry, job)
        figures = _measured(concept, reference, job)
    except SetAndSequenceError as error:
        return Row(name=entry.name, state="failed", message=str(error))
    record = concept.info.training
    row = Row(
        name=entry.name,
        state="done",
        seconds=round(time.monotonic() - begun, 1),
        look_loss=_last(record, "set"),
        motion_loss=_last(record, "sequence"),
        identity=figures.identity.value,
        adherence=figures.prompt_adherence.value,
    )
    with replaced(_record(entry, job)) as partial:
        partial.write_text(json.dumps(asdict(row)), encoding="utf-8")
    return row


def _trained(entry: Entry, job: Job) -> tuple[Concept, Reference]:
    reference = _reference(entry, job)
    path = _concept(entry, job)
    concept = learn_concept(
        _model(job.model).backbone,
        [reference],
        entry.config,
        name=entry.name,
        prior=_prior(entry, reference, job),
        folder=path.with_name(f"{path.name}.training"),
    )
    save_concept(concept, path)
    return concept, reference


def _reference(entry: Entry, job: Job) -> Reference:
    return read_reference(entry.clip, None, entry.words, Stretch(), job.clip, _model(job.model))


def _prior(entry: Entry, reference: Reference, job: Job) -> PriorSet | None:
    """Prior clips that all concepts of one size share."""
    if not entry.config.prior.share:
        return None
    backbone = _model(job.model).backbone
    frames, height, width = reference.clip.frames_FHWC.shape[:3]
    prompts = automatic_prompts(backbone, [], entry.config.prior.clips, PRIOR_SEED)
    return make_prior(backbone, prompts, (frames, height, width), seed=PRIOR_SEED, folder=job.out / "prior")


def _measured(concept: Concept, reference: Reference, job: Job) -> metrics.Evaluation:
    """The metrics of a clip made with the concept and its own motion prompt."""
    backbone = _model(job.model).backbone
    frames_FHWC, words = reference.clip.frames_FHWC, reference.words
    frames, height, width = frames_FHWC.shape[:3]
    noise_CFHW = latent_noise(backbone.latent_shape(frames, height, width), 0).to(backbone.device)
    with applied_concepts(backbone, [WeightedConcept(concept=concept)]) as applied:
        latents_CFHW = applied.sample(noise_CFHW, concept.motion_prompt)
    made_FHWC = backbone.decode_latents(latents_CFHW)
    tokens = (words.identity_token, words.motion_token)
    prompt = metrics.without_tokens(concept.motion_prompt, tokens)
    return metrics.evaluate(
        frames_FHWC,
        made_FHWC,
        concept.motion_prompt,
        tokens=tokens,
        probes=embedded_probes(prompt, frames_FHWC, made_FHWC),
    )


def _last(record: dict[str, Any], stage: str) -> float | None:
    return record[stage]["losses"][-1] if record.get(stage, {}).get("losses") else None


def _concept(entry: Entry, job: Job) -> Path:
    return job.out / f"{entry.name}.safetensors"


def _record(entry: Entry, job: Job) -> Path:
    return job.out / f"{entry.name}.result.json"


# --- the table ------------------------------------------------------------------------------------------------------


def write_table(rows: Sequence[Row], folder: Path) -> None:
    """Write results.csv and results.md."""
    names = [field.name for field in fields(Row)]
    with replaced(folder / "results.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([_shown(getattr(row, name)) for name in names] for row in rows)
    with replaced(folder / "results.md") as partial:
        partial.write_text(table(rows), encoding="utf-8")


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    names = [field.name for field in fields(Row)]
    cells = [[_shown(getattr(row, name)).replace("|", "\\|") for name in names] for row in rows]
    lines = [[name.replace("_", " ") for name in names], ["---"] * len(names), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _shown(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
