"""What a node shows on itself, in both renderers of the interface."""

from comfy_api.latest import ui
from server import PromptServer


def show_text(text: str, node_id: str) -> ui.PreviewText:
    """Show a text on the node now, and give it to those who read results."""
    PromptServer.instance.send_progress_text(text, node_id)
    return ui.PreviewText(text)
