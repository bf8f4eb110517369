"""Train Concept: from a video to a saved concept, and to a model that has it, in one node."""

from dataclasses import replace

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from comfy_api.latest import Input, io

from ..setandseq_core.clips.clip import Reference
from ..setandseq_core.clips.stretch import Stretch
from ..setandseq_core.config import PRESETS, STANDARD_PRESET, MethodConfig
from ..setandseq_core.errors import ConceptFileError
from .apply import apply_concepts
from .backbone import differentiable, model_format
from .concepts import save_files
from .embedded import method_for
from .folders import dated, safe_name
from .lesson import Lesson, learn_look, learn_movement, plan_lesson
from .messages import show_text
from .models import check_video_model
from .numbers import CheckedNode
from .reference import prompt_complaint, prompt_inputs, stretch_inputs, target_of, words_of
from .settings import STANDARD_FRAMES, TrainingOptions
from .sources import source_of
from .training import plan_only_input, planned
from .wires import CATEGORY, ConceptWire, SettingsWire, WeightedConcept, encoder_inputs

STAGES = ("set", "sequence")


class TrainConcept(CheckedNode):
    """The node; its work is that of Reference Clip, both train nodes, and the nodes that save and apply concepts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs; frozen in tests/comfyui/test_server.py."""
        return io.Schema(
            node_id="SetSeq_TrainConcept",
            display_name="Train Concept",
            category=CATEGORY,
            description="Learns the look and the motion of one short video, saves them as a concept, and gives the "
            "model with the concept on it.",
            search_aliases=[
                "learn video",
                "train video lora",
                "train lora",
                "character",
                "motion",
                "dynamic concept",
                "set and sequence",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The video model that learns, as for sampling. It is left as it was."),
                *encoder_inputs(),
                io.Video.Input("video", tooltip="One to five seconds of one subject that fills much of the picture."),
                *prompt_inputs(),
                io.String.Input(
                    "name",
                    default="my_concept",
                    tooltip="The file's name in models/dynamic_concepts. animals/bee makes a folder.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default=STANDARD_PRESET,
                    tooltip="draft takes well under half the time of standard, for a first look; paper takes many "
                    "times as long. A connected settings input has a preset of its own.",
                ),
                *stretch_inputs(),
                _steps("look_steps", "look"),
                _steps("motion_steps", "motion"),
                SettingsWire.Input(
                    "settings",
                    optional=True,
                    tooltip="From Training Settings or Regularisation. Without it, the settings suit the model.",
                ),
                plan_only_input(),
            ],
            outputs=[
                io.Model.Output("model", tooltip="The model with the concept on it, for the sampler."),
                ConceptWire.Output("concept", tooltip="For Compose Concepts."),
                io.String.Output(
                    "motion_prompt",
                    display_name="motion prompt",
                    tooltip="The prompt that calls the look and the motion.",
                ),
                io.Clip.Output("clip", tooltip="The text encoder as it came, for CLIP Text Encode."),
                io.Vae.Output("vae", tooltip="The VAE as it came, for VAE Decode."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, **values: object) -> bool | str:
        """Refuse prompts and a name that cannot be used, before minutes of training; what comes by a wire is None."""
        return prompt_complaint(values) or _name_complaint(values.get("name")) or super().validate_inputs(**values)

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        clip: CLIP,
        vae: VAE,
        video: Input.Video,
        static_prompt: str,
        motion_prompt: str,
        name: str,
        preset: str = STANDARD_PRESET,
        start: float = 0.0,
        length: float = 0.0,
        look_steps: int = 0,
        motion_steps: int = 0,
        settings: TrainingOptions | None = None,
        plan_only: bool = False,
    ) -> io.NodeOutput:
        """Train both stages, resume, or take what was trained before; then save. Or only say what that needs."""
        check_video_model(model)
        words = words_of(static_prompt, motion_prompt)
        wanted = model_format(model)
        stretch = Stretch(start=start, length=length or None)
        fitted = source_of(video, wanted.fps).clip(target_of(model, min(wanted.frames, STANDARD_FRAMES), 0, 0), stretch)
        options = settings or TrainingOptions(config=method_for(model, preset))
        lesson = Lesson(
            clip=clip,
            vae=vae,
            references=(Reference(clip=fitted, words=words),),
            options=replace(options, config=with_steps(options.config, look_steps, motion_steps)),
        )
        with differentiable():
            if plan_only:
                return planned(f"{fitted.choice}. {plan_lesson(model, lesson, cls.hidden, *STAGES)}", outputs=3)
            look = learn_look(model, lesson, cls.hidden)
            learned = learn_movement(model, look.concept, lesson, cls.hidden)
        weighted = WeightedConcept(concept=learned.concept)
        saved = save_files(weighted, name)
        shown = show_text("\n".join([f"{fitted.choice}.", look.text, learned.text, saved]), cls.hidden.unique_id)
        applied = apply_concepts(model, [weighted])
        return io.NodeOutput(applied, weighted, words.motion_prompt, clip, vae, ui=shown)


def with_steps(config: MethodConfig, look: int, motion: int) -> MethodConfig:
    """The settings with other numbers of steps; 0 leaves a stage's as they are."""
    return replace(
        config,
        set_stage=replace(config.set_stage, steps=look or config.set_stage.steps),
        sequence_stage=replace(config.sequence_stage, steps=motion or config.sequence_stage.steps),
    )


def _steps(name: str, part: str) -> io.Int.Input:
    return io.Int.Input(
        name,
        default=0,
        min=0,
        max=100_000,
        advanced=True,
        tooltip=f"Training steps for the {part}. 0 takes the number that suits the model. More steps resume what was "
        "trained before.",
    )


def _name_complaint(name: object) -> str:
    if not isinstance(name, str):
        return ""
    try:
        safe_name(dated(name))
    except ConceptFileError as error:
        return str(error)
    return ""
