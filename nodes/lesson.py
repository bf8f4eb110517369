"""Both stages of a training as functions, which the train nodes call."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE

from ..setandseq_core.clips.clip import Reference
from ..setandseq_core.concept import ONE_MODEL, Concept
from ..setandseq_core.errors import ConfigError
from .backbone import ComfyBackbone
from .families import family_of
from .folders import training_folder
from .models import model_name
from .panel import TrainingRecord, copy_id
from .settings import TrainingOptions
from .wires import WeightedConcept

if TYPE_CHECKING:
    from ..setandseq_core.clips.prior_prompts import PriorSet
    from .progress import TrainingProgress


SLIDES_FPS = 1.0
"""Pictures per second, if the panel shows pictures instead of a clip."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Lesson:
    """Everything that both stages of a training need, apart from the model."""

    clip: CLIP
    vae: VAE
    references: tuple[Reference, ...]
    options: TrainingOptions
    prior: "PriorSet | None" = None
    conditioning: Sequence[Any] | None = None
    """A CONDITIONING of the graph, for everything but its text, such as a first frame."""
    expert: str = ONE_MODEL
    """The expert that learns: one of `experts.EXPERTS`, or `ONE_MODEL`."""
    steps_before: int = 0
    """Steps of the request's earlier lessons, if it has several."""
    steps_in_all: int = 0
    """Steps of all lessons of the request; 0 if each stage is shown by itself."""

    def backbone(self, model: ModelPatcher) -> ComfyBackbone:
        """The model with its text encoder and VAE, as the core sees it.

        Raises:
            ConfigError: the settings ask for learned tokens, which would have no effect on this model, or the
                conditioning does not fit the clip.
        """
        from ..setandseq_core.learn import check_places  # brings PEFT, which takes seconds to import

        check_places(model_name(model), self.options.config, reads_padding=family_of(model).reads_padding)
        backbone = ComfyBackbone(model, self.clip, self.vae, conditioning=self.conditioning)
        if self.conditioning is not None:
            self._check_conditioning(backbone)
        return backbone

    def _check_conditioning(self, backbone: ComfyBackbone) -> None:
        if backbone.given_by_graph and len(self.references) > 1:
            raise ConfigError(
                f"The conditioning has pictures of one clip ({', '.join(backbone.given_by_graph)}), and "
                f"{len(self.references)} clips are connected.",
                hint="Train on one clip, or leave conditioning empty: each clip then gives its own first frame.",
            )
        for reference in self.references:
            length, height, width = reference.clip.frames_FHWC.shape[:3]
            backbone.check_pictures(reference.words.motion_prompt, length, height, width)


@dataclass(kw_only=True, slots=True, frozen=True, eq=False)
class LearnedLook(WeightedConcept):
    """A concept without motion, and the lesson that Train Motion Residual continues."""

    lesson: Lesson


@dataclass(kw_only=True, slots=True, frozen=True)
class Learned:
    """The result of a stage."""

    concept: Concept
    text: str
    """Describes the result; the node shows it."""


def learn_look(model: ModelPatcher, lesson: Lesson, node: Any) -> Learned:
    """Run the set stage; call it inside `differentiable`.

    Args:
        node: the hidden inputs of the node that shows the training.
    """
    from ..setandseq_core.learn import learn_identity

    config, backbone = lesson.options.config, lesson.backbone(model)
    with _progress(backbone, lesson, "set", node) as progress:
        plan = progress.planned(config, "set")
        concept = learn_identity(
            backbone,
            lesson.references,
            config,
            name="concept",
            prior=lesson.prior,
            savings=plan.savings[0],
            folder=training_folder(),
            progress=progress,
            prior_progress=progress.making_prior,
            trained=progress.ended,
        )
        return Learned(concept=concept, text=progress.summary("look", concept))


def learn_movement(model: ModelPatcher, look: Concept, lesson: Lesson, node: Any) -> Learned:
    """Run the sequence stage; see `learn_look`."""
    from ..setandseq_core.learn import learn_motion

    config, backbone = lesson.options.config, lesson.backbone(model)
    with _progress(backbone, lesson, "sequence", node) as progress:
        plan = progress.planned(config, "sequence")
        concept = learn_motion(
            backbone,
            look,
            lesson.references,
            config,
            prior=lesson.prior,
            savings=plan.savings[0],
            folder=training_folder(),
            progress=progress,
            prior_progress=progress.making_prior,
            trained=progress.ended,
        )
        return Learned(concept=concept, text=progress.summary("motion", concept))


def plan_lesson(model: ModelPatcher, lesson: Lesson, node: Any, *stages: str) -> str:
    """Describe the memory and time that these stages ("set", "sequence") need, without training. See `learn_look`."""
    with _progress(lesson.backbone(model), lesson, stages[-1], node) as progress:
        progress.planned(lesson.options.config, *stages)
        return progress.plan_words


def _progress(backbone: ComfyBackbone, lesson: Lesson, stage: str, node: Any) -> "TrainingProgress":
    from .progress import TrainingProgress

    config, node_id = lesson.options.config, str(node.unique_id)
    is_set = stage == "set"
    first = _shown(lesson.references[0]) if is_set else lesson.references[0]
    record = TrainingRecord(
        node=node_id,
        workflow=copy_id(node.extra_pnginfo, node_id),
        stage=stage,
        prompt=first.words.static_prompt if is_set else first.words.motion_prompt,
        steps=(config.set_stage if is_set else config.sequence_stage).steps,
        expert=lesson.expert,
        steps_before=_steps_before(lesson, stage),
        steps_in_all=lesson.steps_in_all,
    )
    return TrainingProgress(backbone, record, reference=first, options=lesson.options)


def _steps_before(lesson: Lesson, stage: str) -> int:
    """Steps of the request before this stage; 0 if each stage is shown by itself."""
    look = lesson.options.config.set_stage.steps
    return lesson.steps_before + look if lesson.steps_in_all and stage == "sequence" else lesson.steps_before


def _shown(reference: Reference) -> Reference:
    """The frames that the panel of the set stage shows: the pictures of the first size if there are any, else the
    clip."""
    if not reference.pictures:
        return reference
    first = reference.pictures[0]
    return replace(first, clip=replace(first.clip, fps=SLIDES_FPS))
