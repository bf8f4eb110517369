"""The command `train-many`: a concept for each clip of a manifest, on all cards of a machine or of a cluster."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .console import say, tell
from .options import (
    COUNT,
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
    from .many import Row


@command(
    "Learn a concept from each of many videos.",
    "characters.toml --out characters",
    "--workers 4 --model path/to/Wan2.1-T2V-1.3B-Diffusers --device cuda --dtype bfloat16",
)
@click.argument("manifest", type=FILE, metavar="MANIFEST")
@click.option("--out", type=FILE, required=True, metavar="FOLDER", help="The folder of the concepts and the table.")
@click.option("--workers", type=COUNT, default=1, metavar="N", show_default=True, help="Processes on this machine.")
@click.option("--address", metavar="HOST:PORT", show_default="this machine", help="A Ray cluster to work on instead.")
@click.option("--resume", is_flag=True, help="Keep the concepts that are finished, and do only what is missing.")
@method_options
@clip_options("17 embedded, else as many as the video has, up to 81", "64x64 embedded, else near the video's")
@model_options
def train_many(
    manifest: Path,
    out: Path,
    workers: int,
    address: str | None,
    resume: bool,
    method: MethodOptions,
    clip: ClipOptions,
    model: ModelOptions,
) -> None:
    """Learn a concept from each video of MANIFEST, a TOML or CSV file, on several workers at a time.

    The table results.md, also results.csv, in the folder of --out says where each concept stands. If a worker is lost,
    another one resumes its concept. docs/scale.md describes the manifest.
    """
    from ..errors import ConfigError
    from .files import check_folder
    from .manifest import read_manifest
    from .many import Job, finished_row, train_all, write_table
    from .model import device_named
    from .references import method_config

    entries = read_manifest(manifest, method_config(method, model.model))
    check_folder(out)
    job = Job(out=out.absolute(), clip=clip, model=replace(model, device=device_named(model.device)))
    there = [entry.name for entry in entries if finished_row(entry, job)]
    if there and not resume:
        raise ConfigError(
            f"{len(there)} concepts of {manifest.name} are finished in {out}, such as {there[0]!r}.",
            hint="Add --resume to do only what is missing, or choose another folder with --out.",
        )

    def show(rows: "Sequence[Row]") -> None:
        write_table(rows, out)
        tell(f"{sum(row.state != 'waiting' for row in rows)} of {len(rows)} concepts: {out / 'results.md'}")

    rows = train_all(entries, job, address=address, workers=workers, tell=show)
    failed = [row for row in rows if row.state == "failed"]
    for row in failed:
        tell(f"{row.name}: {row.message}")
    say(f"{len(rows) - len(failed)} of {len(rows)} concepts are in {out}; the table is {out / 'results.md'}.")
    if failed:
        raise click.exceptions.Exit(2)
