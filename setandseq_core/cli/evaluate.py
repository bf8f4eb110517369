"""The command `evaluate`: compare a generated video with the one that its concept was trained on."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .console import say, tell
from .files import check_out
from .options import FILE, command, device_option

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluate.metrics import Evaluation

FPS = 16.0
"""Frames per second for a video that does not state its own rate."""


@command(
    "Measure a generated video: look, motion, prompt, steadiness.",
    "--reference lantern.mp4 --video new.mp4 --identity-token sks",
    "--prompt 'a sks lantern, red paper, in the snow' --clip clip-vit-large-patch14",
)
@click.option(
    "--reference",
    type=FILE,
    required=True,
    metavar="FILE",
    help="The video that the concept was trained on.",
)
@click.option("--video", type=FILE, required=True, metavar="FILE", help="The generated video.")
@click.option("--prompt", required=True, metavar="TEXT", help="The prompt of the generated video.")
@click.option(
    "--identity-token",
    default="",
    metavar="WORD",
    help="The concept's identity token. It is removed from the prompt, as are words in brackets.",
)
@click.option(
    "--motion-token",
    default="",
    metavar="WORD",
    help="The concept's motion token, removed from the prompt as well.",
)
@click.option(
    "--clip",
    type=FILE,
    metavar="FOLDER",
    help="A CLIP model in the format of transformers. Measures the prompt, and the look unless --image-model is given.",
)
@click.option(
    "--image-model",
    type=FILE,
    metavar="FOLDER",
    help="A DINO, face or other image model in the format of transformers. Measures the look.",
)
@device_option
@click.option(
    "--json",
    "json_file",
    type=FILE,
    metavar="FILE",
    help="Also write the figures to this file. An existing file is replaced.",
)
def evaluate(
    reference: Path,
    video: Path,
    prompt: str,
    identity_token: str,
    motion_token: str,
    clip: Path | None,
    image_model: Path | None,
    device: str,
    json_file: Path | None,
) -> None:
    """Compare a generated video with the video that its concept was trained on, and with its prompt.

    If a figure cannot be computed, the output names the model that it needs.
    """
    from ..clips.video import read_info
    from ..embedded.evaluation import embedded_probes
    from ..evaluate import metrics
    from ..evaluate.embedders import load_embedder
    from ..prompts import check_prompt
    from .model import device_named

    if json_file:
        check_out(json_file, json_file.suffix.lower(), option="--json")
    prompt = check_prompt(prompt, "prompt")
    fps = read_info(video).fps or FPS
    reference_FHWC = _frames(reference, fps)
    generated_FHWC = _frames(video, fps)
    tokens = (identity_token, motion_token)
    chosen = device_named(device)
    found = metrics.evaluate(
        reference_FHWC,
        generated_FHWC,
        prompt,
        tokens=tokens,
        image_model=load_embedder(image_model, device=chosen) if image_model else None,
        text_model=load_embedder(clip, device=chosen, reads_text=True) if clip else None,
        probes=embedded_probes(metrics.without_tokens(prompt, tokens), reference_FHWC, generated_FHWC),
    )
    say(found.report())
    if json_file:
        _write_json(json_file, found)


def _frames(path: Path, fps: float) -> "Tensor":
    from ..clips.video import read_clip

    clip = read_clip(path, fps=fps, multiple=1, frames=None)
    tell(f"{path}: {clip.choice}.")
    return clip.frames_FHWC


def _write_json(path: Path, found: "Evaluation") -> None:
    from ..atomic import replaced

    with replaced(path) as partial:
        partial.write_text(json.dumps(found.as_dict(), indent=2) + "\n", encoding="utf-8")
