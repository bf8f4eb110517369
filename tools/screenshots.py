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
from playwright.sync_api import Page, sync_playwright

from tools.comfyui import Server
from tools.comfyui_folder import ROOT
from tools.interface import Ui, write_settings
from tools.make_workflows import FOLDER as WORKFLOWS
from tools.workflows_embedded import START

FOLDER = ROOT / "docs" / "images"
COLOURS = 128
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


def save(page: Page, name: str, clip: tuple[float, float, float, float] | None = None) -> None:
    """A part of the page, or all of it, as a small PNG in docs/images."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    if clip is not None:
        left, top, width, height = clip
        picture = picture.crop((round(left), round(top), round(left + width), round(top + height)))
    picture.quantize(COLOURS).save(FOLDER / f"{name}.png", optimize=True)


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
    """Both train nodes, in the middle of a training and after it, dark and light, in both renderers."""
    ui.render("canvas")
    ui.load(start_here())
    ui.run()
    motion = ui.region("Training").nth(1)
    motion.get_by_text(f"step {STEPS['SetSeq_TrainMotionResidual'] * 2 // 3}").wait_for(timeout=END_MS)
    for name, renderer, palette in (("panel", "nodes2", "dark"), ("panel_classic_light", "canvas", "light")):
        ui.set("Comfy.ColorPalette", palette)
        ui.render(renderer)
        ui.page.evaluate(FIT, [list(STEPS), 0.8])
        ui.page.wait_for_timeout(2500)
        boxes = [ui.region("Training").nth(index).bounding_box() for index in (0, 1)]
        left, top = (min(box[axis] for box in boxes if box) - 8 for axis in ("x", "y"))
        right = max(box["x"] + box["width"] for box in boxes if box) + 8
        bottom = max(box["y"] + box["height"] for box in boxes if box) + 8
        save(ui.page, name, (left, top, right - left, bottom - top))
    ui.set("Comfy.ColorPalette", "dark")


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
    ui.page.evaluate(FIT, [[], 0.5])
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
