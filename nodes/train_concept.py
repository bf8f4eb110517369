"""Train Concept: turns a video into a saved concept and a model that uses it, in one node."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from comfy_api.latest import Input, io
from comfy_execution.graph_utils import ExecutionBlocker

from ..setandseq_core.clips.clip import Reference
from ..setandseq_core.clips.stretch import Stretch
from ..setandseq_core.concept import in_words, joined
from ..setandseq_core.config import PRESETS, STANDARD_PRESET, MethodConfig
from ..setandseq_core.errors import ConceptFileError
from .apply import apply_concepts
from .backbone import differentiable, model_format
from .concepts import save_files
from .embedded import method_for
from .experts import BothExperts, Expert, experts_on
from .folders import dated, safe_name, training_folder
from .lesson import Learned, Lesson, learn_look, learn_movement, plan_lesson
from .messages import show_text
from .models import check_video_model
from .numbers import CheckedNode
from .prior import making_progress
from .reference import prompt_complaint, prompt_inputs, stretch_inputs, target_of, words_of
from .settings import TrainingOptions
from .sources import source_of
from .training import conditioning_input, plan_only_input, planned
from .wires import CATEGORY, ConceptWire, SettingsWire, WeightedConcept, encoder_inputs

STAGES = ("set", "sequence")
ONE = "Train Concept has trained one model. Connect a second one to low_noise_model, or use the first output."


class TrainConcept(CheckedNode):
    """Does the work of Reference Clip, both train nodes, and the nodes that save and apply concepts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs; frozen in tests/comfyui/test_server.py."""
        return io.Schema(
            node_id="SetSeq_TrainConcept",
            display_name="Train Concept",
            category=CATEGORY,
            description="Learns the look and the motion of one short video, saves them as a concept, and returns the "
            "model with the concept applied.",
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
                io.Model.Input(
                    "model", tooltip="The video model to train, as for sampling. Training leaves it unchanged."
                ),
                *encoder_inputs(),
                io.Video.Input("video", tooltip="One to five seconds of one subject that fills much of the picture."),
                *prompt_inputs(),
                io.String.Input(
                    "name",
                    default="my_concept",
                    tooltip="Name of the file in models/dynamic_concepts. animals/bee creates a folder.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default=STANDARD_PRESET,
                    tooltip="draft takes well under half the time of standard, for a quick preview; paper takes many "
                    "times as long. Connected settings replace this preset.",
                ),
                *stretch_inputs(),
                _steps("look_steps", "look"),
                _steps("motion_steps", "motion"),
                SettingsWire.Input(
                    "settings",
                    optional=True,
                    tooltip="From Training Settings or Regularisation. If nothing is connected, the preset is used.",
                ),
                plan_only_input(),
                io.Model.Input(
                    "low_noise_model",
                    optional=True,
                    tooltip="For Wan 2.2 14B, which is two models: the low-noise one here, the high-noise one in "
                    "model. Both are trained, and one file holds the concept for both.",
                ),
                io.Float.Input(
                    "boundary",
                    default=0.0,
                    min=0.0,
                    max=0.99,
                    step=0.005,
                    optional=True,
                    advanced=True,
                    tooltip="Noise level at which the high-noise model hands over to the low-noise one. 0 uses the "
                    "model's own level: 0.875 for text to video, 0.9 for image to video.",
                ),
                conditioning_input(),
            ],
            outputs=[
                io.Model.Output("model", tooltip="The model with the concept applied, for the sampler."),
                ConceptWire.Output("concept", tooltip="For Compose Concepts."),
                io.String.Output(
                    "motion_prompt",
                    display_name="motion prompt",
                    tooltip="The prompt for the look and the motion.",
                ),
                io.Clip.Output("clip", tooltip="The text encoder, unchanged, for CLIP Text Encode."),
                io.Vae.Output("vae", tooltip="The VAE, unchanged, for VAE Decode."),
                io.Model.Output(
                    "low_noise_model",
                    display_name="low noise model",
                    tooltip="The low-noise model with the concept applied, for the second sampler.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, **values: object) -> bool | str:
        """Refuse unusable prompts and names before the training begins; a value from a wire is None."""
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
        low_noise_model: ModelPatcher | None = None,
        boundary: float = 0.0,
        conditioning: Sequence[Any] | None = None,
    ) -> io.NodeOutput:
        """Train both stages, resume them or reuse a finished training, then save. `plan_only` only estimates."""
        check_video_model(model)
        experts = experts_on(model, low_noise_model, boundary)
        words = words_of(static_prompt, motion_prompt)
        wanted = model_format(model)
        stretch = Stretch(start=start, length=length or None)
        fitted = source_of(video, wanted.fps).clip(target_of(model), stretch)
        options = settings or TrainingOptions(config=method_for(model, preset))
        lesson = Lesson(
            clip=clip,
            vae=vae,
            references=(Reference(clip=fitted, words=words),),
            options=replace(options, config=with_steps(options.config, look_steps, motion_steps)),
            conditioning=conditioning,
        )
        lessons = lessons_of(experts, lesson)
        with differentiable():
            if plan_only:
                plans = [plan_lesson(expert.model, part, cls.hidden, *STAGES) for expert, part in lessons]
                return planned(f"{fitted.choice}. {_of_each(experts, plans)}", outputs=6)
            if low_noise_model is not None:
                lessons = with_prior(experts, lessons, str(cls.hidden.unique_id))
            learned = [_learned(expert, part, cls.hidden) for expert, part in lessons]
        weighted = WeightedConcept(concept=joined(*(each.concept for each in learned)))
        saved = save_files(weighted, name)
        lines = [f"{fitted.choice}.", *(each.text for each in learned), saved]
        shown = show_text("\n".join(lines), cls.hidden.unique_id)
        applied = [apply_concepts(expert.model, [weighted]) for expert in experts]
        low = applied[1] if len(applied) > 1 else ExecutionBlocker(ONE)
        return io.NodeOutput(applied[0], weighted, words.motion_prompt, clip, vae, low, ui=shown)


def lessons_of(experts: Sequence[Expert], lesson: Lesson) -> list[tuple[Expert, Lesson]]:
    """Make one lesson per expert, limited to its noise levels, with the number of steps before it and in total."""
    if len(experts) == 1:
        return [(experts[0], lesson)]
    config = lesson.options.config
    steps = config.set_stage.steps + config.sequence_stage.steps
    return [
        (
            expert,
            replace(
                lesson,
                options=replace(lesson.options, config=replace(config, time_range=expert.times)),
                expert=expert.name,
                steps_before=number * steps,
                steps_in_all=len(experts) * steps,
            ),
        )
        for number, expert in enumerate(experts)
    ]


def with_prior(
    experts: Sequence[Expert], lessons: Sequence[tuple[Expert, Lesson]], node_id: str
) -> list[tuple[Expert, Lesson]]:
    """Add practice clips to the lessons. Both experts make them together, because neither can make a clip alone."""
    from ..setandseq_core.training.prior import automatic_prior

    lesson = lessons[0][1]
    prior = automatic_prior(
        BothExperts(experts, lesson.clip, lesson.vae, conditioning=lesson.conditioning),
        lesson.references,
        lesson.options.config,
        folder=training_folder(),
        progress=making_progress(node_id),
    )
    return [(expert, replace(part, prior=prior)) for expert, part in lessons]


def _learned(expert: Expert, lesson: Lesson, node: Any) -> Learned:
    """Train both stages of one expert."""
    look = learn_look(expert.model, lesson, node)
    learned = learn_movement(expert.model, look.concept, lesson, node)
    return Learned(concept=learned.concept, text=f"{look.text}\n{learned.text}")


def _of_each(experts: Sequence[Expert], plans: Sequence[str]) -> str:
    return "\n".join(
        f"{in_words(expert.name).capitalize()}: {plan}" if expert.name else plan
        for expert, plan in zip(experts, plans, strict=True)
    )


def with_steps(config: MethodConfig, look: int, motion: int) -> MethodConfig:
    """Replace the numbers of steps in the settings; 0 leaves a stage's number as it is."""
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
        tooltip=f"Training steps for the {part}. 0 uses the number that suits the model. If you raise it later, "
        "training resumes where it ended; with more look steps, the motion is learned again from the start.",
    )


def _name_complaint(name: object) -> str:
    if not isinstance(name, str):
        return ""
    try:
        safe_name(dated(name))
    except ConceptFileError as error:
        return str(error)
    return ""
