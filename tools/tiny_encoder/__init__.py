"""A pack for ComfyUI in which *Load CLIP* gives the text encoder of the embedded model, whatever file is chosen.

With it, the workflows for Wan run in the browser on tiny models: ComfyUI knows only one size of Wan's text encoder.
"""

from importlib import import_module
from typing import Any

NODE_CLASS_MAPPINGS: dict[str, type] = {}
__all__ = ["NODE_CLASS_MAPPINGS"]


def _load_clip(*_: object, **__: object) -> tuple[Any, ...]:
    return import_module("nodes").NODE_CLASS_MAPPINGS["SetSeq_EmbeddedTextEncoder"].execute().result


import_module("nodes").CLIPLoader.load_clip = _load_clip
