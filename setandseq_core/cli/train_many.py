"""The command `train-many`: learn a concept from each clip of a manifest, on all GPUs of a machine or a cluster."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .console import say, tell, warn
from .options import (
    COUNT,
    EMBEDDED,
    FILE,
    ClipOptions,
    MethodOptions,
    ModelOptions,
    clip_options,
    command,
    method_options,
    model_options,
)

if TYPE_CHECKING:
    from .many_results import Result


@command(
    "Learn a concept from each of many videos.",
    "characters.toml --out characters",
    "--workers 4 --model path/to/Wan2.1-T2V-1.3B-Diffusers --device cuda --dtype bfloat16",
)
@click.argument("manifest", type=FILE, metavar="MANIFEST")
@click.option("--out", type=FILE, required=True, metavar="FOLDER", help="The folder of the concepts and the table.")
@click.option(
    "--workers",
    type=COUNT,
    metavar="N",
    show_default="one for each card",
    help="Processes on this machine.",
)
@click.option("--address", metavar="HOST:PORT", show_default="this machine", help="A Ray cluster to work on instead.")
@click.option("--resume", is_flag=True, help="Keep the concepts that are finished, and do only what is missing.")
@click.option(
    "--clip",
    "clip_model",
    type=FILE,
    metavar="FOLDER",
    help="A CLIP model as transformers saves it, to measure prompt adherence and the look.",
)
@click.option(
    "--image-model",
    type=FILE,
    metavar="FOLDER",
    help="A DINO, face or other image model as transformers saves it, to measure the look.",
)
@method_options
@clip_options(
    "17 embedded, else as many as the video has, up to 81 (LTX: 121)", "64x64 embedded, else near the video's"
)
@model_options
def train_many(
    manifest: Path,
    out: Path,
    workers: int | None,
    address: str | None,
    resume: bool,
    clip_model: Path | None,
    image_model: Path | None,
    method: MethodOptions,
    clip: ClipOptions,
    model: ModelOptions,
) -> None:
    """Learn a concept from each video of MANIFEST, a TOML or CSV file, on several workers at a time.

    The table results.md, also written as results.csv, in the folder of --out shows the state of each concept. If a
    worker is lost, another one resumes its concept. docs/scale.md describes the manifest.
    """
    from ..errors import ConfigError
    from .files import check_folder
    from .manifest import read_manifest
    from .many import train_all
    from .many_results import DONE, FAILED, write_table
    from .many_work import Job, Judges, finished
    from .model import check_clip, format_of
    from .references import method_config

    check_clip(clip, format_of(model))
    entries = read_manifest(manifest, method_config(method, model.model))
    check_folder(out)
    judges = Judges(clip=_absolute(clip_model), image_model=_absolute(image_model))
    job = Job(out=out.absolute(), clip=clip, model=_everywhere(model), judges=judges)
    there = [entry.name for entry in entries if finished(entry, job)]
    if there and not resume:
        raise ConfigError(
            f"{len(there)} of the concepts in {manifest.name} are finished in {out}, such as {there[0]!r}.",
            hint="Add --resume to do only what is missing, or choose another folder with --out.",
        )

    def show(results: "Sequence[Result]") -> None:
        write_table(results, out)
        states = Counter(result.state for result in results)
        tell(", ".join(f"{count} {state}" for state, count in states.items()) + f": {out / 'results.md'}")

    results = train_all(entries, job, address=address, workers=workers or _num_cards(model), tell=show)
    failed = [result for result in results if result.state == FAILED]
    for result in failed:
        warn(f"{result.name}: {result.message}")
    done = sum(result.state == DONE for result in results)
    say(f"{done} of {len(results)} concepts are in {out}; the table is {out / 'results.md'}.")
    if failed:
        raise click.exceptions.Exit(2)


def _everywhere(model: ModelOptions) -> ModelOptions:
    """The options with absolute paths, which mean the same in every worker."""
    return replace(
        model,
        model=model.model if model.model == EMBEDDED else os.path.abspath(model.model),
        vae=_absolute(model.vae),
        text_encoder=_absolute(model.text_encoder),
    )


def _absolute(path: Path | None) -> Path | None:
    return path and path.absolute()


def _num_cards(model: ModelOptions) -> int:
    """Number of GPUs of this machine; 1 if there are none or they are not used."""
    import torch

    return max(torch.cuda.device_count(), 1) if model.device != "cpu" else 1
