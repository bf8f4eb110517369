"""Set-and-Sequence: dynamic concepts from one clip, as nodes for ComfyUI."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import SetAndSequence

WEB_DIRECTORY = "./js"
"""What the interface in the browser loads."""


async def comfy_entrypoint() -> "SetAndSequence":
    """What ComfyUI calls; it alone imports the nodes, since tests import this file without ComfyUI."""
    from .nodes import SetAndSequence

    return SetAndSequence()
