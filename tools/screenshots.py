"""The pictures in docs/images of what the browser shows: python -m tools.screenshots

Trains a little on the embedded model, so it takes minutes.
"""

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

from tools.comfyui import Server
from tools.comfyui_folder import ROOT
from tools.interface import Ui, write_settings
from tools.make_workflows import FOLDER as WORKFLOWS
from tools.workflows_embedded import START

FOLDER = ROOT / "docs" / "images"
COLOURS = 255
STEPS = {"SetSeq_TrainIdentityLoRA": 60, "SetSeq_TrainMotionResidual": 60}
END_MS = 3_600_000
QUIET = {
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Graph.CanvasMenu": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
"""Settings that leave the picture to the graph."""
FIT = """([types, scale]) => {
  const canvas = window.app.canvas;
  const nodes = window.app.graph.nodes.filter(node => !types.length || types.includes(node.type));
  const left = Math.min(...nodes.map(node => node.pos[0])), top = Math.min(...nodes.map(node => node.pos[1]));
  canvas.ds.scale = scale;
  canvas.ds.offset = [-left + 90 / scale, -top + 110 / scale];
  canvas.setDirty(true, true);
}"""


@contextmanager
def interface(width: int, height: int) -> Iterator[Ui]:
    """ComfyUI in a browser of that size."""
    with TemporaryDirectory() as name, sync_playwright() as driver:
        write_settings(Path(name))
        with (
            Server(Path(name)) as server,
            driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            ) as browser,
        ):
            ui = Ui(browser.new_page(viewport={"width": width, "height": height}), server)
            ui.open()
            for setting, value in QUIET.items():
                ui.set(setting, value)
            yield ui


def save(page: Page, name: str) -> None:
    """The page as a small PNG in docs/images."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)


def start_here() -> dict[str, Any]:
    """The first workflow with fewer steps, and without its videos."""
    workflow = json.loads((WORKFLOWS / f"{START}.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"] in STEPS:
            node["widgets_values"][0] = STEPS[node["type"]]
        if node["type"] == "SetSeq_TrainingSettings":
            node["widgets_values"][0], node["widgets_values"][-1] = 2, 15
        if node["type"] == "SetSeq_Regularisation":
            node["widgets_values"][0] = 0.0
        if node["type"] == "SaveVideo":
            node["mode"] = 2
    return workflow


def panels(ui: Ui) -> None:
    """The panels of both train nodes side by side: dark in the middle of the training, light at its end."""
    ui.render("nodes2")
    ui.load(start_here())
    ui.run()
    first, second = (ui.region("Training").nth(index) for index in (0, 1))
    steps = STEPS["SetSeq_TrainMotionResidual"]
    for name, renderer, palette, text in (
        ("panel", "nodes2", "dark", f"step {steps * 2 // 3} of {steps}"),
        ("panel_light", "canvas", "light", "Learned the motion"),
    ):
        second.get_by_text(text).wait_for(timeout=END_MS)
        ui.set("Comfy.ColorPalette", palette)
        ui.render(renderer)
        ui.page.wait_for_timeout(1000)
        pictures = [part(ui, node_type, panel) for node_type, panel in zip(STEPS, (first, second), strict=True)]
        sheet = Image.new("RGB", (sum(each.width for each in pictures), max(each.height for each in pictures)))
        sheet.paste(pictures[0], (0, 0))
        sheet.paste(pictures[1], (pictures[0].width, 0))
        sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)
    ui.set("Comfy.ColorPalette", "dark")


def part(ui: Ui, node_type: str, element: Locator) -> Image.Image:
    """What a node shows in full size."""
    ui.page.evaluate(FIT, [[node_type], 1.0])
    ui.page.wait_for_timeout(1500)
    return Image.open(io.BytesIO(element.screenshot())).convert("RGB")


def templates(ui: Ui) -> None:
    """The template browser at our section."""
    ui.render("canvas")
    ui.page.evaluate("() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    ui.page.get_by_text("setandseq", exact=True).first.click(timeout=60_000)
    ui.page.wait_for_timeout(3000)
    save(ui.page, "templates")
    ui.page.keyboard.press("Escape")


def whole(ui: Ui) -> None:
    """The first workflow as it opens."""
    ui.render("nodes2")
    ui.load(json.loads((WORKFLOWS / f"{START}.json").read_text(encoding="utf-8")))
    ui.page.evaluate(FIT, [[], 0.44])
    ui.page.wait_for_timeout(2500)
    save(ui.page, "start_here")


def main() -> None:
    """Take them all."""
    FOLDER.mkdir(exist_ok=True)
    with interface(1500, 1000) as ui:
        for take in (templates, whole, panels):
            take(ui)


if __name__ == "__main__":
    main()
