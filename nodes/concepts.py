"""Save Dynamic Concept and Load Dynamic Concept."""

from dataclasses import replace
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..setandseq_core.compose.strengths import StrengthSchedule
from ..setandseq_core.concept import Concept, Strengths, experts_of, in_words
from ..setandseq_core.concept_file.export import lora_contents, missing_tokens
from ..setandseq_core.concept_file.file import concept_content, load_concept, stored_type
from ..setandseq_core.errors import ConceptFileError
from .apply import apply_concepts, base_note
from .folders import (
    CONCEPTS,
    concept_names,
    concepts_folder,
    dated,
    file_stamp,
    find_concept,
    loras_folder,
    safe_name,
    save_new,
)
from .messages import show_text
from .numbers import complaint
from .wires import CATEGORY, ConceptWire, ScheduleWire, WeightedConcept

FAR = 3.0
"""Beyond this strength, results have little to do with the concept."""
NO_MODEL = (
    "Load Dynamic Concept has no model to apply the concept to. Connect Load Diffusion Model to its model input, or "
    "connect its concept output to Compose Concepts."
)


def save_files(weighted: WeightedConcept, name: str, *, plain_lora: bool = False, float32: bool = False) -> str:
    """Save a concept and, on request, a plain LoRA at the strengths on the wire; return a description for the user.

    Args:
        float32: whether the concept's numbers are stored in float32.

    Raises:
        ConceptFileError: the name cannot be a file name.
    """
    name = safe_name(dated(name) if usable(name) else weighted.concept.info.name or "concept")
    concept = replace(weighted.concept, info=replace(weighted.concept.info, name=name.rpartition("/")[2]))
    content = concept_content(concept, dtype=stored_type(float32=float32))
    path = save_new(content, concepts_folder(), name)
    lines = [f"Concept: {CONCEPTS}/{path.relative_to(concepts_folder()).as_posix()}"]
    if plain_lora:
        for expert, lora_content in lora_contents(concept, weighted.strengths).items():
            lora = save_new(lora_content, loras_folder(), f"{name}_{expert}" if expert else name)
            lines.append(f"Plain LoRA: loras/{lora.relative_to(loras_folder()).as_posix()}")
        lines += filter(None, [missing_tokens(list(concept.embeddings))])
    return "\n".join(lines)


def usable(name: str) -> bool:
    """Whether the name can be a file name; a name from a link is not known before the training ends."""
    try:
        return bool(safe_name(dated(name)))
    except ConceptFileError:
        return False


def summary(weighted: WeightedConcept) -> str:
    """Describes a loaded concept and explains unusual strengths."""
    info = weighted.concept.info
    return "\n".join(
        [
            f"Made for: {' and '.join(made_for(weighted.concept))}",
            f"Look prompt: {info.static_prompt}",
            f"Motion prompt: {info.motion_prompt}",
            *strength_notes("Look", weighted.strengths.identity),
            *strength_notes("Motion", weighted.strengths.motion),
        ]
    )


def made_for(concept: Concept) -> list[str]:
    """The names of the models that a concept was made for: one model, or two experts."""
    return [
        f"{part.info.base_name}, {in_words(expert)}" if expert else part.info.base_name
        for expert, part in experts_of(concept).items()
    ]


def strength_notes(part: str, strength: float) -> list[str]:
    """Explains a strength that is off, negative or very high."""
    if strength == 0:
        return [f"{part} strength 0: the {part.lower()} is off."]
    notes = [f"{part} strength {strength:g}: pushes away from the trained {part.lower()}."] if strength < 0 else []
    if abs(strength) > FAR:
        notes.append(f"{part} strength {strength:g}: far beyond the trained strength; the picture may break up.")
    return notes


def strength_input(name: str, label: str, part: str, times: str = "") -> io.Float.Input:
    """The input for a strength; `times` is the part of its tooltip that names another factor."""
    return io.Float.Input(
        name,
        display_name=label,
        default=1.0,
        min=-10.0,
        max=10.0,
        step=0.05,
        tooltip=f"Strength of {part}{times}. 1 is as trained, 0 is off, negative values push away from it. Above "
        f"{FAR:g} the picture may break up.",
    )


def schedule_input() -> io.Input:
    return ScheduleWire.Input(
        "schedule", optional=True, tooltip="From Strength Schedule: strengths that change during sampling."
    )


