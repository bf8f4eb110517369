"""Identity from LoRA: takes the look from a LoRA that the artist already has."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import folder_paths
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from comfy_api.latest import io

from ..setandseq_core.clips.clip import Reference, Words
from ..setandseq_core.errors import ConceptFileError, ConfigError, PromptError
from ..setandseq_core.prompts import check_prompt
from .folders import file_stamp, spellings
from .lesson import LearnedLook, Lesson
from .messages import show_text
from .models import check_video_model, model_fingerprint, model_name
from .numbers import CheckedNode, complaint
from .reference import LOOK_PROMPT
from .settings import TrainingOptions
from .training import conditioning_input, references_input
from .wires import CATEGORY, ConceptWire, SettingsWire, encoder_inputs


class IdentityFromLoRA(CheckedNode):
    """Takes the look from a LoRA with the core's `identity_from_lora`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs; frozen in tests/comfyui/test_server.py."""
        return io.Schema(
            node_id="SetSeq_IdentityFromLoRA",
            display_name="Identity from LoRA",
            category=CATEGORY,
            description="Takes the look from a LoRA that you already have, made with any program. Train Motion "
            "Residual then learns only the motion of your clip.",
            search_aliases=["character lora", "convert lora", "dynamic concept", "set and sequence"],
            inputs=[
                io.Model.Input("model", tooltip="The model that the LoRA was made for, without the LoRA on it."),
                *encoder_inputs(),
                references_input(),
                io.Combo.Input(
                    "lora",
                    options=folder_paths.get_filename_list("loras"),
                    tooltip="A file in models/loras with ComfyUI's, diffusers' or kohya's names.",
                ),
                io.String.Input(
                    "static_prompt",
                    display_name="look prompt",
                    multiline=True,
                    tooltip="Describes the look in the words that the LoRA was trained with: a ohwx woman in a red "
                    "dress.",
                ),
                io.String.Input(
                    "trigger_word",
                    default="",
                    tooltip="The word in the look prompt that triggers the look, if the LoRA has one: ohwx.",
                ),
                io.Int.Input(
                    "rank",
                    default=0,
                    min=0,
                    max=256,
                    tooltip="Rank of the look. 0 keeps the LoRA's own; a lower rank keeps the most important part and "
                    "makes a smaller file.",
                ),
                io.Boolean.Input(
                    "leave_out",
                    default=False,
                    tooltip="Leaves out what a concept cannot hold, such as layers that concepts do not change. If "
                    "off, such a LoRA is refused.",
                ),
                SettingsWire.Input(
                    "settings",
                    optional=True,
                    tooltip="From Training Settings or Regularisation, for Train Motion Residual.",
                ),
                conditioning_input(),
            ],
            outputs=[
                ConceptWire.Output(
                    "identity",
                    display_name="look",
                    tooltip="The look, for Train Motion Residual, or for any input that takes a concept.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, lora: str | None = None, static_prompt: str | None = None, **values: object) -> bool | str:
        """Refuse a missing file and a prompt that cannot be used; a value from a wire is None."""
        try:
            if lora is not None:
                find_lora(lora)
            if static_prompt is not None:
                check_prompt(static_prompt, LOOK_PROMPT)
        except (ConceptFileError, PromptError) as error:
            return str(error)
        return complaint(cls.define_schema(), values) or True

    @classmethod
    def fingerprint_inputs(cls, lora: str | None = None, **_: object) -> str:
        """Make the node run again if the file has changed."""
        return "" if lora is None else file_stamp(find_lora(lora))

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        clip: CLIP,
        vae: VAE,
        references: Mapping[str, Reference],
        lora: str,
        static_prompt: str,
        trigger_word: str,
        rank: int,
        leave_out: bool,
        settings: TrainingOptions | None = None,
        conditioning: Sequence[Any] | None = None,
    ) -> io.NodeOutput:
        """Read the LoRA, and show how much of its look is kept."""
        from ..setandseq_core.backbones.wan_names import diffusers_layer_name
        from ..setandseq_core.concept_file.from_lora import identity_from_lora

        check_video_model(model)
        _check_no_pictures(references.values())
        prompt = check_prompt(static_prompt, LOOK_PROMPT)
        taken = identity_from_lora(
            find_lora(lora),
            model_fingerprint(model),
            model_name(model),
            Words(static_prompt=prompt, motion_prompt=prompt, identity_token=trigger_word.strip()),
            in_diffusers=diffusers_layer_name,
            rank=rank,
            leave_out=leave_out,
        )
        lesson = Lesson(
            clip=clip,
            vae=vae,
            references=tuple(references.values()),
            options=settings or TrainingOptions(),
            conditioning=conditioning,
        )
        look = LearnedLook(concept=taken.identity, lesson=lesson)
        return io.NodeOutput(look, ui=show_text(taken.summary(), cls.hidden.unique_id))


def _check_no_pictures(references: Iterable[Reference]) -> None:
    if any(reference.pictures for reference in references):
        raise ConfigError(
            "The clip has pictures for its look, and the look is taken from a LoRA.",
            hint="Connect Reference Clip here without Reference Pictures, or use Train Identity LoRA.",
        )


def find_lora(name: str) -> Path:
    """Find the file of a LoRA by its name in the list.

    Raises:
        ConceptFileError: the list has no such name.
    """
    names = folder_paths.get_filename_list("loras")
    name = next((here for here in spellings(name) if here in names), name)
    path = folder_paths.get_full_path("loras", name) if name in names else None
    if path is None:
        raise ConceptFileError(
            f"There is no LoRA '{name!s:.200}' in models/loras.",
            hint="Put the file there and refresh the list (key R), or choose another.",
        )
    return Path(path)
