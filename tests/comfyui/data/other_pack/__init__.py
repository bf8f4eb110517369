"""Another pack beside ours, in the old style: it too has a folder `nodes`, and it reaches ComfyUI's own `nodes`."""

from .nodes.probe import NODE_CLASS_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS"]
