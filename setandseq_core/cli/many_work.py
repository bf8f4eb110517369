"""The work of a `train-many` worker: encode prompts, make prior clips, and train and measure concepts.

Everything is kept in the folder of the results, so that any worker can continue the work of a lost one.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from ..atomic import replaced
from ..backbones.kept_text import KeptText
from ..clips.clip import Reference
from ..clips.prior_prompts import PriorSet, automatic_prompts
from ..clips.stretch import Stretch
from ..compose.apply import applied_concepts
from ..compose.strengths import WeightedConcept
from ..concept import Concept
from ..concept_file.file import save_concept
from ..config import SamplingConfig
from ..embedded.evaluation import embedded_probes
from ..errors import SetAndSequenceError
from ..evaluate import metrics
from ..evaluate.embedders import FolderEmbedder, load_embedder
from ..fingerprint import content_key
from ..learn import learn_concept
from ..sample import latent_noise, sample_latents, sampled_as
from ..training.memory import is_out_of_memory, shortage
from ..training.plan import plan_training
from ..training.prior import make_prior
from .manifest import Entry
from .many_results import DONE, FAILED, Result
from .model import Model, device_named, load_model, text_encoder_of
from .options import ClipOptions, ModelOptions
from .references import read_reference

PRIOR_SEED = 0
"""Seed of the prior clips, the same for all concepts whatever their own seeds, because they share the clips."""

CHUNK = 2**20
"""Bytes of a file that are read at once."""

Size = tuple[int, int, int]
"""Frames, height and width in pixels."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Judges:
    """Folders of models that measure clips made with a concept; None skips the figures that need the model."""

    clip: Path | None
    image_model: Path | None


@dataclass(kw_only=True, slots=True, frozen=True)
class Job:
    """Everything that the workers of a manifest share."""

    out: Path
    """Folder of the concepts, their unfinished work, the prior clips and the table."""
    clip: ClipOptions
    model: ModelOptions
    judges: Judges

    @property
    def text(self) -> Path:
        """Folder of the encoded prompts."""
        return self.out / "text"


@dataclass(kw_only=True, slots=True, frozen=True)
class PriorKind:
    """Size, number and sampling of prior clips that several concepts share."""

    size: Size
    count: int
    sampling: SamplingConfig


# --- before the trainings -------------------------------------------------------------------------------------------


def make_text(prompts: Iterable[str], job: Job) -> None:
    """Encode prompts once for all workers, so that they need no text encoder.

    Raises:
        BackboneError: the text encoder cannot be loaded.
        PromptError: a prompt is too long for the text encoder.
    """
    encode = KeptText(job.text, *text_encoder_of(job.model))
    for prompt in prompts:
        encode(prompt)


def prior_kind(entry: Entry, job: Job) -> PriorKind | None:
    """The prior clips that a concept needs; None if it needs none or its clip cannot be used."""
    try:
        reference = _reference(entry, job)
    except SetAndSequenceError:
        return None  # its own training reports this error
    return _kind(entry, reference)


def make_prior_clip(kind: PriorKind, number: int, job: Job) -> None:
    """Make one of the prior clips that concepts share."""
    backbone = _model(job).backbone
    prompt = automatic_prompts(backbone, [], kind.count, PRIOR_SEED)[number]
    seed = PRIOR_SEED + number
    make_prior(backbone, [prompt], kind.size, seed=seed, sampling=kind.sampling, folder=_prior_folder(job))


def _kind(entry: Entry, reference: Reference) -> PriorKind | None:
    prior = entry.config.prior
    if not prior.share:
        return None
    frames, height, width = reference.clip.frames_FHWC.shape[:3]
    return PriorKind(size=(frames, height, width), count=prior.clips, sampling=entry.config.sampling)


# --- a concept ------------------------------------------------------------------------------------------------------


def train_one(entry: Entry, job: Job) -> Result:
    """Train a concept, resuming the work of a lost worker, and measure it. Errors become part of the result."""
    before = finished(entry, job)
    if before is not None:  # the worker was lost after it had written its result
        return before
    try:
        concept, reference = _trained(entry, job)
        figures = _measured(entry, concept, reference, job)
        result = _result(entry, concept, figures)
        keep_result(result, entry, job)
    except (SetAndSequenceError, OSError) as error:
        return Result(name=entry.name, state=FAILED, message=str(error))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        message = f"There is not enough memory. {shortage(error)} Give a smaller --frames or --size."
        return Result(name=entry.name, state=FAILED, message=message)
    return result


def finished(entry: Entry, job: Job) -> Result | None:
    """The earlier result of a concept with the same clip, prompts, settings and model; None if it is not finished."""
    path = _record(entry, job)
    if not path.exists() or not concept_path(entry, job).exists():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    return Result(**record["result"]) if record["key"] == _key(entry, job) else None


def concept_path(entry: Entry, job: Job) -> Path:
    return job.out / f"{entry.name}.safetensors"


def training_folder(entry: Entry, job: Job) -> Path:
    """Folder of a concept's unfinished work; it exists as soon as the training has begun."""
    return job.out / f"{entry.name}.safetensors.training"


