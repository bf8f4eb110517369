"""Make the thumbnails of the workflows: python -m tools.pictures.thumbnails (takes minutes; needs chromium)

The rows of a thumbnail are videos of the workflow on the embedded model. Two workflows for large models show the same
videos with a caption that says so; the others show their nodes. Results are kept in build/thumbnails. The rows of
*3 Compose two concepts* come from `python -m benchmarks.composition --rows build/thumbnails/pictures`.
"""

import json
import shutil
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from setandseq_core.clips.video import read_clip
from setandseq_core.concept_file.thumbnail import thumbnail
from setandseq_core.embedded.demo import run_demo
from setandseq_core.embedded.files import CLIP_FILE
from tools.pictures.interface import Ui
from tools.pictures.pictures import interface, opened
from tools.sample_concept import save_sample
from tools.server.folder import ROOT
from tools.workflows import embedded, wan
from tools.workflows.make import FOLDER as WORKFLOWS
from tools.workflows.make import READ_FPS, film_strips, write_thumbnails

FOLDER = ROOT / "build" / "thumbnails"
CLIP = "clip"
ROWS = {
    embedded.START: (CLIP, "reconstructed", "pink"),
    embedded.TRAIN: (CLIP, "reconstructed", "green"),
    embedded.USE: ("reconstructed", "pink", "calm"),
    wan.TRAIN: (CLIP, "reconstructed", "star"),
    wan.SHARED: ("reconstructed", "green", "no_motion"),
}
"""The demo's videos in each thumbnail."""
CAPTIONED = (wan.TRAIN, wan.SHARED)
CAPTION, CAPTION_HEIGHT, FONT_SIZE = "the same on the small embedded model", 26, 17
WINDOW, PICTURE = (1500, 1060), (1280, 960)
"""Pixels of the browser window, and of the part of it that is free of other interface elements."""
LEFT, TOP = 80, 95
PARTS = {
    wan.EXPERTS: (430, -80, 880),
    wan.PIPELINE: (430, -80, 1320),
    wan.TRAIN_EXPERTS: (430, -80, 880),
}
"""Left, top and width of the visible part of each graph."""
LOOK = """([left, top, scale, x, y]) => {
  const canvas = window.app.canvas;
  canvas.deselectAll();
  canvas.ds.scale = scale;
  canvas.ds.offset = [x / scale - left, y / scale - top];
  canvas.setDirty(true, true);
}"""
SETTLE_MS = 3000


def demo_rows(out: Path) -> None:
    """Make thumbnails from the demo's videos for the workflows in `ROWS`."""
    demo = FOLDER / "demo"
    if not (demo / "report.json").exists():
        run_demo(demo, print)
        shutil.copy(CLIP_FILE, demo / f"{CLIP}.mp4")
    for name, videos in ROWS.items():
        rows = [read_clip(demo / f"{video}.mp4", fps=READ_FPS, multiple=2).frames_FHWC for video in videos]
        picture = film_strips(rows)
        (captioned(picture) if name in CAPTIONED else picture).save(out / f"{name}.png")


def captioned(picture: Image.Image) -> Image.Image:
    """Draw a line at the bottom of the picture that says where it comes from."""
    draw, top = ImageDraw.Draw(picture), picture.height - CAPTION_HEIGHT
    draw.rectangle((0, top, picture.width, picture.height), fill="black")
    middle = picture.width // 2, top + CAPTION_HEIGHT // 2
    draw.text(middle, CAPTION, fill="white", font=ImageFont.load_default(FONT_SIZE), anchor="mm")
    return picture


def graphs(out: Path) -> None:
    """Make thumbnails that show a part of the graph, with the demo's concept in its nodes."""
    clip = read_clip(CLIP_FILE, fps=READ_FPS)
    with interface(*WINDOW) as ui:
        inputs = ui.server.folder / "input"
        inputs.mkdir(exist_ok=True)
        shutil.copy(CLIP_FILE, inputs / "my_clip.mp4")
        for name in ("my_concept",):
            picture = thumbnail(clip.frames_FHWC, clip.fps)
            save_sample(ui.server.folder / "models" / "dynamic_concepts" / f"{name}.safetensors", thumbnail=picture)
        ui.page.evaluate("() => window.app.refreshComboInNodes()")
        ui.render("nodes2")
        for name, part in PARTS.items():
            graph_picture(ui, name, part).save(out / f"{name}.png")


def graph_picture(ui: Ui, name: str, part: tuple[float, float, float]) -> Image.Image:
    """A picture of part of a workflow in the browser; `part` is its left, top and width."""
    (left, top, across), (width, height) = part, PICTURE
    ui.load(json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8")))
    ui.page.evaluate(LOOK, [left, top, width / across, LEFT, TOP])
    ui.page.wait_for_timeout(SETTLE_MS)
    return opened(ui.page.screenshot(clip={"x": LEFT, "y": TOP, "width": width, "height": height}))


def main() -> None:
    """Make all thumbnails."""
    out = FOLDER / "pictures"
    out.mkdir(parents=True, exist_ok=True)
    for make in (demo_rows, graphs):
        make(out)
    for name in write_thumbnails(out):
        print(f"nothing for: {name}")


if __name__ == "__main__":
    main()
