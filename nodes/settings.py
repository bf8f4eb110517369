"""Training Settings, Regularisation and Sampling Settings: the nodes for settings that rarely need to change."""

from dataclasses import dataclass, replace

from comfy_api.latest import io

from ..setandseq_core.backbone import Savings
from ..setandseq_core.config import PAPER, PRESETS, SAMPLERS, STANDARD, MethodConfig, PriorConfig, SamplingConfig
from ..setandseq_core.training.savings import EVERY_BLOCK
from .numbers import CheckedNode
from .wires import CATEGORY, SettingsWire

STANDARD_FRAMES = 33
"""Default number of frames of a clip."""
OWN = "values below"
"""The preset that leaves batch and steps to the nodes' own inputs."""


@dataclass(kw_only=True, slots=True, frozen=True)
class TrainingOptions:
    """The value of a SETSEQ_SETTINGS wire."""

    config: MethodConfig = STANDARD
    gradient_checkpointing: str = "auto"
    preview_every: int = 50
    preset: str = OWN

    def steps(self, stage: str, given: int) -> int:
        """Steps of a stage: those of the preset if there is one, otherwise those on the train node."""
        if self.preset == OWN:
            return given
        preset = PRESETS[self.preset]
        return (preset.set_stage if stage == "set" else preset.sequence_stage).steps

    def savings(self) -> Savings | None:
        """The memory savings that gradient_checkpointing asks for; None chooses automatically."""
        if self.gradient_checkpointing == "auto":
            return None
        return Savings(recomputed=EVERY_BLOCK if self.gradient_checkpointing == "on" else 0)


class TrainingSettings(CheckedNode):
    """Advanced settings of both stages."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_TrainingSettings",
            display_name="Training Settings",
            category=CATEGORY,
            description="Advanced settings for both train nodes. Without this node they use the preset standard.",
            search_aliases=["dynamic concept settings", "dropout", "set and sequence"],
            inputs=[
                io.Int.Input(
                    "batch",
                    default=PAPER.set_stage.batch,
                    min=1,
                    max=64,
                    tooltip="Samples per step. A larger batch needs more memory and time; use 1 or 2 for long clips.",
                ),
                io.Float.Input(
                    "identity_dropout",
                    display_name="look dropout",
                    default=PAPER.set_stage.coefficient_dropout,
                    min=0.0,
                    max=0.99,
                    step=0.05,
                    tooltip="Fraction of the look's coefficients that each step leaves out. Higher values follow "
                    "prompts better; lower values match the look more closely.",
                ),
                io.Float.Input(
                    "motion_dropout",
                    display_name="motion dropout",
                    default=PAPER.sequence_stage.coefficient_dropout,
                    min=0.0,
                    max=0.99,
                    step=0.05,
                    tooltip="Fraction of the motion's coefficients that each step leaves out.",
                ),
                io.Float.Input(
                    "token_masking",
                    default=PAPER.token_masking,
                    min=0.0,
                    max=0.99,
                    step=0.05,
                    tooltip="Fraction of the prompt's tokens hidden in each step, so that no single word carries "
                    "everything.",
                ),
                io.Float.Input(
                    "weight_decay",
                    default=PAPER.weight_decay,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    advanced=True,
                    tooltip="Weight decay of the optimiser, AdamW.",
                ),
                io.Float.Input(
                    "gradient_clipping",
                    default=PAPER.gradient_clipping,
                    min=0.001,
                    max=100.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Maximum gradient norm of a step.",
                ),
                io.Float.Input(
                    "time_from",
                    default=PAPER.time_range[0],
                    min=0.0,
                    max=0.999,
                    step=0.005,
                    tooltip="Lowest noise level to train on, from 0 to 1. For the high-noise expert of Wan 2.2 14B: "
                    "0.875.",
                ),
                io.Float.Input(
                    "time_to",
                    default=PAPER.time_range[1],
                    min=0.001,
                    max=1.0,
                    step=0.005,
                    tooltip="Highest noise level to train on, from 0 to 1. For the low-noise expert of Wan 2.2 14B: "
                    "0.875.",
                ),
                io.Combo.Input(
                    "gradient_checkpointing",
                    options=["auto", "on", "off"],
                    tooltip="Saves a lot of memory and makes training about a third slower. auto saves as much memory "
                    "as this machine needs, in ways that change no result.",
                ),
                io.Int.Input(
                    "preview_every",
                    default=50,
                    min=0,
                    max=10_000,
                    tooltip="Steps between two sample videos on the train nodes. Slow samples are made less often. 0 "
                    "turns off the samples and leaves six validation losses per stage.",
                ),
                io.Combo.Input(
                    "preset",
                    options=[OWN, *PRESETS],
                    optional=True,
                    tooltip="draft, standard and paper set the steps of both train nodes, the batch and the number of "
                    "practice clips; paper takes many times as long as standard.",
                ),
            ],
            outputs=[
                SettingsWire.Output("settings", tooltip="For Train Concept, Train Identity LoRA or Identity from LoRA.")
            ],
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
        preset: str = OWN,
    ) -> io.NodeOutput:
        base = PRESETS.get(preset, PAPER)
        own = preset == OWN
        batches = (batch, batch) if own else (base.set_stage.batch, base.sequence_stage.batch)
        config = replace(
            base,
            token_masking=token_masking,
            weight_decay=weight_decay,
            time_range=(time_from, time_to),
            gradient_clipping=gradient_clipping,
            set_stage=replace(base.set_stage, batch=batches[0], coefficient_dropout=identity_dropout),
            sequence_stage=replace(base.sequence_stage, batch=batches[1], coefficient_dropout=motion_dropout),
        )
        options = TrainingOptions(
            config=config,
            gradient_checkpointing=gradient_checkpointing,
            preview_every=preview_every,
            preset=preset,
        )
        return io.NodeOutput(options)


class Regularisation(CheckedNode):
    """Settings for prior clips, stitched clips and learned tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_Regularisation",
            display_name="Regularisation",
            category=CATEGORY,
            description="Helps the concept follow prompts and keeps several subjects apart: practice clips, stitched "
            "clips and learned tokens. Without this node, the train nodes use its defaults, but only 8 practice "
            "clips.",
            search_aliases=["prior preservation", "regularization", "learned tokens", "set and sequence"],
            inputs=[
                io.Float.Input(
                    "prior_share",
                    default=PAPER.prior.share,
                    min=0.0,
                    max=0.9,
                    step=0.05,
                    tooltip="Fraction of training samples that are practice clips: clips the model makes itself, so "
                    "that it does not forget what it knows. They are made once, before training. 0 uses none.",
                ),
                io.Float.Input(
                    "prior_weight",
                    default=PAPER.prior.weight,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="Loss weight of a practice clip. Your own clip has weight 1.",
                ),
                io.Float.Input(
                    "prior_empty_prompts",
                    default=PAPER.prior.empty_prompts,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Fraction of practice clips shown with an empty prompt. This keeps the concept out of the "
                    "negative prompt: at 0.5, the concept is stronger under prompts other than its own.",
                ),
                io.Int.Input(
                    "prior_clips",
                    default=PAPER.prior.clips,
                    min=1,
                    max=1000,
                    tooltip="Number of practice clips to make if no Practice Clips node is connected.",
                ),
                io.Float.Input(
                    "stitched_share",
                    default=PAPER.stitched_share,
                    min=0.0,
                    max=0.9,
                    step=0.05,
                    tooltip="With several subjects in one concept: fraction of steps that show two of them side by "
                    "side, so that their looks stay apart.",
                ),
                io.Float.Input(
                    "token_learning_rate",
                    default=PAPER.token_learning_rate,
                    min=0.0,
                    max=0.1,
                    step=1e-6,
                    round=1e-7,
                    tooltip="Learning rate for the meaning of the tokens themselves. 0 turns this off; the paper uses "
                    "0.00001.",
                ),
                io.Int.Input(
                    "still_frames",
                    default=PAPER.set_stage.still_frames,
                    min=1,
                    max=81,
                    step=4,
                    tooltip="The first stage shows each frame as a still clip of this many frames. 1 is the paper's "
                    "single frame; 5 may help models that saw few single pictures in training.",
                ),
                io.Float.Input(
                    "time_shift",
                    default=PAPER.set_stage.time_shift,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Noise levels that the first stage favours: values above 1 favour high noise, 1 is "
                    "uniform, 0 uses the model's own shift. Lower values match the look more closely; the embedded "
                    "model uses 1.",
                ),
                SettingsWire.Input("settings", optional=True, tooltip="From Training Settings, to combine both."),
            ],
            outputs=[
                SettingsWire.Output("settings", tooltip="For Train Concept, Train Identity LoRA or Identity from LoRA.")
            ],
        )

    @classmethod
    def execute(
        cls,
        prior_share: float,
        prior_weight: float,
        prior_empty_prompts: float,
        prior_clips: int,
        stitched_share: float,
        token_learning_rate: float,
        still_frames: int,
        time_shift: float,
        settings: TrainingOptions | None = None,
    ) -> io.NodeOutput:
        options = settings or TrainingOptions()
        config = replace(
            options.config,
            prior=PriorConfig(
                share=prior_share, weight=prior_weight, empty_prompts=prior_empty_prompts, clips=prior_clips
            ),
            stitched_share=stitched_share,
            token_learning_rate=token_learning_rate,
            set_stage=replace(options.config.set_stage, still_frames=still_frames, time_shift=time_shift),
        )
        return io.NodeOutput(replace(options, config=config))


