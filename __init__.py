"""Set-and-Sequence: dynamic concepts from one clip, as nodes for ComfyUI."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import SetAndSequence

WEB_DIRECTORY = "./js"
"""The folder that the interface in the browser loads."""


async def comfy_entrypoint() -> "SetAndSequence":
    """The pack, as ComfyUI asks for it; nodes are imported only here, since tests import this file without ComfyUI."""
    from .nodes import SetAndSequence

    return SetAndSequence()
