"""The two stages as nodes: Train Identity LoRA and Train Motion Residual, with their settings."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from comfy_api.latest import io

from ..setandseq_core.concept import Concept
from ..setandseq_core.config import MethodConfig
from ..setandseq_core.console import clock
from ..setandseq_core.reference import Reference
from .backbone import ComfyBackbone, differentiable
from .folders import training_folder
from .messages import show_text
from .wires import CATEGORY, ConceptWire, IdentityWire, ReferenceWire, SettingsWire, WeightedConcept

PAPER = MethodConfig()


@dataclass(kw_only=True, slots=True, frozen=True)
class TrainingOptions:
    """What travels on a SETSEQ_SETTINGS wire."""

    config: MethodConfig = PAPER
    gradient_checkpointing: str = "auto"
    preview_every: int = 50

    def checkpointing(self, device_type: str) -> bool:
        """Whether to save memory at the price of time; "auto" does so where memory is a GPU's."""
        return self.gradient_checkpointing == "on" or (self.gradient_checkpointing == "auto" and device_type != "cpu")


class TrainingSettings(io.ComfyNode):
    """The node of all that rarely needs to change."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs; frozen in tests/comfyui/test_server.py."""
        return io.Schema(
            node_id="SetSeq_TrainingSettings",
            display_name="Training Settings",
            category=CATEGORY,
            description="Advanced settings of both train nodes; its defaults, the paper's, are also theirs.",
            search_aliases=["dynamic concept settings", "dropout", "set and sequence"],
            inputs=[
                io.Int.Input(
                    "batch",
                    default=PAPER.set_stage.batch,
                    min=1,
                    max=64,
                    tooltip="Samples in every step. Memory and time of a step grow with it; 1 or 2 for long clips.",
                ),
                io.Float.Input(
                    "identity_dropout",
                    default=PAPER.set_stage.coefficient_dropout,
                    min=0.0,
                    max=0.99,
                    step=0.05,
                    tooltip="Share of the look's coefficients left out in every step. Higher keeps prompts obeyed, "
                    "lower keeps the look closer.",
                ),
                io.Float.Input(
                    "motion_dropout",
                    default=PAPER.sequence_stage.coefficient_dropout,
                    min=0.0,
                    max=0.99,
                    step=0.05,
                    tooltip="The same for the motion residual.",
                ),
                io.Float.Input(
                    "token_masking",
                    default=PAPER.token_masking,
                    min=0.0,
                    max=0.99,
                    step=0.05,
                    tooltip="Share of the prompt's tokens hidden in every step, so that no word carries everything.",
                ),
                io.Float.Input(
                    "weight_decay", default=PAPER.weight_decay, min=0.0, max=1.0, step=0.001, tooltip="Of AdamW."
                ),
                io.Float.Input(
                    "gradient_clipping",
                    default=PAPER.gradient_clipping,
                    min=0.001,
                    max=100.0,
                    step=0.01,
                    tooltip="Largest norm of a step's gradient.",
                ),
                io.Float.Input(
                    "time_from",
                    default=PAPER.time_range[0],
                    min=0.0,
                    max=0.999,
                    step=0.005,
                    tooltip="Least noise to train on, 0 to 1. For the high-noise expert of Wan 2.2 14B: 0.875.",
                ),
                io.Float.Input(
                    "time_to",
                    default=PAPER.time_range[1],
                    min=0.001,
                    max=1.0,
                    step=0.005,
                    tooltip="Most noise to train on, 0 to 1. For the low-noise expert of Wan 2.2 14B: 0.875.",
                ),
                io.Combo.Input(
                    "gradient_checkpointing",
                    options=["auto", "on", "off"],
                    tooltip="Saves much memory for about a third more time. auto: on with a GPU, off without.",
                ),
                io.Int.Input(
                    "preview_every",
                    default=50,
                    min=0,
                    max=10_000,
                    tooltip="Steps between two preview pictures on the train nodes; 0 makes none.",
                ),
            ],
            outputs=[SettingsWire.Output("settings", tooltip="For the settings input of the train nodes.")],
        )

    @classmethod
    def execute(
        cls,
        batch: int,
        identity_dropout: float,
        motion_dropout: float,
        token_masking: float,
        weight_decay: float,
        gradient_clipping: float,
        time_from: float,
        time_to: float,
        gradient_checkpointing: str,
        preview_every: int,
    ) -> io.NodeOutput:
        """Collect them."""
        config = replace(
            PAPER,
            token_masking=token_masking,
            weight_decay=weight_decay,
            time_range=(time_from, time_to),
            gradient_clipping=gradient_clipping,
            set_stage=replace(PAPER.set_stage, batch=batch, coefficient_dropout=identity_dropout),
            sequence_stage=replace(PAPER.sequence_stage, batch=batch, coefficient_dropout=motion_dropout),
        )
        options = {"gradient_checkpointing": gradient_checkpointing, "preview_every": preview_every}
        return io.NodeOutput(TrainingOptions(config=config, **options))