class SamplingSettings(CheckedNode):
    """Settings for the clips that training samples itself."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs; frozen in tests/comfyui/test_server.py."""
        return io.Schema(
            node_id="SetSeq_SamplingSettings",
            display_name="Sampling Settings",
            category=CATEGORY,
            description="Sets how the train nodes and Practice Clips sample the clips that they make themselves. Use "
            "it if the model or a LoRA on it is step-distilled: 4 steps, guidance 1.",
            search_aliases=["lightning", "lightx2v", "distilled", "few steps", "set and sequence"],
            inputs=[
                io.Int.Input(
                    "steps",
                    default=PAPER.sampling.steps,
                    min=1,
                    max=1000,
                    tooltip="Sampling steps of a practice clip. Sample videos during training take at most 8.",
                ),
                io.Float.Input(
                    "guidance",
                    default=PAPER.sampling.guidance,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance (cfg) of a practice clip. 0 uses the value that suits the model; 1 turns "
                    "guidance off, as step-distilled models need.",
                ),
                io.Combo.Input(
                    "sampler",
                    options=list(SAMPLERS),
                    tooltip="euler, or lcm for models that were distilled for it.",
                ),
                SettingsWire.Input("settings", optional=True, tooltip="From another settings node, to combine both."),
            ],
            outputs=[
                SettingsWire.Output(
                    "settings", tooltip="For Train Concept, Train Identity LoRA, Identity from LoRA and Practice Clips."
                )
            ],
        )

    @classmethod
    def execute(
        cls, steps: int, guidance: float, sampler: str, settings: TrainingOptions | None = None
    ) -> io.NodeOutput:
        """Add these settings to the connected ones."""
        options = settings or TrainingOptions()
        sampling = SamplingConfig(steps=steps, guidance=guidance, sampler=sampler)
        return io.NodeOutput(replace(options, config=replace(options.config, sampling=sampling)))
