"""The command `clean`: show what trainings keep on disk, and remove it."""

from pathlib import Path

import click

from .console import say, visible
from .options import FILE, command

TRAINING_SUFFIX = ".training"


@command("Remove the files that trainings keep on disk.", "--yes .")
@click.argument("folder", type=FILE, metavar="FOLDER", default=".")
@click.option("--yes", is_flag=True, help="Remove the files. Without this option their size is only shown.")
def clean(folder: Path, yes: bool) -> None:
    """Show how much disk space the saved states of trainings use in a folder, and remove their files.

    They are in the folders NAME.safetensors.training that 'train' makes and, in ComfyUI, in user/setandseq/training.
    Concepts are kept. A training whose files are removed can no longer be resumed or given more steps.
    """
    from ..training.kept import empty_kept, kept_bytes, kept_files

    found = [each for each in (folder, *sorted(folder.glob(f"*{TRAINING_SUFFIX}"))) if kept_files(each)]
    total = 0
    for each in found:
        say(visible(f"{each}: {len(kept_files(each))} files, {_mib(kept_bytes(each))}"))
        total += empty_kept(each) if yes else kept_bytes(each)
    if yes:
        say(f"Removed {_mib(total)}.")
    else:
        say(f"{_mib(total)} in all." + " Add --yes to remove it." * bool(total))


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
