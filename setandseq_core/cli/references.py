"""Make reference clips for training from videos, prompts and masks."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..backbone import VideoFormat
from ..clips.clip import ClipTarget, Reference, Words
from ..clips.size import WantedSize
from ..clips.stretch import Stretch
from ..clips.video import read_info, read_stretch
from ..config import MethodConfig, read_config
from ..embedded.model import EMBEDDED_CONFIG
from ..errors import ConfigError
from ..prompts import check_prompt, motion_prompt
from .console import tell
from .model import Model
from .options import EMBEDDED, ClipOptions, MethodOptions, StretchOptions, WordsOptions

Given = TypeVar("Given")


def words_of(options: WordsOptions, count: int) -> list[Words]:
    """The prompts and tokens of each of `count` videos.

    Raises:
        ConfigError: an option is not given once for each video.
        PromptError: a prompt is empty, or lacks its token.
    """
    whole = bool(options.motion_prompt)
    motion = each("--motion-prompt", options.motion_prompt, count, "")
    dynamic = each("--dynamic-prompt", options.dynamic_prompt, count, "")
    static = each("--static-prompt", options.static_prompt, count, "")
    identity_tokens = each("--identity-token", options.identity_token, count, "")
    motion_tokens = each("--motion-token", options.motion_token, count, "")
    found: list[Words] = []
    for index in range(count):
        looks = check_prompt(static[index], "static prompt")
        if whole:
            moves = check_prompt(motion[index], "motion prompt")
        else:
            moves = motion_prompt(looks, check_prompt(dynamic[index], "dynamic prompt"))
        words = Words(
            static_prompt=looks,
            motion_prompt=check_prompt(moves, "motion prompt"),
            identity_token=identity_tokens[index],
            motion_token=motion_tokens[index],
        )
        found.append(words)
    return found


def stretches_of(options: StretchOptions, count: int) -> list[Stretch]:
    """The part to learn from in each of `count` videos.

    Raises:
        ConfigError: an option is not given once for each video.
        VideoError: a start is negative, or a length is not above 0.
    """
    starts = each("--start", options.start, count, 0.0)
    lengths: Sequence[float | None] = each("--length", options.length, count, None)
    return [Stretch(start=start, length=length) for start, length in zip(starts, lengths, strict=True)]


def each(option: str, given: Sequence[Given], count: int, default: Given) -> Sequence[Given]:
    """An option's value for each of `count` videos; the default for each if the option is not given.

    Raises:
        ConfigError: the option is not given once for each video.
    """
    if given and len(given) != count:
        raise ConfigError(
            f"There are {count} videos, but {len(given)} times {option}.",
            hint="Give it once for each --video, in the same order.",
        )
    return given or [default] * count


def method_config(options: MethodOptions, model: str) -> MethodConfig:
    """The settings of the method: options over the file of --config over the defaults for the model.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    config = EMBEDDED_CONFIG if model == EMBEDDED else MethodConfig()
    if options.config:
        config = read_config(options.config, config)
    seed = config.seed if options.seed is None else options.seed
    rank = config.rank if options.rank is None else options.rank
    return replace(config, seed=seed, rank=rank)


def check_videos(*paths: Path | None) -> None:
    """Refuse files that are not videos before the model is loaded, which can take minutes.

    Raises:
        VideoError: a file is not a video; the message names it.
    """
    for path in paths:
        if path is not None:
            read_info(path)


def read_reference(
    video: Path,
    mask: Path | None,
    words: Words,
    stretch: Stretch,
    options: ClipOptions,
    model: Model,
) -> Reference:
    """Read the same stretch of a video and its mask, fitted to the model, and tell the user what was chosen.

    Raises:
        VideoError: a file cannot be used.
    """
    backbone = model.backbone
    target = _target(backbone.format, options.frames or model.frames, options.size or model.size)
    clip = read_stretch(video, target, stretch)
    tell(f"{video}: {clip.choice}.")
    if mask is None:
        return Reference(clip=clip, words=words)
    length, height, width = clip.frames_FHWC.shape[:3]
    shown = read_stretch(mask, _target(backbone.format, length, (height, width)), stretch)
    return Reference(clip=clip, words=words, mask_FHW=shown.frames_FHWC.mean(-1))


def _target(format: VideoFormat, frames: int | None, size: WantedSize | None) -> ClipTarget:
    return ClipTarget(
        fps=format.fps,
        multiple=format.size_multiple,
        frames=frames,
        size=size,
        max_frames=format.frames,
        time_stride=format.time_stride,
        max_pixels=math.prod(format.size),
    )
