"""Reference Clip: turns a video of the graph into a clip to learn from."""

import math
import re
from collections.abc import Mapping

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import Input, io
from torch import Tensor

from ..setandseq_core.backbone import VideoFormat
from ..setandseq_core.clips.clip import Clip, ClipTarget, Reference, Words
from ..setandseq_core.clips.stretch import Stretch
from ..setandseq_core.errors import PromptError
from ..setandseq_core.prompts import check_prompt
from .backbone import model_format
from .families import family_of
from .messages import show_text
from .models import check_video_model
from .numbers import CheckedNode
from .settings import STANDARD_FRAMES
from .sources import fitted_mask, source_of
from .wires import CATEGORY, ReferenceWire

SECONDS = 86400.0
"""Largest start and length: a day."""
LOOK_PROMPT, MOTION_PROMPT = "look prompt", "motion prompt"
TOKEN = re.compile(r"\[[^\[\]\s]+\]")


class ReferenceClip(CheckedNode):
    """Prepares a clip for training, with the functions below."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_ReferenceClip",
            display_name="Reference Clip",
            category=CATEGORY,
            description="Prepares a clip for training: resamples, cuts and resizes it for the model, and attaches the "
            "prompts that describe it.",
            search_aliases=["dynamic concept", "training video", "set and sequence", "dataset"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The video model to train. It determines the frame rate and the sizes."
                ),
                io.MultiType.Input(
                    "video",
                    types=[io.Video, io.Image],
                    tooltip="The clip: a VIDEO, or its frames as IMAGE. One to five seconds of one subject.",
                ),
                *prompt_inputs(),
                io.Int.Input(
                    "frames",
                    default=33,
                    min=5,
                    max=1001,
                    tooltip="Maximum number of frames. Models take only certain numbers, such as 5, 9, ... 81 for Wan, "
                    "so it is rounded down.",
                ),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="Width in pixels. 0 derives it from the height. If both are 0, the clip's own size is "
                    "used, up to the size the model was trained on.",
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="Height in pixels. 0 derives it from the width, or from the clip.",
                ),
                io.Float.Input(
                    "image_fps",
                    default=24.0,
                    min=1.0,
                    max=240.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Frame rate of an IMAGE input. A VIDEO carries its own.",
                ),
                *stretch_inputs(),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White on the subject, as one mask or one per video frame. Training nearly ignores "
                    "the rest.",
                ),
            ],
            outputs=[
                ReferenceWire.Output("reference", tooltip="The clip with its prompts, for Train Identity LoRA."),
                io.Image.Output("images", tooltip="The frames used for training. Look at them before you train."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, **values: object) -> bool | str:
        """Refuse a prompt that cannot be used; a prompt from a wire is None."""
        return prompt_complaint(values) or super().validate_inputs(**values)

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        video: Input.Video | Tensor,
        static_prompt: str,
        motion_prompt: str,
        frames: int,
        width: int,
        height: int,
        image_fps: float,
        start: float = 0.0,
        length: float = 0.0,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        check_video_model(model)
        words = words_of(static_prompt, motion_prompt)
        source = source_of(video, image_fps)
        stretch = Stretch(start=start, length=length or None)
        clip = source.clip(target_of(model, frames, width, height), stretch)
        mask_FHW = None if mask is None else fitted_mask(mask, source, clip, stretch)
        notes = [clip.choice + ".", *_warnings(model, clip, words)]
        reference = Reference(clip=clip, words=words, mask_FHW=mask_FHW)
        return io.NodeOutput(reference, clip.frames_FHWC, ui=show_text(" ".join(notes), cls.hidden.unique_id))


def prompt_inputs() -> list[io.Input]:
    """The inputs for both prompts of a clip."""
    return [
        io.String.Input(
            "static_prompt",
            display_name="look prompt",
            multiline=True,
            placeholder="look prompt",
            tooltip="Describes the look, with a token in brackets in front of the subject: a [v] dancer in a "
            "red dress, on a bright stage. Name everything you want to change later, such as the background.",
        ),
        io.String.Input(
            "motion_prompt",
            display_name="motion prompt",
            multiline=True,
            placeholder="motion prompt",
            tooltip="Repeats the look prompt and adds the motion, with a second token in front of it: a [v] "
            "dancer in a red dress [u] spinning, on a bright stage.",
        ),
    ]


def stretch_inputs() -> list[io.Input]:
    """The inputs for the part of a video that is used."""
    return [
        io.Float.Input(
            "start",
            default=0.0,
            min=0.0,
            max=SECONDS,
            step=0.01,
            advanced=True,
            tooltip="Where the clip begins in the video, in seconds. Only the part that is used is decoded.",
        ),
        io.Float.Input(
            "length",
            default=0.0,
            min=0.0,
            max=SECONDS,
            step=0.01,
            advanced=True,
            tooltip="Maximum length in seconds. 0 sets no limit other than the number of frames.",
        ),
    ]


def prompt_complaint(values: Mapping[str, object]) -> str:
    """The reason why the prompts cannot be used; "" if they can. A prompt from a wire is None."""
    prompts = values.get("static_prompt"), values.get("motion_prompt")
    try:
        for prompt, name in zip(prompts, (LOOK_PROMPT, MOTION_PROMPT), strict=True):
            if isinstance(prompt, str):
                check_prompt(prompt, name)
        check_tokens(*(prompt if isinstance(prompt, str) else None for prompt in prompts))
    except PromptError as error:
        return str(error)
    return ""


def check_tokens(static_prompt: str | None, motion_prompt: str | None) -> None:
    """Refuse prompts that give the concept no token, or that say nothing about its motion.

    Raises:
        PromptError: the look prompt has no token, or both prompts are the same.
    """
    if static_prompt is not None and not TOKEN.search(static_prompt):
        raise PromptError(
            f"The look prompt '{static_prompt:.200}' has no token, so the model has no word for your concept.",
            hint="Add [v] in front of the subject, such as: a [v] dancer in a red dress.",
        )
    if static_prompt is not None and static_prompt == motion_prompt:
        raise PromptError(
            "Both prompts are the same, so nothing describes the motion.",
            hint="Add it to the motion prompt, such as: ... [u] spinning.",
        )


def target_of(model: ModelPatcher, frames: int | None = None, width: int = 0, height: int = 0) -> ClipTarget:
    """The clip that a model takes, see `target_for`."""
    return target_for(model_format(model), frames, width, height)


def target_for(wanted: VideoFormat, frames: int | None = None, width: int = 0, height: int = 0) -> ClipTarget:
    """A clip of a format.

    Args:
        wanted: the model's format.
        frames: the most frames; None for as many as Train Concept takes.
        width: in pixels; 0 follows the video, as does a `height` of 0.
        height: in pixels.
    """
    most = min(wanted.frames, STANDARD_FRAMES) if frames is None else frames
    return ClipTarget(
        fps=wanted.fps,
        multiple=wanted.size_multiple,
        size=(height or None, width or None),
        max_frames=max(most, wanted.min_frames),
        time_stride=wanted.time_stride,
        max_pixels=math.prod(wanted.size),
    )


def words_of(static_prompt: str, motion_prompt: str) -> Words:
    """Both prompts with their tokens.

    The identity token is the first word in brackets of the look prompt. The motion token is the first word in brackets
    that only the motion prompt has.

    Raises:
        PromptError: a prompt is empty, the look prompt has no token, or both prompts are the same.
    """
    static_prompt = check_prompt(static_prompt, LOOK_PROMPT)
    motion_prompt = check_prompt(motion_prompt, MOTION_PROMPT)
    check_tokens(static_prompt, motion_prompt)
    identity = TOKEN.findall(static_prompt)
    motion = [token for token in TOKEN.findall(motion_prompt) if token not in identity]
    return Words(
        static_prompt=static_prompt,
        motion_prompt=motion_prompt,
        identity_token=identity[0],
        motion_token=motion[0] if motion else "",
    )


def _warnings(model: ModelPatcher, clip: Clip, words: Words) -> list[str]:
    caution = family_of(model).caution
    found = [caution] if caution else []
    most = model_format(model).frames
    if len(clip.frames_FHWC) > most:
        found.append(f"{most} frames are usual for this model. More need a lot of memory and may look worse.")
    if not words.motion_token:
        found.append("The motion prompt has no token of its own, such as [u], so its words will stand for the motion.")
    return found
