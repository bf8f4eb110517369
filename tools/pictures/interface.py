"""Drive ComfyUI's interface in a browser, for tests and screenshots."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Error, Locator, Page

from tools.server.server import Server

RENDERERS = ("canvas", "nodes2")
"""The classic renderer, and Nodes 2.0."""
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "1.47.12",
    "Comfy.Locale": "en",
    "Comfy.Minimap.Visible": False,
    "Comfy.Workflow.Persist": False,
}
"""Settings of the interface: no tour, no news, and a page never restores the one before."""
START_MS = 240_000
OURS = "/extensions/setandseq/"
UNREACHABLE = (
    "net::ERR_",
    "Failed to fetch",
    "404 (Not Found)",
    "Network Error",
    "Content Security Policy",
    "graph accessed before initialization",
    "Unknown message type setandseq.",
)
"""Parts of console errors that the interface itself causes. It looks for news and accounts on the net, and a page that
opens during a training gets messages before the extension that handles them is loaded."""
AUTOGROW_OF_REMOVED = "at autogrowInputDisconnected"
"""Part of an uncaught error of interface 1.58 itself: its growing inputs look at nodes that went into a subgraph."""
REJECTED = ("400 (Bad Request)", "PromptExecutionError")
"""Parts of the interface's own console errors about a prompt that the server rejects."""

LOAD = "workflow => window.app.loadGraphData(workflow, true, false, null, {skipAssetScans: true})"
ADD_NODE = """([type, values]) => {
  const node = window.LiteGraph.createNode(type);
  window.app.graph.add(node);
  for (const widget of node.widgets ?? []) if (widget.name in values) widget.value = values[widget.name];
  return String(node.id);
}"""
CHANGE = """([id, values]) => {
  const node = window.app.canvas.graph.nodes.find(node => String(node.id) === id);
  for (const widget of node.widgets) if (widget.name in values) widget.value = values[widget.name];
}"""
SHOW_NODE = """id => {
  const node = window.app.canvas.graph.getNodeById(id) ?? window.app.canvas.graph.getNodeById(Number(id));
  const canvas = window.app.canvas;
  canvas.ds.scale = 1;
  canvas.ds.offset = [-node.pos[0] + 120, -node.pos[1] + 120];
  canvas.setDirty(true, true);
}"""
WIDGETS = """id => {
  const node = window.app.canvas.graph.getNodeById(id) ?? window.app.canvas.graph.getNodeById(Number(id));
  return Object.fromEntries((node.widgets ?? []).map(widget => [widget.name, widget.value]));
}"""
NODE_ID = "type => String(window.app.canvas.graph.nodes.find(node => node.type === type)?.id ?? '')"


def write_settings(folder: Path) -> None:
    """Write the interface's settings for a server that starts on this folder later."""
    file = folder / "user" / "default" / "comfy.settings.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(SETTINGS), encoding="utf-8")


class Ui:
    """One page of ComfyUI; `errors` collects the errors in its console."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page, self.server, self.errors = page, server, list[str]()
        page.on("console", self._on_console)
        page.on("pageerror", self._on_uncaught)

    def open(self) -> None:
        """Load or reload the page, and wait until it can be used."""
        self.page.goto(self.server.address, timeout=START_MS)
        self.page.wait_for_function("() => window.app?.extensionManager && window.app.vueAppReady", timeout=START_MS)
        self.page.wait_for_function(
            "() => window.LiteGraph?.registered_node_types?.SetSeq_TrainIdentityLoRA", timeout=START_MS
        )
        # Only then has the interface shown its first graph, which would replace nodes that were added before.
        self.page.wait_for_function("() => window.app.extensionManager.spinner === false", timeout=START_MS)

    def render(self, renderer: str) -> None:
        """Choose one of RENDERERS."""
        self.set("Comfy.VueNodes.Enabled", renderer == "nodes2")

    def set(self, name: str, value: object) -> None:
        """Change a setting of the interface."""
        self.page.evaluate("([name, value]) => window.app.extensionManager.setting.set(name, value)", [name, value])

    def load(self, workflow: dict[str, Any]) -> None:
        """Open a workflow as if from a file."""
        self.page.evaluate(LOAD, workflow)

    def add(self, node_type: str, **values: object) -> str:
        """Add a node with these values on its widgets, show it, and return its id."""
        node_id = self.page.evaluate(ADD_NODE, [node_type, values])
        self.show(node_id)
        return node_id

    def change(self, node_id: str, **values: object) -> None:
        """Set the values of a node's widgets."""
        self.page.evaluate(CHANGE, [node_id, values])

    def show(self, node_id: str) -> None:
        """Move the view to a node, at full size."""
        self.page.evaluate(SHOW_NODE, node_id)

    def node(self, node_type: str) -> str:
        """The id of the first node of that type; "" if there is none."""
        return self.page.evaluate(NODE_ID, node_type)

    def widgets(self, node_id: str) -> dict[str, Any]:
        """The values of a node's widgets, by name."""
        return self.page.evaluate(WIDGETS, node_id)

    def saved(self) -> dict[str, Any]:
        """The graph as it would be saved in a workflow file."""
        return self.page.evaluate("() => JSON.parse(JSON.stringify(window.app.graph.serialize()))")

    def prompt(self) -> dict[str, Any]:
        """The graph as it would be queued: inputs by node id."""
        return self.page.evaluate("async () => (await window.app.graphToPrompt()).output")

    def run(self) -> None:
        """Queue the graph, as the Run button does."""
        self.page.evaluate("() => window.app.queuePrompt(0, 1)")

    def region(self, label: str) -> Locator:
        """The part of a node with this label for screen readers."""
        return self.page.get_by_role("region", name=label)

    def toast(self, text: str) -> Locator:
        """The toasts with this text, in old and new frontends."""
        return self.page.locator(".p-toast-message, li[role=alert]").filter(has_text=text)

    @contextmanager
    def rejected(self) -> Iterator[None]:
        """Expect a rejected prompt: the console's messages about it do not count as errors."""
        before = list(self.errors)
        yield
        found = self.errors[len(before) :]
        self.errors[:] = [*before, *(text for text in found if not any(part in text for part in REJECTED))]

    def _on_uncaught(self, error: Error) -> None:
        if AUTOGROW_OF_REMOVED not in (error.stack or ""):
            self.errors.append(f"uncaught: {error.stack or error}")

    def _on_console(self, message: ConsoleMessage) -> None:
        place = message.location.get("url", "")
        if message.type == "error" and (OURS in place or not any(text in message.text for text in UNREACHABLE)):
            self.errors.append(f"{message.text} ({place})")