def _trained(entry: Entry, job: Job) -> tuple[Concept, Reference]:
    folder = training_folder(entry, job)
    folder.mkdir(parents=True, exist_ok=True)
    backbone = _model(job).backbone
    reference = _reference(entry, job)
    frames, height, width = reference.clip.frames_FHWC.shape[:3]
    text = backbone.encode_prompt(entry.words.motion_prompt)
    plan = plan_training(backbone, (frames, height, width), entry.config, text=text)
    concept = learn_concept(
        backbone,
        [reference],
        entry.config,
        name=entry.name,
        prior=_prior(entry, reference, job),
        savings=plan.strongest,
        folder=folder,
    )
    save_concept(concept, concept_path(entry, job))
    return concept, reference


def _prior(entry: Entry, reference: Reference, job: Job) -> PriorSet | None:
    kind = _kind(entry, reference)
    if kind is None:
        return None
    backbone = _model(job).backbone
    prompts = automatic_prompts(backbone, [], kind.count, PRIOR_SEED)
    folder = _prior_folder(job)
    return make_prior(backbone, prompts, kind.size, seed=PRIOR_SEED, sampling=kind.sampling, folder=folder)


def _measured(entry: Entry, concept: Concept, reference: Reference, job: Job) -> metrics.Evaluation:
    """Metrics of a clip made with the concept and its own motion prompt."""
    frames_FHWC = reference.clip.frames_FHWC
    made_FHWC = _made(entry, concept, frames_FHWC.shape, job)
    tokens = (entry.words.identity_token, entry.words.motion_token)
    prompt = metrics.without_tokens(concept.motion_prompt, tokens)
    device = _model(job).backbone.device.type
    return metrics.evaluate(
        frames_FHWC,
        made_FHWC,
        concept.motion_prompt,
        tokens=tokens,
        image_model=_judge(job.judges.image_model, device),
        text_model=_judge(job.judges.clip, device, reads_text=True),
        probes=embedded_probes(prompt, frames_FHWC, made_FHWC),
    )


def _made(entry: Entry, concept: Concept, size: tuple[int, ...], job: Job) -> Any:
    """Frames (F, H, W, 3) of a clip made with the concept, in the length and size of the clip it was learned from."""
    backbone = _model(job).backbone
    frames, height, width = size[:3]
    sampling = sampled_as(backbone, entry.config.sampling)
    noise_CFHW = latent_noise(backbone.latent_shape(frames, height, width), 0).to(backbone.device)
    with applied_concepts(backbone, [WeightedConcept(concept=concept)]) as applied:
        latents_CFHW = sample_latents(
            backbone,
            noise_CFHW,
            concept.motion_prompt,
            embeddings=applied.embeddings,
            steps=sampling.steps,
            guidance=sampling.guidance,
            sampler=sampling.sampler,
        )
    return backbone.decode_latents(latents_CFHW)


def _result(entry: Entry, concept: Concept, figures: metrics.Evaluation) -> Result:
    record = concept.info.training
    stages = [record[stage] for stage in ("set", "sequence") if stage in record]
    return Result(
        name=entry.name,
        state=DONE,
        seconds=round(sum(stage["seconds"] for stage in stages), 1),
        look_loss=_last_loss(record, "set"),
        motion_loss=_last_loss(record, "sequence"),
        identity=figures.identity.value,
        adherence=figures.prompt_adherence.value,
    )


def _last_loss(record: dict[str, Any], stage: str) -> float | None:
    losses = record.get(stage, {}).get("losses")
    return losses[-1] if losses else None


def keep_result(result: Result, entry: Entry, job: Job) -> None:
    """Record that a concept is finished."""
    with replaced(_record(entry, job)) as unfinished:
        record = {"key": _key(entry, job), "result": asdict(result)}
        unfinished.write_text(json.dumps(record), encoding="utf-8")


def _key(entry: Entry, job: Job) -> str:
    """A hash of everything that distinguishes a concept from another one of the same name."""
    clip = _file_key(entry.clip, entry.clip.stat().st_mtime_ns)
    return content_key(clip, asdict(entry.words), entry.config.as_dict(), asdict(job.clip), job.model.model)


@cache
def _file_key(path: Path, _written: int) -> str:
    """A hash of a file's bytes, computed again only if the file was written again."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _record(entry: Entry, job: Job) -> Path:
    return job.out / f"{entry.name}.result.json"


def _prior_folder(job: Job) -> Path:
    return job.out / "prior"


def _reference(entry: Entry, job: Job) -> Reference:
    return read_reference(entry.clip, None, entry.words, Stretch(), job.clip, _model(job))


@lru_cache(maxsize=1)
def _model(job: Job) -> Model:
    """The model, which a worker loads once for all its concepts."""
    return load_model(job.model, kept_text=job.text)


@lru_cache
def _judge(folder: Path | None, device: str, reads_text: bool = False) -> FolderEmbedder | None:
    return load_embedder(folder, device=device_named(device), reads_text=reads_text) if folder else None
