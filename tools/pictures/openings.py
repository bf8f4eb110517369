"""Take pictures of templates as they open on two screen sizes: python -m tools.pictures.openings FOLDER [VERSION]

They show the workflows that open at full size or nearly so, in both renderers of a release of the interface.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.pictures.interface import RENDERERS, Ui
from tools.pictures.pictures import PICTURE_MS, interface, opened, save
from tools.workflows import embedded, image_to_video, lora, wan
from tools.workflows.make import FOLDER as WORKFLOWS

SMALL_WINDOW, LARGE_WINDOW = (1366, 768), (1600, 1000)
COLOURS = 128
NAMES = embedded.START, wan.TRAIN, lora.NAME, image_to_video.NAME
SETTLE_MS, MOST_LOOKS = 1200, 10
OPEN = """workflow => window.app.loadGraphData(
  workflow, true, true, null, { openSource: 'template', skipAssetScans: true })"""
LOOK = """() => {
  const { canvas, graph } = window.app;
  const { scale, offset } = canvas.ds;
  const boxes = {}, shown = {}, wires = [];
  for (const node of graph.nodes) {
    let [x, y, width, height] = node.boundingRect;
    const element = document.querySelector(`[data-node-id="${node.id}"]`);
    if (element) height = Math.max(height, element.offsetHeight);
    boxes[node.title] = [x, y, x + width, y + height];
    const [left, top] = [scale * (x + offset[0]), scale * (y + offset[1])];
    shown[node.title] = [left, top, left + scale * width, top + scale * height];
  }
  for (const link of Object.values(Object.fromEntries(graph.links))) {
    const [from, to] = [graph.getNodeById(link.origin_id), graph.getNodeById(link.target_id)];
    wires.push({
      name: `${from.title} ${from.outputs[link.origin_slot].name}`,
      start: [...from.getOutputPos(link.origin_slot)], end: [...to.getInputPos(link.target_slot)],
    });
  }
  return { scale, boxes, shown, wires };
}"""
"""Returns the view's scale; each node's left, top, right and bottom, on the graph and in the window; and the wires."""


@contextmanager
def opened_template(ui: Ui, name: str, window: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """Open a template in a window of that size, and yield the result of `LOOK`."""
    before = ui.page.viewport_size
    width, height = window
    ui.page.set_viewport_size({"width": width, "height": height})
    ui.page.wait_for_timeout(200)
    ui.page.evaluate(OPEN, json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8")))
    yield _settled(ui)
    if before:
        ui.page.set_viewport_size(before)


def _settled(ui: Ui) -> dict[str, Any]:
    """The result of `LOOK` once nothing moves any more; the interface measures its nodes after it has drawn them."""
    look = ui.page.evaluate(LOOK)
    for _ in range(MOST_LOOKS):
        ui.page.wait_for_timeout(SETTLE_MS)
        before, look = look, ui.page.evaluate(LOOK)
        if look == before:
            break
    return look


def main() -> None:
    """Take all pictures."""
    folder, *version = sys.argv[1:]
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    with interface(*SMALL_WINDOW, *version) as ui:
        for window in (SMALL_WINDOW, LARGE_WINDOW):
            for renderer in RENDERERS:
                ui.render(renderer)
                for name in NAMES:
                    with opened_template(ui, name, window) as look:
                        file = f"{name.split()[0]}_{window[0]}_{renderer}.png"
                        save(opened(ui.page.screenshot(timeout=PICTURE_MS)), out / file, COLOURS)
                        print(f"{file}: {look['scale']:.0%}")


if __name__ == "__main__":
    main()