class SaveDynamicConcept(io.ComfyNode):
    """Saves a concept with `save_files`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_SaveDynamicConcept",
            display_name="Save Dynamic Concept",
            category=CATEGORY,
            description=f"Saves a concept to models/{CONCEPTS}. Nothing is overwritten: a different concept with the "
            "same name is saved as name_2.",
            search_aliases=["save lora", "export concept", "set and sequence", "save motion"],
            inputs=[
                ConceptWire.Input("concept", tooltip="From Train Motion Residual or Load Dynamic Concept."),
                io.String.Input("name", default="concept", tooltip="Name of the file. animals/bee creates a folder."),
                io.Boolean.Input(
                    "plain_lora",
                    default=False,
                    tooltip="Also saves a plain LoRA to models/loras, for LoRA loaders and other programs. Its "
                    "strengths are fixed at those of the connected concept.",
                ),
                io.Boolean.Input(
                    "float32",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Stores the concept in float32: twice the size of bfloat16, with the same look and motion.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        """Refuse a bad name before the training begins; `name` is None if it comes from a link."""
        try:
            return name is None or bool(safe_name(dated(name)))
        except ConceptFileError as error:
            return str(error)

    @classmethod
    def execute(cls, concept: WeightedConcept, name: str, plain_lora: bool, float32: bool = False) -> io.NodeOutput:
        text = save_files(concept, name, plain_lora=plain_lora, float32=float32)
        return io.NodeOutput(ui=show_text(text, cls.hidden.unique_id))


class LoadDynamicConcept(io.ComfyNode):
    """Loads a concept with `load_concept` and applies it to a MODEL with `apply_concepts`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_LoadDynamicConcept",
            display_name="Load Dynamic Concept",
            category=CATEGORY,
            description="Loads a saved concept and applies it to a model. Place this node between the model's loader "
            "and the sampler, and use the concept's prompts in yours.",
            search_aliases=[
                "character",
                "motion",
                "load lora",
                "apply concept",
                "set and sequence",
                "dynamic concept",
                "motion lora",
            ],
            inputs=[
                io.Combo.Input(
                    "concept",
                    options=concept_names(),
                    tooltip=f"A file in models/{CONCEPTS}. Press R to see new files.",
                ),
                strength_input("identity_strength", "look strength", "the look"),
                strength_input("motion_strength", "motion strength", "the motion"),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that the concept was made for. You can leave it out if you need only the "
                    "concept or its prompts.",
                ),
                schedule_input(),
            ],
            outputs=[
                io.Model.Output("model", tooltip="The model with the concept applied, for the sampler."),
                ConceptWire.Output("concept", tooltip="The concept with these strengths, for Compose Concepts."),
                io.String.Output(
                    "static_prompt", display_name="look prompt", tooltip="The prompt for the look alone, from the file."
                ),
                io.String.Output(
                    "motion_prompt",
                    display_name="motion prompt",
                    tooltip="The prompt for the look and the motion, from the file.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, concept: str | None = None, **values: object) -> bool | str:
        """If the file is missing, say where concepts belong; `concept` is None if it comes from a link."""
        try:
            return (concept is None or bool(find_concept(concept))) and (complaint(cls.define_schema(), values) or True)
        except ConceptFileError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, concept: str | None = None, **_: Any) -> str:
        """Make the node run again if the file has changed."""
        return "" if concept is None else file_stamp(find_concept(concept))

    @classmethod
    def execute(
        cls,
        concept: str,
        identity_strength: float,
        motion_strength: float,
        model: ModelPatcher | None = None,
        schedule: StrengthSchedule | None = None,
    ) -> io.NodeOutput:
        weighted = WeightedConcept(
            concept=load_concept(find_concept(concept)),
            strengths=Strengths(identity_strength, motion_strength),
            schedules=() if schedule is None else (schedule,),
        )
        info = weighted.concept.info
        lines = [summary(weighted)]
        patched = ExecutionBlocker(NO_MODEL)
        if model is not None:
            patched = apply_concepts(model, [weighted])
            lines += [note] if (note := base_note(weighted.concept, model)) else []
        shown = show_text("\n".join(lines), cls.hidden.unique_id)
        return io.NodeOutput(patched, weighted, info.static_prompt, info.motion_prompt, ui=shown)
