"""Compose Concepts, Strength Schedule and Transfer Motion."""

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ..setandseq_core.compose.add import moving_as
from ..setandseq_core.compose.regions import METHODS, Method, check_region_prompts, regions_for
from ..setandseq_core.compose.strengths import StrengthSchedule
from ..setandseq_core.concept import Strengths
from ..setandseq_core.errors import ConfigError
from .apply import apply_concepts, base_note
from .concepts import schedule_input, strength_input
from .messages import show_text
from .numbers import CheckedNode
from .wires import CATEGORY, ConceptWire, ScheduleWire, WeightedConcept

Conditioning = list[tuple[Tensor, dict[str, Any]]]
"""ComfyUI's CONDITIONING: a list of texts (1, N, D), each with its settings."""
MOST = 20
"""Largest number of concepts on one node."""
PLAIN = frozenset(("pooled_output", "attention_mask"))
"""Settings that every prompt may have and no Wan model uses."""
TIMES = ", multiplied by each concept's own strength"


class ComposeConcepts(CheckedNode):
    """Applies concepts to a MODEL with `apply_concepts`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_ComposeConcepts",
            display_name="Compose Concepts",
            category=CATEGORY,
            description="Applies one or more concepts to a model. Your prompt says which subjects appear and how they "
            "move.",
            search_aliases=["apply concept", "combine lora", "merge concepts", "set and sequence", "stack lora"],
            inputs=[
                io.Model.Input("model", tooltip="The model that the concepts were made for."),
                io.Autogrow.Input(
                    "concepts",
                    template=io.Autogrow.TemplatePrefix(
                        ConceptWire.Input(
                            "concept",
                            tooltip="From Train Motion Residual or Load Dynamic Concept, with its own strengths.",
                        ),
                        prefix="concept_",
                        min=1,
                        max=MOST,
                    ),
                    tooltip="Concepts made for this model. A new input appears when you connect one.",
                ),
                strength_input("identity_strength", "look strength", "every look", TIMES),
                strength_input("motion_strength", "motion strength", "every motion", TIMES),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default="add",
                    optional=True,
                    tooltip="add: every concept acts on the whole picture, like stacked LoRAs. regions: each concept "
                    "acts only in its own part of the picture, so that they stay apart.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="For regions: one mask per concept, in the same order. Each mask shows where its concept "
                    "acts (Batch Masks combines several into one input). Without masks, the picture is divided into "
                    "vertical stripes from left to right.",
                ),
                schedule_input(),
                io.Autogrow.Input(
                    "prompts",
                    template=io.Autogrow.TemplatePrefix(
                        io.Conditioning.Input(
                            "prompt",
                            tooltip="Describes this concept's region. Name only this concept, and the same place as in "
                            "the other prompts.",
                        ),
                        prefix="prompt_",
                        min=0,
                        max=MOST,
                    ),
                    optional=True,
                    tooltip="For regions: one prompt per concept, in the same order. Without prompts, every region "
                    "follows the sampler's prompt.",
                ),
            ],
            outputs=[io.Model.Output("model", tooltip="The model with the concepts applied, for the sampler.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        concepts: dict[str, WeightedConcept],
        identity_strength: float,
        motion_strength: float,
        method: Method = "add",
        masks: Tensor | None = None,
        schedule: StrengthSchedule | None = None,
        prompts: dict[str, Conditioning | None] | None = None,
    ) -> io.NodeOutput:
        strengths = Strengths(identity_strength, motion_strength)
        scaled = [each.times(strengths, schedule) for each in concepts.values()]
        regions = regions_for(method, len(scaled), masks)
        given = [prompt for prompt in (prompts or {}).values() if prompt is not None]
        check_region_prompts(method, len(scaled), len(given))
        texts = [_text_of(number, prompt) for number, prompt in enumerate(given, 1)]
        patched = apply_concepts(model, scaled, regions, texts)
        notes = [note for each in scaled if (note := base_note(each.concept, model))]
        if not notes:
            return io.NodeOutput(patched)
        return io.NodeOutput(patched, ui=show_text("\n".join(notes), cls.hidden.unique_id))


def _text_of(number: int, prompt: Conditioning) -> Tensor:
    """The text (N, D) of a region's prompt.

    Raises:
        ConfigError: the conditioning holds more than one plain prompt, and the rest would be lost.
    """
    (text_1ND, settings), *others = prompt
    found = [name for name, value in settings.items() if value is not None and name not in PLAIN]
    if others or found:
        what = f"{len(prompt)} prompts" if others else f"additional settings ({', '.join(found)})"
        raise ConfigError(
            f"The prompt of region {number} holds {what}. A region takes one plain prompt.",
            hint="Connect CLIP Text Encode directly. Masks on Compose Concepts set where each concept acts.",
        )
    return text_1ND[0]


class StrengthScheduleNode(CheckedNode):
    """Makes a `StrengthSchedule`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_StrengthSchedule",
            display_name="Strength Schedule",
            category=CATEGORY,
            description="Changes the strengths during sampling. The first steps decide the layout and the motion; the "
            "last steps decide the details of the look.",
            search_aliases=["lora schedule", "keyframe", "strength over steps", "set and sequence"],
            inputs=[
                *(_factor(part, what, moment) for part, what in _PARTS for moment in ("first", "last")),
                _share("begin", 0.0, "Point of the sampling where the change starts: 0 is the first step."),
                _share("end", 1.0, "Point of the sampling where the change is complete; later than begin."),
                _share(
                    "negative_strength",
                    1.0,
                    "Strength of look and motion in the negative prompt's prediction, which guidance (cfg) subtracts. "
                    "Below 1, guidance amplifies the concept: more of its look, a little less of the prompt.",
                    optional=True,
                ),
            ],
            outputs=[ScheduleWire.Output("schedule", tooltip="For Load Dynamic Concept or Compose Concepts.")],
        )

    @classmethod
    def execute(
        cls,
        identity_first: float,
        identity_last: float,
        motion_first: float,
        motion_last: float,
        begin: float,
        end: float,
        negative_strength: float = 1.0,
    ) -> io.NodeOutput:
        identity = ((begin, identity_first), (end, identity_last))
        motion = ((begin, motion_first), (end, motion_last))
        return io.NodeOutput(StrengthSchedule(identity=identity, motion=motion, negative_strength=negative_strength))


