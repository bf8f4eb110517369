"""Reference Clip: from a graph's video to what the model can learn from."""

import math
import re
from dataclasses import dataclass

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import Input, io
from torch import Tensor

from ..setandseq_core.clips.clip import Clip, Reference, Words, fit_clip
from ..setandseq_core.errors import PromptError, VideoError
from ..setandseq_core.prompts import check_prompt
from .backbone import model_format
from .messages import show_text
from .models import check_video_model
from .numbers import CheckedNode
from .wires import CATEGORY, ReferenceWire

MODEL_FRAMES = 81
"""What Wan was trained on at most; longer clips work, but worse."""
TOKEN = re.compile(r"\[[^\[\]\s]+\]")


class ReferenceClip(CheckedNode):
    """The node; its work is in the functions below."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs; frozen in tests/comfyui/test_server.py."""
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
                io.String.Input(
                    "static_prompt",
                    multiline=True,
                    tooltip="Describes the look, with a token in brackets in front of the subject: a [v] dancer in a "
                    "red dress, on a bright stage. Name everything you want to change later, such as the background.",
                ),
                io.String.Input(
                    "motion_prompt",
                    multiline=True,
                    tooltip="Repeats the static prompt and adds the motion, with a second token in front of it: a [v] "
                    "dancer in a red dress [u] spinning, on a bright stage.",
                ),
                io.Int.Input(
                    "frames",
                    default=81,
                    min=5,
                    max=1001,
                    tooltip="Largest number of frames to use. Models need 4n+1 "
                    "frames (5, 9, ... 81), so it is rounded down.",
                ),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="In pixels. 0 follows from the height. If both are 0, the clip's own size is used, up to "
                    "the size the model was trained on.",
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="In pixels. 0 follows from the width, or from the clip.",
                ),
                io.Float.Input(
                    "image_fps",
                    default=24.0,
                    min=1.0,
                    max=240.0,
                    step=0.01,
                    tooltip="Frame rate of an IMAGE input. A VIDEO carries its own.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White on the subject, as one mask or one per frame. The training mostly ignores what lies "
                    "outside.",
                ),
            ],
            outputs=[
                ReferenceWire.Output("reference", tooltip="For both train nodes."),
                io.Image.Output("images", tooltip="The frames used for training. Look at them before you train."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, **values: object) -> bool | str:
        """Refuse a prompt that cannot be used; one that comes by a wire is None."""
        prompts = values.get("static_prompt"), values.get("motion_prompt")
        try:
            for prompt, name in zip(prompts, ("static prompt", "motion prompt"), strict=True):
                if isinstance(prompt, str):
                    check_prompt(prompt, name)
        except PromptError as error:
            return str(error)
        return super().validate_inputs(**values)

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
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        """Fit the clip and tell what was chosen."""
        check_video_model(model)
        words = words_of(static_prompt, motion_prompt)
        source = source_frames(video, image_fps)
        target = Target(model=model, frames=frames, width=width, height=height)
        clip = target.fit(source)
        mask_FHW = None if mask is None else target.fit_mask(mask, source)
        notes = [clip.choice + ".", *_warnings(clip, words)]
        reference = Reference(clip=clip, words=words, mask_FHW=mask_FHW)
        return io.NodeOutput(reference, clip.frames_FHWC, ui=show_text(" ".join(notes), cls.hidden.unique_id))


@dataclass(kw_only=True, slots=True, frozen=True)
class Source:
    """The clip as it came."""

    frames_FHWC: Tensor
    fps: float


@dataclass(kw_only=True, slots=True, frozen=True)
class Target:
    """What the clip should become."""

    model: ModelPatcher
    frames: int
    width: int
    height: int

    def fit(self, source: Source) -> Clip:
        """The clip as the model takes it.

        Raises:
            VideoError: it is too short, or the size cannot be had.
        """
        wanted = model_format(self.model)
        return fit_clip(
            source.frames_FHWC,
            source.fps,
            fps=wanted.fps,
            multiple=wanted.size_multiple,
            size=(self.height or None, self.width or None),
            max_frames=self.frames,
            max_pixels=math.prod(wanted.size),
        )

    def fit_mask(self, mask_FHW: Tensor, source: Source) -> Tensor:
        """The mask of the fitted frames, (F, H, W) in [0, 1].

        Raises:
            VideoError: there are neither one nor as many masks as frames, or it marks nothing.
        """
        length, height, width, _ = source.frames_FHWC.shape
        if len(mask_FHW) not in (1, length) or mask_FHW.shape[1:] != (height, width):
            raise VideoError(
                f"The mask has {len(mask_FHW)} pictures of {mask_FHW.shape[2]}x{mask_FHW.shape[1]}, but the clip has "
                f"{length} of {width}x{height}.",
                hint="Connect one mask, or one per frame, of the same size as the clip.",
            )
        pictures = mask_FHW.float().clamp(0, 1).expand(length, -1, -1).unsqueeze(-1).expand(-1, -1, -1, 3)
        fitted_FHW = self.fit(Source(frames_FHWC=pictures, fps=source.fps)).frames_FHWC[..., 0]
        if not fitted_FHW.max() > 0.5:
            raise VideoError(
                "The mask is black: it marks no subject.",
                hint="Paint the subject white, or disconnect the mask.",
            )
        return fitted_FHW


def source_frames(video: "Input.Video | Tensor", image_fps: float) -> Source:
    """Frames (F, H, W, 3) in [0, 1] and their rate; transparency is left out.

    Raises:
        VideoError: there are no frames, or a single picture.
    """
    if isinstance(video, Tensor) and len(video) == 1:
        raise VideoError(
            "The clip is a single picture, so nothing moves in it.",
            hint="Connect a video from Load Video, or at least 5 frames.",
        )
    if isinstance(video, Tensor):
        return Source(frames_FHWC=video[..., :3], fps=image_fps)
    components = video.get_components()
    if len(components.images) == 0:
        raise VideoError(
            "The video has no pictures. It may contain only sound.",
            hint="Choose a video with pictures.",
        )
    return Source(frames_FHWC=components.images[..., :3], fps=float(components.frame_rate))


def words_of(static_prompt: str, motion_prompt: str) -> Words:
    """The prompts with their tokens: the first in brackets, and the first that only the motion prompt has.

    Raises:
        PromptError: a prompt is empty, or the motion prompt lacks the identity token.
    """
    static_prompt = check_prompt(static_prompt, "static prompt")
    motion_prompt = check_prompt(motion_prompt, "motion prompt")
    identity = TOKEN.findall(static_prompt)
    motion = [token for token in TOKEN.findall(motion_prompt) if token not in identity]
    return Words(
        static_prompt=static_prompt,
        motion_prompt=motion_prompt,
        identity_token=identity[0] if identity else "",
        motion_token=motion[0] if motion else "",
    )


def _warnings(clip: Clip, words: Words) -> list[str]:
    found = []
    if len(clip.frames_FHWC) > MODEL_FRAMES:
        found.append(f"Wan was trained on at most {MODEL_FRAMES} frames. More need a lot of memory and may look worse.")
    if not words.identity_token:
        found.append("The static prompt has no token, such as [v], so its ordinary words will stand for the look.")
    if not words.motion_token:
        found.append("The motion prompt has no token of its own, such as [u], so its words will stand for the motion.")
    if words.static_prompt == words.motion_prompt:
        found.append("Both prompts are the same. Describe the motion in the motion prompt.")
    return found
