"""Messages about errors, and zooming over our widgets, in a real browser."""

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from tools.pictures.interface import Ui
from tools.workflows.embedded import TRAIN
from tools.workflows.make import FOLDER

SCALE = "() => window.app.canvas.ds.scale"
WAIT_MS = 60_000
MUTED = 2


def start_here(node_type: str, widget: int, value: str) -> dict[str, Any]:
    """The training workflow without its videos and with another value on the node of that type."""
    workflow = json.loads((FOLDER / f"{TRAIN}.json").read_text(encoding="utf-8"))
    for video in (node for node in workflow["nodes"] if node["type"] == "SaveVideo"):
        video["mode"] = MUTED
    (node,) = (node for node in workflow["nodes"] if node["type"] == node_type)
    node["widgets_values"][widget] = value
    return workflow


@pytest.mark.every_frontend
@pytest.mark.parametrize(
    ("widget", "value", "message"),
    [
        (0, " ", "The look prompt is empty. Describe the clip in words"),
        (1, "\n", "The motion prompt is empty. Describe the clip in words"),
    ],
    ids=["no static prompt", "no motion prompt"],
)
def test_a_rejected_prompt_says_at_once_and_once_what_to_do(canvas: Ui, widget: int, value: str, message: str) -> None:
    canvas.load(start_here("SetSeq_ReferenceClip", widget, value))
    with canvas.rejected():
        canvas.run()
        expect(canvas.toast(message)).to_have_count(1, timeout=WAIT_MS)
    expect(canvas.toast(message)).to_contain_text("Reference Clip")


@pytest.mark.parametrize(
    ("node_type", "widget", "value", "message"),
    [
        ("SetSeq_ReferenceClip", 1, "a bee", "does not hold it"),
        ("VAELoader", 0, "pixel_space", "Connect the VAE that belongs to the model."),
    ],
    ids=["lost token", "wrong VAE"],
)
def test_an_error_says_at_once_and_once_what_to_do(
    canvas: Ui, node_type: str, widget: int, value: str, message: str
) -> None:
    canvas.load(start_here(node_type, widget, value))
    canvas.run()
    expect(canvas.toast(message)).to_have_count(1, timeout=WAIT_MS)


def test_the_wheel_zooms_over_what_our_nodes_show(ui: Ui) -> None:
    ui.add("SetSeq_TrainIdentityLoRA")
    panel = ui.region("Training")
    expect(panel).to_be_visible()
    before = ui.page.evaluate(SCALE)
    panel.hover()
    ui.page.mouse.wheel(0, 120)
    ui.page.wait_for_function(f"before => ({SCALE})() < before", arg=before)
