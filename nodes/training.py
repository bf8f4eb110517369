"""The two stages as nodes: Train Identity LoRA and Train Motion Residual."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ..setandseq_core.clips.clip import Reference
from ..setandseq_core.config import STANDARD
from ..setandseq_core.errors import ConfigError, shown
from .backbone import differentiable
from .lesson import LearnedLook, Lesson, learn_look, learn_movement, plan_lesson
from .numbers import CheckedNode
from .settings import TrainingOptions
from .wires import CATEGORY, ConceptWire, PriorWire, ReferenceWire, SettingsWire, WeightedConcept, encoder_inputs

if TYPE_CHECKING:
    from ..setandseq_core.clips.prior_prompts import PriorSet


class TrainIdentityLoRA(CheckedNode):
    """The set stage."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_TrainIdentityLoRA",
            display_name="Train Identity LoRA",
            category=CATEGORY,
            description="First stage: learns the look from single frames of the clip, without their order.",
            search_aliases=[
                "learn video",
                "train video lora",
                "character",
                "train lora",
                "dynamic concept",
                "set stage",
                "set and sequence",
            ],
            inputs=[
                *_wires(),
                references_input(),
                *_steps_and_rate(STANDARD.set_stage.steps),
                io.Int.Input(
                    "rank",
                    default=STANDARD.rank,
                    min=1,
                    max=256,
                    tooltip="Capacity of the concept. A higher rank stores more detail, makes a larger file and "
                    "follows prompts less well.",
                ),
                _seed(),
                *_optional_wires(),
                plan_only_input(),
                conditioning_input(),
            ],
            outputs=[
                ConceptWire.Output(
                    "identity",
                    display_name="look",
                    tooltip="The look, for Train Motion Residual, or for any input that takes a concept.",
                )
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        clip: CLIP,
        vae: VAE,
        references: Mapping[str, Reference],
        steps: int,
        learning_rate: float,
        rank: int,
        seed: int,
        settings: TrainingOptions | None = None,
        prior: "PriorSet | None" = None,
        plan_only: bool = False,
        conditioning: Sequence[Any] | None = None,
    ) -> io.NodeOutput:
        """Train, resume, or return the finished result."""
        options = settings or TrainingOptions()
        steps = options.steps("set", steps)
        stage = replace(options.config.set_stage, steps=steps, learning_rate=learning_rate)
        config = replace(options.config, rank=rank, seed=seed, set_stage=stage)
        lesson = Lesson(
            clip=clip,
            vae=vae,
            references=tuple(references.values()),
            options=replace(options, config=config),
            prior=prior,
            conditioning=conditioning,
        )
        with differentiable():
            if plan_only:
                return planned(plan_lesson(model, lesson, cls.hidden, "set"), outputs=1)
            learned = learn_look(model, lesson, cls.hidden)
        look = LearnedLook(concept=learned.concept, lesson=lesson)
        return io.NodeOutput(look, ui=ui.PreviewText(shown(learned.text)))


