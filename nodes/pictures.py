"""Reference Pictures: the look comes from pictures, and the clip provides only the motion."""

import math
from collections.abc import Mapping

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ..setandseq_core.clips.clip import Reference, Words
from ..setandseq_core.clips.pictures import num_pictures, pictures_in_words, with_pictures
from ..setandseq_core.errors import PromptError
from ..setandseq_core.prompts import check_prompt
from .backbone import model_format
from .messages import show_text
from .models import check_video_model
from .numbers import CheckedNode
from .reference import LOOK_PROMPT, TOKEN, check_tokens
from .wires import CATEGORY, ReferenceWire

FEW = 4
"""With fewer pictures than this, the node suggests adding more."""


class ReferencePictures(CheckedNode):
    """Adds pictures to a reference with the core's `with_pictures`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs; frozen in tests/comfyui/test_server.py."""
        return io.Schema(
            node_id="SetSeq_ReferencePictures",
            display_name="Reference Pictures",
            category=CATEGORY,
            description="Takes the look from pictures: the first stage learns from them instead of the clip, which "
            "then provides only the motion.",
            search_aliases=["photos", "dataset", "character", "images", "dynamic concept", "set and sequence"],
            is_input_list=True,
            inputs=[
                io.Model.Input("model", tooltip="The video model to train. It determines the sizes."),
                ReferenceWire.Input("reference", tooltip="The clip that provides the motion, from Reference Clip."),
                io.Autogrow.Input(
                    "pictures",
                    template=io.Autogrow.TemplatePrefix(
                        io.Image.Input("picture", tooltip="A picture, a batch of pictures, or a list of them."),
                        prefix="picture_",
                        min=1,
                        max=50,
                    ),
                    tooltip="Pictures of one subject, each in its own size: from Load Image, or a whole folder from "
                    "Load Image Dataset from Folder. 10 to 30 different ones work best.",
                ),
                io.String.Input(
                    "static_prompt",
                    display_name="look prompt",
                    multiline=True,
                    tooltip="Describes the look in all pictures, with a token in brackets in front of the subject: a "
                    "[v] dancer in a red dress.",
                ),
                io.Boolean.Input(
                    "look_of_clip",
                    default=False,
                    tooltip="Also learns the look of the clip, under its own token. The clip's subject and the "
                    "pictures' subject need different tokens.",
                ),
            ],
            outputs=[ReferenceWire.Output("reference", tooltip="For Train Identity LoRA.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, **values: object) -> bool | str:
        """Refuse a prompt that cannot be used. Every value arrives as a list; a value from a wire is None."""
        single = {name: value[0] if isinstance(value, list) and value else value for name, value in values.items()}
        prompt = single.get("static_prompt")
        try:
            if isinstance(prompt, str):
                check_tokens(check_prompt(prompt, LOOK_PROMPT), None)
        except PromptError as error:
            return str(error)
        return super().validate_inputs(**single)

    @classmethod
    def execute(
        cls,
        model: list[ModelPatcher],
        reference: list[Reference],
        pictures: Mapping[str, list[Tensor]],
        static_prompt: list[str],
        look_of_clip: list[bool],
    ) -> io.NodeOutput:
        """Fit the pictures to the model, and show their number and sizes."""
        check_video_model(model[0])
        wanted = model_format(model[0])
        found = with_pictures(
            reference[0],
            (batch_FHWC[..., :3] for batches in pictures.values() for batch_FHWC in batches),
            words_of_look(static_prompt[0]),
            multiple=wanted.size_multiple,
            max_pixels=math.prod(wanted.size),
            look_of_clip=look_of_clip[0],
        )
        return io.NodeOutput(found, ui=show_text(_told(found), cls.hidden.unique_id))


def words_of_look(static_prompt: str) -> Words:
    """The prompt of the pictures, together with the first token in it.

    Raises:
        PromptError: it is empty or has no token.
    """
    prompt = check_prompt(static_prompt, LOOK_PROMPT)
    check_tokens(prompt, None)
    return Words(static_prompt=prompt, motion_prompt=prompt, identity_token=TOKEN.findall(prompt)[0])


def _told(reference: Reference) -> str:
    text = f"Using {pictures_in_words(reference)}."
    if num_pictures(reference) < FEW:
        text += " More pictures, from other sides and in other places, make the look more flexible."
    return text
