"""Make a concept from a clip: encode it, train both stages, and record how it was made."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from .backbone import Backbone, Savings
from .clips.clip import Reference
from .clips.encode import (
    Encoded,
    FrameSequence,
    FrameSet,
    Material,
    encode_frame_sequence,
    encode_frame_set,
    encode_prior_clips,
    encode_prior_frames,
    first_frames,
)
from .clips.pictures import pictures_in_words, seen_in_turn, unique
from .clips.prior_prompts import PriorSet
from .clips.stitch import stitched_references
from .concept import Concept, ConceptInfo
from .concept_file.thumbnail import thumbnail
from .config import MethodConfig, Values
from .errors import ConfigError
from .fingerprint import check_base
from .train import Trained, train_identity, train_motion
from .training.prior import automatic_prior
from .training.processes import ALONE, Processes
from .training.progress import ProgressCallback

LOSSES_KEPT = 100


def learn_identity(
    backbone: Backbone,
    references: Sequence[Reference],
    config: MethodConfig,
    *,
    name: str,
    prior: PriorSet | None = None,
    savings: Savings | None = None,
    folder: Path | None = None,
    progress: ProgressCallback | None = None,
    prior_progress: Callable[[int, int], None] | None = None,
    trained: Callable[[Trained], None] | None = None,
    processes: Processes = ALONE,
) -> Concept:
    """Run the set stage: learn the look of the clips, or of their pictures; the motion residual stays zero.

    Args:
        references: clips with their prompts; the first gives the concept's prompts and thumbnail.
        prior: clips from the model itself, for prior preservation. If None, they are made here, unless
            `config.prior.share` is 0, which turns prior preservation off.
        savings: ways to use less memory; see `training.plan`.
        folder: keeps unfinished work and prior clips; the same clips, prompts and settings resume from there.
        progress: called after every step. If it raises StopTraining, the concept holds what was learned so far and
            its record says `"finished": False`.
        prior_progress: see `training.prior.make_prior`.
        trained: called with the result of the stage.
        processes: the processes that learn this together; each gets the whole concept.
    Raises:
        PromptError: a prompt is empty or too long.
        ConfigError: the settings ask for learned tokens, and the model does not read them.
    """
    seen = seen_in_turn(references)
    check_places(backbone.name, config, reads_padding=backbone.reads_padding)
    _check_tokens([*seen, *references], config)
    prior = _prior(backbone, references, config, prior, folder, prior_progress, processes)
    encoded = {id(each): _frame_set(backbone, each, config) for each in unique(seen)}
    material = Material(
        clips=[encoded[id(each)] for each in seen],
        stitched=[_frame_set(backbone, each, config) for each in _stitched(unique(seen), config)],
        prior=encode_prior_frames(backbone, prior) if prior else None,
    )
    found = train_identity(
        backbone, material, config, savings=savings, folder=folder, progress=progress, processes=processes
    )
    if trained:
        trained(found)
    words = references[0].words
    look = references[0].look
    info = ConceptInfo(
        name=name,
        static_prompt=look.static_prompt,
        motion_prompt=words.motion_prompt,
        identity_token=look.identity_token,
        motion_token=words.motion_token,
        base=backbone.fingerprint(),
        base_name=backbone.name,
        config=_plain(config.as_dict()),
        training=training_record(backbone, references, config) | _stage_record("set", found, material, prior),
        thumbnail=thumbnail(references[0].clip.frames_FHWC, references[0].clip.fps),
    )
    return Concept(info=info, layers=found.layers, embeddings=found.embeddings)


def learn_motion(
    backbone: Backbone,
    identity: Concept,
    references: Sequence[Reference],
    config: MethodConfig,
    *,
    prior: PriorSet | None = None,
    savings: Savings | None = None,
    folder: Path | None = None,
    progress: ProgressCallback | None = None,
    prior_progress: Callable[[int, int], None] | None = None,
    trained: Callable[[Trained], None] | None = None,
    processes: Processes = ALONE,
) -> Concept:
    """Run the sequence stage: add the motion of the clips to the identity.

    Args:
        identity: the result of `learn_identity` or `concept_file.from_lora.identity_from_lora`.
    Raises:
        ConceptMismatchError: the identity was learned on another base model.
        PromptError: a prompt is empty or too long.
    """
    check_base(identity.info.base, backbone.fingerprint())
    prior = _prior(backbone, references, config, prior, folder, prior_progress, processes)
    material = Material(
        clips=_frame_sequences(backbone, references),
        stitched=_frame_sequences(backbone, _stitched(references, config)),
        prior=encode_prior_clips(backbone, prior) if prior else None,
    )
    found = train_motion(
        backbone,
        identity.layers,
        material,
        config,
        embeddings=identity.embeddings,
        savings=savings,
        folder=folder,
        progress=progress,
        processes=processes,
    )
    if trained:
        trained(found)
    words = references[0].words
    info = replace(
        identity.info,
        motion_prompt=words.motion_prompt,
        motion_token=words.motion_token,
        config=_settings_of_both(identity, config),
        training=identity.info.training
        | training_record(backbone, references, config)
        | _stage_record("sequence", found, material, prior),
        thumbnail=thumbnail(references[0].clip.frames_FHWC, references[0].clip.fps),
    )
    return Concept(info=info, layers=found.layers, embeddings=found.embeddings)


def _settings_of_both(identity: Concept, config: MethodConfig) -> dict[str, Any]:
    """The identity's settings plus the sequence stage's. An identity from a LoRA has few; `config` adds the rest."""
    settings = _plain(config.as_dict())
    of_identity = {"set_stage": None} | identity.info.config
    added = {name: value for name, value in settings.items() if name not in of_identity}
    return identity.info.config | added | {"sequence_stage": settings["sequence_stage"]}


def learn_concept(
    backbone: Backbone,
    references: Sequence[Reference],
    config: MethodConfig,
    *,
    name: str,
    identity: Concept | None = None,
    prior: PriorSet | None = None,
    savings: Savings | None = None,
    folder: Path | None = None,
    progress: ProgressCallback | None = None,
    prior_progress: Callable[[int, int], None] | None = None,
    trained: Callable[[Trained], None] | None = None,
    processes: Processes = ALONE,
) -> Concept:
    """Run both stages; if the first is stopped, the second is skipped. See `learn_identity` for the other arguments.

    Args:
        identity: a look learned earlier; the set stage is then skipped.
    Raises:
        ConfigError: the settings ask for learned tokens, and the model does not read them.
    """
    check_places(backbone.name, config, reads_padding=backbone.reads_padding)
    prior = _prior(backbone, references, config, prior, folder, prior_progress, processes)
    if identity is None:
        identity = learn_identity(
            backbone,
            references,
            config,
            name=name,
            prior=prior,
            savings=savings,
            folder=folder,
            progress=progress,
            trained=trained,
            processes=processes,
        )
    if not identity.info.training["finished"]:
        return identity
    return learn_motion(
        backbone,
        identity,
        references,
        config,
        prior=prior,
        savings=savings,
        folder=folder,
        progress=progress,
        trained=trained,
        processes=processes,
    )


def _prior(
    backbone: Backbone,
    references: Sequence[Reference],
    config: MethodConfig,
    given: PriorSet | None,
    folder: Path | None,
    progress: Callable[[int, int], None] | None,
    processes: Processes,
) -> PriorSet | None:
    """Prior clips to train on: the given ones, otherwise automatic ones; None without prior preservation."""
    if not config.prior.share:
        return None
    return given or automatic_prior(backbone, references, config, folder=folder, processes=processes, progress=progress)


def _frame_set(backbone: Backbone, reference: Reference, config: MethodConfig) -> FrameSet:
    frames_FHWC, words = reference.clip.frames_FHWC, reference.words
    still = config.set_stage.still_frames
    return encode_frame_set(backbone, frames_FHWC, words.static_prompt, reference.mask_FHW, still_frames=still)


def _frame_sequences(backbone: Backbone, references: Sequence[Reference]) -> list[FrameSequence]:
    """Each clip in every way that the model needs: with its first frame, without it, or both."""
    return [
        encode_frame_sequence(
            backbone,
            reference.clip.frames_FHWC,
            reference.words.motion_prompt,
            reference.mask_FHW,
            first_frame=first_frame,
        )
        for first_frame in first_frames(backbone)
        for reference in references
    ]


def _stitched(references: Sequence[Reference], config: MethodConfig) -> list[Reference]:
    return stitched_references(references) if config.stitched_share else []


def training_record(backbone: Backbone, references: Sequence[Reference], config: MethodConfig) -> Values:
    """Record of the training data as JSON values, with the base's label for LoRA managers."""
    clip = references[0].clip
    frames, height, width = clip.frames_FHWC.shape[:3]
    record: Values = {
        "resolution": f"{width}x{height}",
        "frames": frames,
        "fps": clip.fps,
        "seed": config.seed,
        "clip": clip.choice,
        "self_conditioning": "off: the base model was not trained with it",
    }
    if backbone.base_label:
        record["base_label"] = backbone.base_label
    if len(references) > 1:
        record["clips"] = [r.clip.choice for r in references]
        record["static_prompts"] = [r.words.static_prompt for r in references]
        record["motion_prompts"] = [r.words.motion_prompt for r in references]
    if any(r.pictures for r in references):
        record["pictures"] = [pictures_in_words(r) for r in references if r.pictures]
    return record


