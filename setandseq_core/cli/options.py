"""Options that several commands share, and the kinds of their values.

Options that belong together reach a command as one value: `model_options` gives it a `ModelOptions` named `model`.
"""

import math
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path

import click

from .console import PROGRAM

EMBEDDED = "embedded"
"""The value of --model that names the embedded model."""

Size = tuple[int, int]
"""(height, width) in pixels."""
Points = tuple[tuple[float, float], ...]
"""Pairs (progress, strength), ordered by rising progress."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom as shares of the frame."""
Function = Callable[..., None]
Decorator = Callable[[Function], Function]


# --- values -------------------------------------------------------------------------------------------------------


class Parsed(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]  # older releases take none
    """A value that a function parses from text; the function's ValueError says what is needed."""

    def __init__(self, name: str, parse: Callable[[str], object]):
        self.name = name
        self._parse = parse

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Parse the text; a default value is returned as it is."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _number(text: str) -> float:
    needed = f"{text!r} must be a finite number, such as 0.5"
    try:
        number = float(text)
    except ValueError:
        raise ValueError(needed) from None
    if not math.isfinite(number):
        raise ValueError(needed)
    return number


def _frames(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{text!r} must be a number of frames, such as 17")
    return int(text)


def _size(text: str) -> Size:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not match:
        raise ValueError(f"{text!r} must be width x height in pixels, such as 64x64")
    return int(match[2]), int(match[1])


def _points(text: str) -> Points:
    pairs = [pair.split(":") for pair in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{text!r} must be share:strength pairs, such as 0:0,0.3:1")
    return tuple((_number(share), _number(strength)) for share, strength in pairs)


def _box(text: str) -> Box:
    numbers = [_number(number) for number in text.split(",")]
    if len(numbers) != 4 or not (0 <= numbers[0] < numbers[2] <= 1 and 0 <= numbers[1] < numbers[3] <= 1):
        raise ValueError(f"{text!r} must be left,top,right,bottom from 0 to 1, such as 0,0,0.5,1")
    left, top, right, bottom = numbers
    return left, top, right, bottom


FILE = click.Path(path_type=Path)
COUNT = click.IntRange(min=1)
SEED = click.IntRange(0, 2**32 - 1)
NUMBER = Parsed("number", _number)
FRAMES = Parsed("frames", _frames)
SIZE = Parsed("size", _size)
POINTS = Parsed("points", _points)
BOX = Parsed("box", _box)


# --- commands and groups of options -------------------------------------------------------------------------------


def command(short: str, *example: str) -> Callable[[Function], click.Command]:
    """A command with the function's name and docstring as its name and help.

    Args:
        short: one line for the list of commands.
        example: arguments of the example, one line each.
    """

    def decorate(function: Function) -> click.Command:
        name = function.__name__.replace("_", "-")
        lines = textwrap.indent(" \\\n  ".join([f"{PROGRAM} {name} {example[0]}", *example[1:]]), "  ")
        decorator = click.command(name, short_help=short, epilog=f"\b\nExample:\n{lines}")
        return decorator(function)

    return decorate


def together(name: str, kind: type, *options: Decorator) -> Decorator:
    """Options that reach the command as one value.

    Args:
        name: name of the command's parameter.
        kind: a dataclass with a field for each option.
        options: made by `click.option`.
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def gathered(**values: object) -> None:
            own = {item.name: values.pop(item.name) for item in fields(kind)}
            function(**values, **{name: kind(**own)})

        decorated: Function = gathered
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def out_option(text: str) -> Decorator:
    """The required option --out."""
    return click.option("--out", type=FILE, required=True, metavar="FILE", help=text)


float32_option = click.option(
    "--float32",
    is_flag=True,
    help="Store a concept in float32: twice the size of bfloat16, with the same look and motion.",
)


@dataclass(kw_only=True, slots=True, frozen=True)
class ModelOptions:
    """The model that a command works with."""

    model: str
    """Path of the model, or `EMBEDDED`."""
    vae: Path | None
    text_encoder: Path | None
    device: str
    dtype: str


device_option = click.option(
    "--device",
    type=click.Choice(("auto", "cpu", "cuda")),
    default="auto",
    show_default="cuda if there is one",
    help="Device that the model runs on.",
)
model_options = together(
    "model",
    ModelOptions,
    click.option(
        "--model",
        default=EMBEDDED,
        metavar="PATH",
        show_default="the embedded model",
        help="A Wan text-to-video model (a diffusers folder or a single .safetensors file), or a diffusers folder of "
        "LTX-Video or LTX-2.",
    ),
    click.option("--vae", type=FILE, metavar="PATH", help="Its VAE, needed if --model is a single file."),
    click.option(
        "--text-encoder",
        type=FILE,
        metavar="FOLDER",
        help="The folder with its 'tokenizer' and 'text_encoder', needed if --model is a single file.",
    ),
    device_option,
    click.option(
        "--dtype",
        type=click.Choice(("float32", "bfloat16")),
        default="float32",
        show_default=True,
        help="Precision of the transformer. bfloat16 needs half the memory of float32.",
    ),
)


@dataclass(kw_only=True, slots=True, frozen=True)
class ClipOptions:
    """Length and size of a clip; None is a default that depends on the model or the concept."""

    frames: int | None
    size: Size | None


def clip_options(frames: str, size: str) -> Decorator:
    """The options --frames and --size, which reach the command as `clip`.

    Args:
        frames: default number of frames, as worded in the help.
        size: default size, as worded in the help.
    """
    return together(
        "clip",
        ClipOptions,
        click.option(
            "--frames",
            type=FRAMES,
            metavar="N",
            show_default=frames,
            help="Number of frames: 4n+1, such as 17; 8n+1 for LTX-Video and LTX-2.",
        ),
        click.option("--size", type=SIZE, metavar="WxH", show_default=size, help="Width and height in pixels."),
    )


@dataclass(kw_only=True, slots=True, frozen=True)
class StretchOptions:
    """The parts to use of a training's videos, in their order, in seconds; empty uses all from the beginning."""

    start: tuple[float, ...]
    length: tuple[float, ...]


@dataclass(kw_only=True, slots=True, frozen=True)
class WordsOptions:
    """The prompts and tokens of all videos of a training, in their order."""

    static_prompt: tuple[str, ...]
    motion_prompt: tuple[str, ...]
    dynamic_prompt: tuple[str, ...]
    identity_token: tuple[str, ...]
    motion_token: tuple[str, ...]

    @property
    def tokens(self) -> tuple[str, ...]:
        """Identity and motion tokens of all videos."""
        return self.identity_token + self.motion_token


@dataclass(kw_only=True, slots=True, frozen=True)
class MethodOptions:
    """Settings of the method; None leaves them to the settings file or to the model."""

    config: Path | None
    seed: int | None
    rank: int | None


method_options = together(
    "method",
    MethodOptions,
    click.option("--config", type=FILE, metavar="FILE", help="A TOML file with settings of the method."),
    click.option(
        "--seed",
        type=SEED,
        metavar="N",
        show_default="0",
        help="Random seed: the same seed gives the same concept.",
    ),
    click.option("--rank", type=COUNT, metavar="N", show_default="32", help="Rank of the concept's matrices."),
)


@dataclass(kw_only=True, slots=True, frozen=True)
class StrengthOptions:
    """The strengths of a concept."""

    identity_strength: float
    motion_strength: float


strength_options = together(
    "strengths",
    StrengthOptions,
    *(
        click.option(
            f"--{part}-strength",
            type=NUMBER,
            default=1.0,
            metavar="X",
            show_default=True,
            help=f"Strength of the concept's {shown}: 1 is as trained, 0 is off.",
        )
        for part, shown in (("identity", "look"), ("motion", "motion"))
    ),
)


@dataclass(kw_only=True, slots=True, frozen=True)
class SamplingOptions:
    """Options for sampling a video."""

    prompt: str | None
    negative_prompt: str
    seed: int
    steps: int
    guidance: float | None
    """None is the model's own."""


def sampling_options(prompt: str) -> Decorator:
    """Options for sampling a video, which reach the command as `sampling`.

    Args:
        prompt: default prompt, as worded in the help.
    """
    return together(
        "sampling",
        SamplingOptions,
        click.option("--prompt", metavar="TEXT", show_default=prompt, help="Describes the video."),
        click.option(
            "--negative-prompt",
            default="",
            metavar="TEXT",
            show_default="nothing",
            help="Describes what the video must not show.",
        ),
        click.option(
            "--seed",
            type=SEED,
            default=0,
            metavar="N",
            show_default=True,
            help="Random seed: the same seed gives the same video.",
        ),
        click.option(
            "--steps",
            type=COUNT,
            default=20,
            metavar="N",
            show_default=True,
            help="More steps give finer detail.",
        ),
        click.option(
            "--guidance",
            type=NUMBER,
            metavar="X",
            show_default="the model's own",
            help="How strictly the video follows the prompt. 1 turns guidance off.",
        ),
    )
