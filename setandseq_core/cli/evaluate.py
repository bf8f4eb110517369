"""The command `evaluate`: figures of a generated video beside the video that its concept was learned from."""

import json
import sys
from argparse import Namespace
from pathlib import Path

from ..atomic import replaced
from ..clips.video import read_clip, read_info
from ..embedded.evaluation import embedded_probes
from ..errors import ConfigError
from ..evaluate.embedders import load_embedder
from ..evaluate.metrics import Evaluation, evaluate, without_tokens
from ..prompts import check_prompt
from .model import device_named

FPS = 16.0
"""Frames per second at which a video is read that does not say its own."""


def evaluate_videos(options: Namespace) -> int:
    """Compare two video files, print the figures, and write them as JSON on request."""
    if options.json and (options.json.is_dir() or not options.json.parent.is_dir()):
        raise ConfigError(f"--json is {options.json}; it must be a file in a folder that is there.")
    prompt = check_prompt(options.prompt, "prompt")
    fps = read_info(options.video).fps or FPS
    reference, generated = (
        read_clip(path, fps=fps, multiple=1, frames=None) for path in (options.reference, options.video)
    )
    for path, clip in ((options.reference, reference), (options.video, generated)):
        print(f"{path}: {clip.choice}.", file=sys.stderr, flush=True)
    tokens, device = (options.identity_token, options.motion_token), device_named(options.device)
    clips = reference.frames_FHWC, generated.frames_FHWC
    found = evaluate(
        *clips,
        prompt,
        tokens=tokens,
        image_model=load_embedder(options.image_model, device=device) if options.image_model else None,
        text_model=load_embedder(options.clip, device=device, reads_text=True) if options.clip else None,
        probes=embedded_probes(without_tokens(prompt, tokens), *clips),
    )
    print(found.report())
    if options.json:
        _write_json(options.json, found)
    return 0


def _write_json(path: Path, found: Evaluation) -> None:
    with replaced(path) as partial:
        partial.write_text(json.dumps(found.as_dict(), indent=2) + "\n", encoding="utf-8")