def check_places(name: str, config: MethodConfig, *, reads_padding: bool) -> None:
    """Refuse learned tokens on a model that does not read the padding of a prompt, where they are placed.

    Raises:
        ConfigError: names the model.
    """
    if config.token_learning_rate and not reads_padding:
        raise ConfigError(
            f"{name} does not read the places of a prompt in which learned tokens are put.",
            hint="Set token_learning_rate (in ComfyUI: in Regularisation) to 0; rare words then stand for the concept.",
        )


def _check_tokens(references: Sequence[Reference], config: MethodConfig) -> None:
    tokens = list(dict.fromkeys(reference.words.identity_token for reference in references))
    if config.token_learning_rate and len(tokens) > 1:
        raise ConfigError(
            f"Learned tokens stand for one concept, and the clips have several: {', '.join(tokens)}.",
            hint="Set token_learning_rate to 0; the words in the prompts then keep them apart.",
        )


def _stage_record(stage: str, trained: Trained, material: Material[Encoded], prior: PriorSet | None) -> Values:
    """Record of a stage: its date, whether it was finished, its steps, seconds and losses (pooled to at most 100), the
    validation losses before the first step and at the end, and the step whose state was taken if not the last."""
    record = trained.record
    kept = {"steps": record["steps"], "seconds": round(record["seconds"], 1), "losses": _pooled(record["losses"])}
    if 0 in trained.validation:
        kept["validation"] = [round(trained.validation[step], 5) for step in (0, max(trained.validation))]
    if trained.taken_from is not None:
        kept["taken_from"] = trained.taken_from
    found = {"date": record["date"], "finished": trained.finished, stage: kept}
    if material.stitched:
        found["stitched_pairs"] = len(material.stitched)
    if material.prior and prior:
        found["prior_clips"] = len(prior.prompts)
    return found


def _pooled(losses: list[float]) -> list[float]:
    size = -(-len(losses) // LOSSES_KEPT) or 1
    groups = [losses[i : i + size] for i in range(0, len(losses), size)]
    return [round(sum(group) / len(group), 5) for group in groups]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in cast(dict[str, object], value).items()}
    return list(cast(tuple[object, ...], value)) if isinstance(value, tuple) else value
