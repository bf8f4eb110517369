"""Take small pictures of the browser, for docs and help pages."""

import io
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import sync_playwright

from tools.pictures.interface import Ui, write_settings
from tools.server.frontend import frontend_folder
from tools.server.server import Server

COLOURS = 255
MARGIN = 12
"""Pixels around a node, so that its sockets are not cut."""
SETTLE_MS = 1500
PICTURE_MS = 180_000
QUIET = {
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Graph.CanvasMenu": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
"""Settings that hide everything except the graph."""
FIT = """([id, scale]) => {
  const canvas = window.app.canvas;
  const nodes = window.app.graph.nodes.filter(node => !id || String(node.id) === id);
  const left = Math.min(...nodes.map(node => node.pos[0])), top = Math.min(...nodes.map(node => node.pos[1]));
  canvas.deselectAll();
  canvas.ds.scale = scale;
  canvas.ds.offset = [-left + 90 / scale, -top + 160 / scale];
  canvas.setDirty(true, true);
}"""
BOX = """id => {
  const node = window.app.graph.nodes.find(node => String(node.id) === id);
  const canvas = window.app.canvas, page = canvas.canvas.getBoundingClientRect();
  const [x, y, width, height] = node.getBounding();
  return [page.left + x + canvas.ds.offset[0], page.top + y + canvas.ds.offset[1], width, height];
}"""


@contextmanager
def interface(width: int, height: int, version: str = "") -> Iterator[Ui]:
    """ComfyUI in a browser window of that size, with its own interface or with a release that was fetched."""
    with TemporaryDirectory() as name:
        write_settings(Path(name))
        with Server(Path(name), options=frontend_options(version)) as server, page_on(server, width, height) as ui:
            for setting, value in QUIET.items():
                ui.set(setting, value)
            yield ui


def frontend_options(version: str) -> list[str]:
    """ComfyUI's options for a release of its interface that was fetched; none for "", its own interface."""
    return ["--front-end-root", str(frontend_folder(version))] if version else []


@contextmanager
def page_on(server: Server, width: int, height: int) -> Iterator[Ui]:
    """A browser window of that size on a running ComfyUI."""
    path, flags = shutil.which("chromium"), ["--no-sandbox", "--disable-gpu"]
    with sync_playwright() as driver, driver.chromium.launch(executable_path=path, args=flags) as browser:
        ui = Ui(browser.new_page(viewport={"width": width, "height": height}), server)
        ui.open()
        yield ui


def fit(ui: Ui, node: str = "", scale: float = 1.0) -> None:
    """Move the view to a node, or to all nodes if it is ""."""
    ui.page.evaluate(FIT, [node, scale])
    ui.page.wait_for_timeout(SETTLE_MS)


def node_picture(ui: Ui, node: str) -> Image.Image:
    """A picture of one node in full size, in the current renderer."""
    fit(ui, node)
    element = ui.page.locator(f'[data-node-id="{node}"]')
    box = element.bounding_box() if element.count() else None
    x, y, width, height = (box[key] for key in ("x", "y", "width", "height")) if box else ui.page.evaluate(BOX, node)
    clip = {"x": x - MARGIN, "y": y - MARGIN, "width": width + 2 * MARGIN, "height": height + 2 * MARGIN}
    return opened(ui.page.screenshot(clip=clip, timeout=PICTURE_MS))  # pyright: ignore[reportArgumentType]


def opened(content: bytes) -> Image.Image:
    """Read a picture from its file."""
    return Image.open(io.BytesIO(content)).convert("RGB")


def beside(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures in a row, on the corner colour of the first."""
    size = sum(picture.width for picture in pictures), max(picture.height for picture in pictures)
    sheet = Image.new("RGB", size, pictures[0].getpixel((0, 0)))  # pyright: ignore[reportArgumentType]
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width
    return sheet


def save(picture: Image.Image, path: Path, colours: int = COLOURS) -> None:
    """Save as a PNG with a palette."""
    small = picture.quantize(colours, kmeans=1, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