_PARTS = (("identity", "the look"), ("motion", "the motion"))


def _factor(part: str, what: str, moment: str) -> io.Float.Input:
    when = "until begin" if moment == "first" else "from end on"
    return io.Float.Input(
        f"{part}_{moment}",
        default=1.0,
        min=-10.0,
        max=10.0,
        step=0.05,
        tooltip=f"Strength of {what} {when}, multiplied by the concept's own strength. Between begin and end, it "
        "changes linearly.",
    )


def _share(name: str, default: float, tooltip: str, *, optional: bool = False) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.05, tooltip=tooltip, optional=optional)


class TransferMotion(io.ComfyNode):
    """Combines two concepts with `moving_as`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_TransferMotion",
            display_name="Transfer Motion",
            category=CATEGORY,
            description="Combines the look of one concept with the motion of another. Both must come from the same "
            "Train Identity LoRA: connect all clips to it, then train the motion of each clip on its result.",
            search_aliases=["swap motion", "motion transfer", "retarget", "set and sequence"],
            inputs=[
                ConceptWire.Input("identity", display_name="look", tooltip="Provides the look and its strength."),
                ConceptWire.Input("motion", tooltip="Provides the motion and its strength."),
            ],
            outputs=[ConceptWire.Output("concept", tooltip="For Compose Concepts or Save Dynamic Concept.")],
        )

    @classmethod
    def execute(cls, identity: WeightedConcept, motion: WeightedConcept) -> io.NodeOutput:
        return io.NodeOutput(moving_as(identity, motion))