class TrainIdentityLoRA(io.ComfyNode):
    """The set stage."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs; frozen in tests/comfyui/test_server.py."""
        return io.Schema(
            node_id="SetSeq_TrainIdentityLoRA",
            display_name="Train Identity LoRA",
            category=CATEGORY,
            description="First stage: learns how it looks from the clip's single frames, without their order.",
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
                    tooltip="Size of what is learned: more holds more detail and makes a larger file.",
                ),
                _seed(),
                SettingsWire.Input("settings", optional=True, tooltip="Advanced settings; the paper's without."),
            ],
            outputs=[IdentityWire.Output("identity", tooltip="The look, for Train Motion Residual.")],
            hidden=[io.Hidden.unique_id],
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
    ) -> io.NodeOutput:
        """Train, or go on, or take what was trained before."""
        from ..setandseq_core.learn import learn_identity
        from .progress import TrainingProgress

        options = settings or TrainingOptions()
        stage = replace(options.config.set_stage, steps=steps, learning_rate=learning_rate)
        config = replace(options.config, rank=rank, seed=seed, set_stage=stage)
        first = next(iter(references.values()))
        with differentiable():
            backbone = _backbone(model, clip, vae, options)
            progress = TrainingProgress(
                backbone,
                cls.hidden.unique_id,
                prompt=first.words.static_prompt,
                latent_shape=backbone.latent_shape(1, *first.clip.frames_FHWC.shape[1:3]),
                preview_every=options.preview_every,
            )
            common = {"folder": training_folder(), "progress": progress}
            identity = learn_identity(backbone, list(references.values()), config, name="concept", **common)
        text = _summary("look", identity, "set", trained_now=progress.called)
        return io.NodeOutput(identity, ui=show_text(text, cls.hidden.unique_id))


class TrainMotionResidual(io.ComfyNode):
    """The sequence stage."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs; frozen in tests/comfyui/test_server.py."""
        return io.Schema(
            node_id="SetSeq_TrainMotionResidual",
            display_name="Train Motion Residual",
            category=CATEGORY,
            description="Second stage: keeps the look and learns how it moves from the clip in order.",
            search_aliases=["train lora", "dynamic concept", "sequence stage", "set and sequence"],
            inputs=[
                *_wires(),
                IdentityWire.Input("identity", tooltip="The look, from Train Identity LoRA with the same model."),
                _references(),
                *_steps_and_rate(PAPER.sequence_stage.steps),
                _seed(),
                SettingsWire.Input("settings", optional=True, tooltip="Advanced settings; the paper's without."),
            ],
            outputs=[ConceptWire.Output("concept", tooltip="To save it, or to use it through Compose Concepts.")],
            hidden=[io.Hidden.unique_id],
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
    ) -> io.NodeOutput:
        """Train, or go on, or take what was trained before."""
        from ..setandseq_core.learn import learn_motion
        from .progress import TrainingProgress

        options = settings or TrainingOptions()
        stage = replace(options.config.sequence_stage, steps=steps, learning_rate=learning_rate)
        config = replace(options.config, rank=identity.rank, seed=seed, sequence_stage=stage)
        first = next(iter(references.values()))
        with differentiable():
            backbone = _backbone(model, clip, vae, options)
            progress = TrainingProgress(
                backbone,
                cls.hidden.unique_id,
                prompt=first.words.motion_prompt,
                latent_shape=backbone.latent_shape(*first.clip.frames_FHWC.shape[:3]),
                preview_every=options.preview_every,
            )
            common = {"folder": training_folder(), "progress": progress}
            concept = learn_motion(backbone, identity, list(references.values()), config, **common)
        text = _summary("motion", concept, "sequence", trained_now=progress.called)
        return io.NodeOutput(WeightedConcept(concept=concept), ui=show_text(text, cls.hidden.unique_id))


def _backbone(model: ModelPatcher, clip: CLIP, vae: VAE, options: TrainingOptions) -> ComfyBackbone:
    return ComfyBackbone(model, clip, vae, checkpointing=options.checkpointing(model.load_device.type))


def _summary(what: str, concept: Concept, stage: str, *, trained_now: bool) -> str:
    record = concept.info.training[stage]
    text = f"Learned the {what} in {record['steps']} steps and {clock(record['seconds'])}, rank {concept.rank}."
    text += f" Loss {record['losses'][0]:.3f} to {record['losses'][-1]:.3f}."
    return text if trained_now else f"{text} Nothing had to be done: the same was trained before."


def _wires() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The video model that learns it, as for sampling. It is left as it was."),
        io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
        io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
    ]


def _references() -> io.Autogrow.Input:
    one = ReferenceWire.Input("reference", tooltip="A clip, from Reference Clip. Several are learned jointly.")
    return io.Autogrow.Input(
        "references",
        template=io.Autogrow.TemplatePrefix(one, prefix="reference_", min=1, max=20),
        tooltip="One clip, or several of the same thing. Connect one and another input appears.",
    )


def _steps_and_rate(steps: int) -> list[io.Input]:
    return [
        io.Int.Input("steps", default=steps, min=1, max=100_000, tooltip="Training steps. Cancel loses none of them."),
        io.Float.Input(
            "learning_rate",
            default=PAPER.set_stage.learning_rate,
            min=1e-7,
            max=0.1,
            step=1e-6,
            round=1e-7,
            tooltip="How far each step goes. Higher is faster, until it falls apart.",
        ),
    ]


def _seed() -> io.Int.Input:
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=2**32 - 1,
        control_after_generate=False,
        tooltip="The same seed gives the same result. Another one trains anew.",
    )
