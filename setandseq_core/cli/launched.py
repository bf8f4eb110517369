"""A command that several processes run together, started by `accelerate launch`."""

import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..training.processes import Processes


@contextmanager
def launched_processes(device: str) -> Generator["Processes"]:
    """The processes that run this command. If there are several, only the first one prints anything inside.

    Args:
        device: "cpu" or "cuda"; with "cuda", every process takes its own GPU.
    Raises:
        BackboneError: there are several processes, and Accelerate is missing.
    """
    from ..training.processes import ALONE, Launched, launched_count

    if launched_count() == 1:
        yield ALONE
        return
    with ExitStack() as quiet:
        processes = Launched(device)
        if processes.number:
            nowhere = quiet.enter_context(open(os.devnull, "w", encoding="utf-8"))
            quiet.enter_context(redirect_stdout(nowhere))
            quiet.enter_context(redirect_stderr(nowhere))
        yield processes
