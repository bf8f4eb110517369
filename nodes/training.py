"""The two stages as nodes: Train Identity LoRA and Train Motion Residual."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ..setandseq_core.clips.clip import Reference
from ..setandseq_core.concept import Concept
from ..setandseq_core.shown import shown
from .backbone import ComfyBackbone, differentiable
from .folders import training_folder
from .numbers import CheckedNode
from .panel import TrainingRecord, workflow_id
from .settings import PAPER, TrainingOptions
from .wires import CATEGORY, ConceptWire, IdentityWire, PriorWire, ReferenceWire, SettingsWire, WeightedConcept

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
            search_aliases=["train lora", "dynamic concept", "set stage", "set and sequence"],
            inputs=[
                *_wires(),
                _references(),
                *_steps_and_rate(PAPER.set_stage.steps),
                io.Int.Input(
                    "rank",
                    default=PAPER.rank,
                    min=1,
                    max=256,
                    tooltip="Capacity of the concept. A higher rank stores more detail, makes a larger file and "
                    "follows prompts less well.",
                ),
                _seed(),
                *_optional_wires(),
                _plan_only(),
            ],
            outputs=[IdentityWire.Output("identity", tooltip="The look, for Train Motion Residual.")],
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
    ) -> io.NodeOutput:
        """Train, resume, or return the finished result."""
        from ..setandseq_core.learn import learn_identity
        from .progress import TrainingProgress

        options = settings or TrainingOptions()
        stage = replace(options.config.set_stage, steps=steps, learning_rate=learning_rate)
        config = replace(options.config, rank=rank, seed=seed, set_stage=stage)
        clips = list(references.values())
        first = clips[0]
        with differentiable():
            backbone = ComfyBackbone(model, clip, vae)
            record = _record(cls.hidden, "set", first.words.static_prompt, steps)
            with TrainingProgress(backbone, record, reference=first, options=options) as progress:
                plan = progress.planned("set", config)
                if plan_only:
                    return io.NodeOutput(ExecutionBlocker(None), ui=ui.PreviewText(shown(progress.plan_words)))
                identity = learn_identity(
                    backbone,
                    clips,
                    config,
                    name="concept",
                    prior=prior,
                    savings=plan.savings[0],
                    folder=training_folder(),
                    progress=progress,
                    prior_progress=progress.making_prior,
                    trained=progress.ended,
                )
                text = progress.summary("look", identity)
        return io.NodeOutput(identity, ui=ui.PreviewText(shown(text)))


class TrainMotionResidual(CheckedNode):
    """The sequence stage."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_TrainMotionResidual",
            display_name="Train Motion Residual",
            category=CATEGORY,
            description="Second stage: keeps the look and learns the motion from the whole clip.",
            search_aliases=["train lora", "dynamic concept", "sequence stage", "set and sequence"],
            inputs=[
                *_wires(),
                IdentityWire.Input("identity", tooltip="The look, from Train Identity LoRA with the same model."),
                _references(),
                *_steps_and_rate(PAPER.sequence_stage.steps),
                _seed(),
                *_optional_wires(),
                _plan_only(),
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
        clip: CLIP,
        vae: VAE,
        identity: Concept,
        references: Mapping[str, Reference],
        steps: int,
        learning_rate: float,
        seed: int,
        settings: TrainingOptions | None = None,
        prior: "PriorSet | None" = None,
        plan_only: bool = False,
    ) -> io.NodeOutput:
        """Train, resume, or return the finished result."""
        from ..setandseq_core.learn import learn_motion
        from .progress import TrainingProgress

        options = settings or TrainingOptions()
        stage = replace(options.config.sequence_stage, steps=steps, learning_rate=learning_rate)
        config = replace(options.config, rank=identity.rank, seed=seed, sequence_stage=stage)
        clips = list(references.values())
        first = clips[0]
        with differentiable():
            backbone = ComfyBackbone(model, clip, vae)
            record = _record(cls.hidden, "sequence", first.words.motion_prompt, steps)
            with TrainingProgress(backbone, record, reference=first, options=options) as progress:
                plan = progress.planned("sequence", config)
                if plan_only:
                    return io.NodeOutput(ExecutionBlocker(None), ui=ui.PreviewText(shown(progress.plan_words)))
                concept = learn_motion(
                    backbone,
                    identity,
                    clips,
                    config,
                    prior=prior,
                    savings=plan.savings[0],
                    folder=training_folder(),
                    progress=progress,
                    prior_progress=progress.making_prior,
                    trained=progress.ended,
                )
                text = progress.summary("motion", concept)
        return io.NodeOutput(WeightedConcept(concept=concept), ui=ui.PreviewText(shown(text)))


def _record(hidden: Any, stage: str, prompt: str, steps: int) -> TrainingRecord:
    workflow = workflow_id(hidden.extra_pnginfo)
    return TrainingRecord(node=str(hidden.unique_id), workflow=workflow, stage=stage, prompt=prompt, steps=steps)


def _wires() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The video model to train, as for sampling. Training leaves it unchanged."),
        io.Clip.Input("clip", tooltip="The text encoder of this model."),
        io.Vae.Input("vae", tooltip="The VAE of this model."),
    ]


def _optional_wires() -> list[io.Input]:
    return [
        SettingsWire.Input(
            "settings",
            optional=True,
            tooltip="From Training Settings or Regularisation. The default is the paper's recipe.",
        ),
        PriorWire.Input(
            "prior",
            optional=True,
            tooltip="From Practice Clips: what the model should not forget. If nothing is connected, the node makes "
            "its own clips, or none if prior_share is 0 in the settings.",
        ),
    ]


def _references() -> io.Autogrow.Input:
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
            tooltip="Length of the training, in steps. Cancel keeps all of them.",
        ),
        io.Float.Input(
            "learning_rate",
            default=PAPER.set_stage.learning_rate,
            min=1e-7,
            max=0.1,
            step=1e-6,
            round=1e-7,
            tooltip="Size of each training step. Higher learns faster; too high, and the picture breaks up.",
        ),
    ]


def _plan_only() -> io.Boolean.Input:
    return io.Boolean.Input(
        "plan_only",
        default=False,
        optional=True,
        tooltip="Says how much memory and time the training takes, and trains nothing.",
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
