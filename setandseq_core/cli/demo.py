"""The command `demo`: show everything on the embedded model."""

from pathlib import Path

import click

from .console import say
from .options import FILE, command


@command("Try everything, without any download.", "--out demo_output")
@click.option(
    "--out",
    type=FILE,
    default=Path("demo_output"),
    show_default=True,
    metavar="FOLDER",
    help="Folder for the results.",
)
def demo(out: Path) -> None:
    """Learn the demo concept with the embedded model and edit it by prompt.

    The videos, measurements and contact sheets go to a folder. This takes minutes on two CPU cores.
    """
    from ..embedded.demo import run_demo
    from .files import check_folder

    check_folder(out)
    run_demo(out, say)
