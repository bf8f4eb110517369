"""Another pack beside ours, in the old style: it also has a folder `nodes`, and it imports ComfyUI's own `nodes`."""

from .nodes.probe import NODE_CLASS_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS"]
