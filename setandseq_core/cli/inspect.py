"""The command `inspect`: print the contents of a concept file."""

from pathlib import Path

import click

from .console import say, visible
from .options import FILE, command


@command("Print the contents of a concept file.", "lantern.safetensors")
@click.argument("file", type=FILE, metavar="FILE")
def inspect(file: Path) -> None:
    """Print what a concept file says about itself: its prompts, base model, settings and training."""
    from ..concept_file.export import describe
    from ..concept_file.file import load_concept

    say(visible(describe(load_concept(file))))
