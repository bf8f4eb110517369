"""A pack for `benchmarks.panel` that counts the processor time of our train nodes and of their panel in a ComfyUI."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS: dict[str, type] = {}
TRAINING = "training"
PARTS = {
    "progress.TrainingProgress": {"__init__": "reference picture", "__call__": "messages", "__exit__": "messages"},
    "previews.Previews": {
        "__init__": "validation losses",
        "validate": "validation losses",
        "sample": "samples on the way",
    },
}
"""Names of the parts that are counted, by class and method."""
AT_THE_END = {"sample": "sample at the end of each stage"}
"""For each method, the name of the part that a call belongs to if its last argument is True."""
SPENT: dict[str, float] = defaultdict(float)
"""Processor seconds of each part, not counting the parts inside it."""
_inside: list[float] = []
_installed: list[bool] = []


def counted(function: Callable[..., Any], part: str, at_the_end: str = "") -> Callable[..., Any]:
    """Wrap a function so that its processor time counts for a part, or for another if its last argument is True."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        begun, name = time.process_time(), at_the_end if at_the_end and args[-1] else part
        _inside.append(0.0)
        try:
            return function(*args, **kwargs)
        finally:
            seconds = time.process_time() - begun
            SPENT[name] += seconds - _inside.pop()
            if _inside:
                _inside[-1] += seconds

    return call


def install() -> None:
    """Start counting in our pack, which ComfyUI has loaded by the time of the first request."""
    pack = next(name for name in sys.modules if name.endswith("setandseq") and hasattr(sys.modules[name], "__path__"))
    for name, methods in PARTS.items():
        module, found = name.split(".")
        shown = getattr(import_module(f"{pack}.nodes.{module}"), found)
        for method, part in methods.items():
            setattr(shown, method, counted(getattr(shown, method), part, AT_THE_END.get(method, "")))
    training = import_module(f"{pack}.nodes.training")
    for node in (training.TrainIdentityLoRA, training.TrainMotionResidual):
        node.execute = classmethod(counted(node.execute.__func__, TRAINING))


@PromptServer.instance.routes.get("/panel_probe")
async def probe(_: web.Request) -> web.Response:
    """Processor time spent since the last request; the first request begins the count."""
    if not _installed:
        install()
        _installed.append(True)
    answer = dict(SPENT)
    SPENT.clear()
    return web.json_response(answer)
