"""The command line: python -m setandseq_core. Its options are an interface; tests/core/cli/ freezes them."""

import argparse
import math
import re
import sys
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import SetAndSequenceError
from .console import EMBEDDED, INTERRUPTED, PROGRAM


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 0 done, 2 an error that was told, 130 stopped by Ctrl-C."""
    options = build_parser().parse_args(arguments)
    try:
        from .commands import COMMANDS
        from .compose import compose
        from .evaluate import evaluate_videos

        return (COMMANDS | {"compose": compose, "evaluate": evaluate_videos})[options.command](options)
    except (SetAndSequenceError, OSError) as error:
        print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options; light, so that help is there at once."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Learn how something looks and how it moves from one clip, and make new clips with it.",
        epilog=f"'{PROGRAM} COMMAND --help' explains a command and shows an example.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    _add_train(commands)
    _add_prior(commands)
    _add_sample(commands)
    _add_compose(commands)
    _add_evaluate(commands)
    _add_inspect(commands)
    _add_export(commands)
    _add_demo(commands)
    return parser


def _add_train(commands: Any) -> None:
    parser = _command(
        commands,
        "train",
        "learn a concept from a video",
        "Learn a concept from one video: first how it looks, from single frames, then how it moves. Ctrl-C keeps what "
        "was learned, and the same command goes on from there. For several concepts in one, give --video and the "
        "options of its clip once for each.",
        "--video lantern.mp4 --out lantern.safetensors",
        "--static-prompt 'a sks lantern, red paper' --dynamic-prompt 'zub swinging'",
    )
    text = "mp4, mov, webm, mkv or gif; several are learned jointly"
    parser.add_argument("--video", type=Path, required=True, action="append", metavar="FILE", help=text)
    each: dict[str, Any] = {"action": "append", "metavar": "TEXT"}
    text = "how it looks, with a rare word for it: 'a sks lantern, red paper'"
    parser.add_argument("--static-prompt", required=True, help=text, **each)
    motion = parser.add_mutually_exclusive_group(required=True)
    text = "how it looks and moves, the whole prompt: 'a sks lantern, red paper, zub swinging'"
    motion.add_argument("--motion-prompt", help=text, **each)
    motion.add_argument("--dynamic-prompt", help="or only what comes after the static prompt", **each)
    text = "the rare word for the look, 'sks' above; kept in the concept as its trigger word"
    parser.add_argument("--identity-token", action="append", metavar="WORD", help=text)
    text = "the rare word for the movement, 'zub' above"
    parser.add_argument("--motion-token", action="append", metavar="WORD", help=text)
    text = "a video, white where the subject is: the rest is hardly learned"
    parser.add_argument("--mask", type=Path, action="append", metavar="FILE", help=text)
    text = "a folder of clips that the command 'prior' made (default: some are made automatically)"
    parser.add_argument("--prior", type=Path, metavar="FOLDER", help=text)
    text = "the concept: a .safetensors file; replaced if it is there"
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=text)
    parser.add_argument("--name", metavar="TEXT", help="title of the concept (default: the name of the file)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings of the method, a TOML file")
    parser.add_argument("--seed", type=_seed, metavar="N", help="same seed, same concept (default: 0)")
    parser.add_argument("--rank", type=_count, metavar="N", help="of the concept's matrices (default: 32)")
    _add_clip(parser, "17 embedded, else as many as the video has, up to 81", "64x64 embedded, else the video's")
    _add_model(parser)


def _add_prior(commands: Any) -> None:
    parser = _command(
        commands,
        "prior",
        "make clips of the model itself, for prior preservation",
        "Make clips of the model itself. Training on some of them too keeps it from forgetting what else it can show. "
        "Clips that are there already are not made again.",
        "--out prior --prompts prompts.txt",
    )
    text = "a text file, a prompt a line in two parts: 'A brown dog | It is running along a beach' (default: our own)"
    parser.add_argument("--prompts", type=Path, metavar="FILE", help=text)
    text = "how many, when there is no --prompts (default: %(default)s)"
    parser.add_argument("--clips", type=_count, default=16, metavar="N", help=text)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to, for 'train --prior'")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="same seed, same clips (default: 0)")
    _add_clip(parser, "17 embedded, else 81", "64x64 embedded, else 832x480")
    _add_model(parser)


def _add_sample(commands: Any) -> None:
    parser = _command(
        commands,
        "sample",
        "make a video, with or without a concept",
        "Make a video from a prompt: with a concept, or with the model alone.",
        "--concept lantern.safetensors --out new.mp4 --motion-strength 1.2",
        "--prompt 'a sks lantern, red paper, in the snow, zub swinging'",
    )
    parser.add_argument("--concept", type=Path, metavar="FILE", help="what train made (default: the model alone)")
    _add_strengths(parser)
    _add_sampling(parser, "the concept's motion prompt")
    text = "an mp4, gif or webm file; replaced if it is there"
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=text)
    _add_clip(parser, "the concept's, else 17 embedded, 81 else", "the concept's, else 64x64 embedded, 832x480 else")
    _add_model(parser)


def _add_compose(commands: Any) -> None:
    parser = _command(
        commands,
        "compose",
        "several concepts in one video",
        "Make a video with several concepts that were trained on their own. An --out that ends in .safetensors makes a "
        "file instead: a plain LoRA of all of them, or with --motion-from a concept.",
        "--concept lantern.safetensors --concept cat.safetensors:1:0.8 --out both.mp4",
        "--method regions --prompt 'a sks lantern, zub swinging, and a skz cat, at night'",
        "--region-prompt 'a sks lantern, zub swinging, at night' --region-prompt 'a skz cat, at night'",
    )
    text = "a concept, with its identity and motion strength if they are not 1; several times for several"
    parser.add_argument("--concept", action="append", required=True, metavar="FILE[:X[:X]]", help=text)
    text = "a concept to take the movement of; both went on from one set stage"
    parser.add_argument("--motion-from", metavar="FILE[:X[:X]]", help=text)
    text = "add: every concept acts everywhere; regions: each acts in its part of the picture (default: %(default)s)"
    parser.add_argument("--method", choices=("add", "regions"), default="add", help=text)
    text = "with regions, where a concept acts, in shares of the frame, once for each (default: stripes, left to right)"
    parser.add_argument("--region", type=_box, action="append", metavar="LEFT,TOP,RIGHT,BOTTOM", help=text)
    text = "with regions, what a concept's region shows, once for each (default: the prompt)"
    parser.add_argument("--region-prompt", action="append", metavar="TEXT", help=text)
    for part in ("identity", "motion"):
        text = f"{part} strength by share of the sampling, such as 0:0,0.3:1; multiplies those above"
        default = ((0.0, 1.0),)
        parser.add_argument(f"--{part}-schedule", type=_points, default=default, metavar="X:X,...", help=text)
    text = "both strengths for the negative prompt, times those above; less shows more of the concepts (default: 1)"
    parser.add_argument("--negative-strength", type=_number, default=1.0, metavar="X", help=text)
    _add_sampling(parser, "the concept's motion prompt, if there is only one concept")
    text = "an mp4, gif or webm file, or a .safetensors file; replaced if it is there"
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=text)
    _add_clip(parser, "the first concept's", "the first concept's")
    _add_model(parser)


def _add_sampling(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--prompt", metavar="TEXT", help=f"what to show (default: {default})")
    parser.add_argument("--negative-prompt", default="", metavar="TEXT", help="what not to show (default: nothing)")
    parser.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="same seed, same video (default: %(default)s)"
    )
    parser.add_argument("--steps", type=_count, default=20, metavar="N", help="more is finer (default: %(default)s)")
    text = "how strictly to follow the prompt; 1 is plain (default: %(default)s)"
    parser.add_argument("--guidance", type=_number, default=4.0, metavar="X", help=text)


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        "measure a generated video: look, movement, prompt, steadiness",
        "Compare a generated video with the video that its concept was learned from and with its prompt. What cannot "
        "be computed is named, with what is missing for it.",
        "--reference lantern.mp4 --video new.mp4 --identity-token sks",
        "--prompt 'a sks lantern, red paper, in the snow' --clip clip-vit-large-patch14",
    )
    text = "the video that the concept was learned from"
    parser.add_argument("--reference", type=Path, required=True, metavar="FILE", help=text)
    parser.add_argument("--video", type=Path, required=True, metavar="FILE", help="the generated video")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="what it was asked to show")
    for part in ("identity", "motion"):
        text = f"the concept's {part} token, which is left out of the prompt; words in brackets are too"
        parser.add_argument(f"--{part}-token", default="", metavar="WORD", help=text)
    text = "a CLIP as transformers saves it, for the prompt, and for the look if there is no --image-model"
    parser.add_argument("--clip", type=Path, metavar="FOLDER", help=text)
    text = "a DINO, face or other image model as transformers saves it, for the look"
    parser.add_argument("--image-model", type=Path, metavar="FOLDER", help=text)
    text = "of these models (default: cuda where there is one)"
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help=text)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the figures there; replaced if it is there"
    )


def _add_inspect(commands: Any) -> None:
    text = "Print what a concept file says about itself: prompts, base model, settings, training."
    parser = _command(commands, "inspect", "print what is in a concept file", text, "lantern.safetensors")
    parser.add_argument("file", type=Path, metavar="FILE", help="the concept")


def _add_export(commands: Any) -> None:
    parser = _command(
        commands,
        "export",
        "write a concept as a plain LoRA",
        "Write a concept as a plain LoRA that stock ComfyUI and diffusers load, with its strengths fixed.",
        "lantern.safetensors --out lantern_lora.safetensors --motion-strength 0.5",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the concept")
    text = "the LoRA: a .safetensors file; replaced if it is there"
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=text)
    _add_strengths(parser)


def _add_demo(commands: Any) -> None:
    text = (
        "Learn the demo concept with the embedded model, make edits of it by prompt, measure them, and lay everything "
        "out in a folder. Minutes on two CPU cores."
    )
    parser = _command(commands, "demo", "see everything work, without any download", text, "--out demo_output")
    text = "where to (default: %(default)s)"
    parser.add_argument("--out", type=Path, default=Path("demo_output"), metavar="FOLDER", help=text)


def _add_strengths(parser: argparse.ArgumentParser) -> None:
    for part, what in (("identity", "look"), ("motion", "motion")):
        text = f"of the concept's {what}; 0 is without (default: %(default)s)"
        parser.add_argument(f"--{part}-strength", type=_number, default=1.0, metavar="X", help=text)


def _add_clip(parser: argparse.ArgumentParser, frames: str, size: str) -> None:
    parser.add_argument("--frames", type=_frames, metavar="N", help=f"4n+1 (default: {frames})")
    parser.add_argument("--size", type=_size, metavar="WxH", help=f"in pixels (default: {size})")


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    text = "a Wan text-to-video model: diffusers folder or single .safetensors file (default: the embedded one)"
    group.add_argument("--model", default=EMBEDDED, metavar="PATH", help=text)
    group.add_argument("--vae", type=Path, metavar="PATH", help="its VAE, when --model is a single file")
    text = "folder with its 'tokenizer' and 'text_encoder', when --model is a single file"
    group.add_argument("--text-encoder", type=Path, metavar="FOLDER", help=text)
    text = "default: cuda where there is one"
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help=text)
    text = "of the transformer; bfloat16 halves its memory (default: %(default)s)"
    group.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help=text)


def _command(commands: Any, name: str, short: str, text: str, *example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=short,
        description=textwrap.fill(text, 79),
        epilog=f"example:\n  {PROGRAM} {name} " + " \\\n    ".join(example),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 0 to {2**32 - 1}")
    return int(text)


def _frames(text: str) -> int:
    if not text.isdecimal() or int(text) < 5 or int(text) % 4 != 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be 4n+1 and at least 5, such as 17")
    return int(text)


def _points(text: str) -> tuple[tuple[float, float], ...]:
    """Points of a schedule, "0:0,0.3:1"."""
    pairs = [pair.split(":") for pair in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} must be share:strength pairs, such as 0:0,0.3:1")
    return tuple((_number(share), _number(strength)) for share, strength in pairs)


def _box(text: str) -> tuple[float, float, float, float]:
    numbers = [_number(number) for number in text.split(",")]
    if len(numbers) != 4 or not (0 <= numbers[0] < numbers[2] <= 1 and 0 <= numbers[1] < numbers[3] <= 1):
        raise argparse.ArgumentTypeError(f"{text!r} must be left,top,right,bottom from 0 to 1, such as 0,0,0.5,1")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _number(text: str) -> float:
    with suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    raise argparse.ArgumentTypeError(f"{text!r} must be a finite number, such as 0.5")


def _size(text: str) -> tuple[int, int]:
    """(height, width) of "WxH"."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} must be width x height in pixels, such as 64x64")
    return int(match[2]), int(match[1])