class TrainMotionResidual(CheckedNode):
    """The sequence stage."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_TrainMotionResidual",
            display_name="Train Motion Residual",
            category=CATEGORY,
            description="Second stage: keeps the look and learns the motion from the whole clip.",
            search_aliases=[
                "learn video",
                "train video lora",
                "motion",
                "train lora",
                "dynamic concept",
                "sequence stage",
                "set and sequence",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model that the look was learned on."),
                ConceptWire.Input(
                    "identity",
                    display_name="look",
                    tooltip="From Train Identity LoRA or Identity from LoRA. The clips, their prompts, the settings "
                    "and the conditioning come with it.",
                ),
                *_steps_and_rate(STANDARD.sequence_stage.steps),
                _seed(),
                plan_only_input(),
            ],
            outputs=[
                ConceptWire.Output(
                    "concept", tooltip="For Save Dynamic Concept, or for Compose Concepts to use it right away."
                )
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        identity: WeightedConcept,
        steps: int,
        learning_rate: float,
        seed: int,
        plan_only: bool = False,
    ) -> io.NodeOutput:
        """Train, resume, or return the finished result."""
        if not isinstance(identity, LearnedLook):
            raise ConfigError(
                f"The identity '{identity.concept.info.name}' does not come from Train Identity LoRA or Identity from "
                "LoRA in this workflow, so the clip and the settings of its training are missing.",
                hint="Connect Train Identity LoRA: what it trained before is not trained again.",
            )
        options = identity.lesson.options
        steps = options.steps("sequence", steps)
        stage = replace(options.config.sequence_stage, steps=steps, learning_rate=learning_rate)
        config = replace(options.config, seed=seed, sequence_stage=stage)
        lesson = replace(identity.lesson, options=replace(options, config=config))
        with differentiable():
            if plan_only:
                return planned(plan_lesson(model, lesson, cls.hidden, "sequence"), outputs=1)
            learned = learn_movement(model, identity.concept, lesson, cls.hidden)
        return io.NodeOutput(WeightedConcept(concept=learned.concept), ui=ui.PreviewText(shown(learned.text)))


def planned(plan: str, *, outputs: int) -> io.NodeOutput:
    """The result of a node that only plans: the plan as text, and outputs that stop all nodes after it from running."""
    blocked = (ExecutionBlocker(None) for _ in range(outputs))
    return io.NodeOutput(*blocked, ui=ui.PreviewText(shown(plan)))


def _wires() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The video model to train, as for sampling. Training leaves it unchanged."),
        *encoder_inputs(),
    ]


def _optional_wires() -> list[io.Input]:
    return [
        SettingsWire.Input(
            "settings",
            optional=True,
            tooltip="From Training Settings or Regularisation. If empty, the preset standard is used.",
        ),
        PriorWire.Input(
            "prior",
            optional=True,
            tooltip="From Practice Clips: clips that show what the model should not forget. If nothing is connected, "
            "the node makes its own clips, or none if prior_share is 0 in the settings.",
        ),
    ]


def references_input() -> io.Autogrow.Input:
    """The input for clips on every node that begins a training."""
    one = ReferenceWire.Input("reference", tooltip="A clip, from Reference Clip.")
    return io.Autogrow.Input(
        "references",
        template=io.Autogrow.TemplatePrefix(one, prefix="reference_", min=1, max=20),
        tooltip="One clip, or several: of the same subject, or of different subjects that each have their own tokens "
        "and share one concept. A new input appears when you connect one.",
    )


def _steps_and_rate(steps: int) -> list[io.Input]:
    return [
        io.Int.Input(
            "steps",
            default=steps,
            min=1,
            max=100_000,
            tooltip="Length of the training in steps. After Cancel, running again resumes the training.",
        ),
        io.Float.Input(
            "learning_rate",
            default=STANDARD.set_stage.learning_rate,
            min=1e-7,
            max=0.1,
            step=1e-6,
            round=1e-7,
            tooltip="Size of each training step. A higher rate learns faster, but if it is too high, the picture "
            "breaks up.",
        ),
    ]


def plan_only_input() -> io.Boolean.Input:
    """The switch that makes a train node plan instead of training."""
    return io.Boolean.Input(
        "plan_only",
        default=False,
        optional=True,
        advanced=True,
        tooltip="Shows how much memory and time the training needs, without training.",
    )


def conditioning_input() -> io.Conditioning.Input:
    """The wire of a train node for everything but the text of an artist's graph."""
    return io.Conditioning.Input(
        "conditioning",
        optional=True,
        advanced=True,
        tooltip="For image to video: the positive conditioning of your graph, such as that of WanImageToVideo. The "
        "model is given its pictures while it learns the motion; its text is not used. If empty, a model that needs a "
        "first frame is given that of the clip.",
    )


def _seed() -> io.Int.Input:
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=2**32 - 1,
        control_after_generate=False,
        tooltip="The same seed gives the same result. A different seed trains again from the start.",
    )
