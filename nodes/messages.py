"""Shows text on a node, in both renderers of the interface."""

from comfy_api.latest import ui
from server import PromptServer

from ..setandseq_core.errors import shown


def show_text(text: str, node_id: str) -> ui.PreviewText:
    """Show a text on the node now, and add it to the results of the run."""
    safe = shown(text)  # a lone surrogate, from a file name that is not UTF-8, would end ComfyUI's queue
    PromptServer.instance.send_progress_text(safe, node_id)
    return ui.PreviewText(safe)
