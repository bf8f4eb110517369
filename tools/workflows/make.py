"""Write the files in workflows/: python -m tools.workflows.make [--thumbnails FOLDER]

It starts a ComfyUI to ask for its nodes. With --thumbnails it only makes the pictures for ComfyUI's template browser,
from files in FOLDER: videos whose names begin with a workflow's name, or else a picture with the name of the workflow.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from setandseq_core.clips.video import read_clip
from tools.server.server import Server
from tools.workflows import embedded, image_to_video, lora, wan
from tools.workflows.graph import Graph

FOLDER = Path(__file__).parents[2] / "workflows"
MAKERS: dict[str, Callable[[dict[str, Any]], Graph]] = {
    embedded.START: embedded.start_workflow,
    embedded.TRAIN: embedded.train_workflow,
    embedded.USE: embedded.use_workflow,
    embedded.COMPOSE: embedded.compose_workflow,
    wan.TRAIN: wan.train_workflow,
    wan.EXPERTS: wan.experts_workflow,
    wan.SHARED: wan.shared_workflow,
    wan.PIPELINE: wan.pipeline_workflow,
    wan.TRAIN_EXPERTS: wan.train_experts_workflow,
    lora.NAME: lora.lora_workflow,
    image_to_video.NAME: image_to_video.image_to_video_workflow,
}
"""Functions that build the workflows, by file name and in the order of the template browser."""
COLUMNS, ROWS, CELL = 4, 3, 100
"""Layout of a thumbnail: frames per row, rows, and pixels per side of a frame."""
READ_FPS = 16.0


def workflow_texts(object_info: dict[str, Any]) -> dict[str, str]:
    """The content of every workflow file, by file name."""
    return {f"{name}.json": make(object_info).text() for name, make in MAKERS.items()}


def write_thumbnails(source: Path) -> list[str]:
    """Make the thumbnail of every workflow with files in `source`; return the names of the others."""
    missing = []
    for name in MAKERS:
        picture = _thumbnail(source, name)
        if picture is None:
            missing.append(name)
        else:
            picture.save(FOLDER / f"{name}.jpg", quality=85, optimize=True)
    return missing


def _thumbnail(source: Path, name: str) -> Image.Image | None:
    videos = sorted(source.glob(f"{name}*.mp4"))[:ROWS]
    if videos:
        return film_strips([read_clip(video, fps=READ_FPS, multiple=2).frames_FHWC for video in videos])
    picture = next((path for suffix in (".png", ".jpg") if (path := source / f"{name}{suffix}").is_file()), None)
    if picture is None:
        return None
    return ImageOps.fit(Image.open(picture).convert("RGB"), (COLUMNS * CELL, ROWS * CELL))


def film_strips(videos: list[Tensor]) -> Image.Image:
    """Evenly spaced frames of one to three videos, each (F, H, W, 3) in [0, 1]; each of three videos gets one row."""
    sheet = Image.new("RGB", (COLUMNS * CELL, ROWS * CELL))
    count = COLUMNS * ROWS // len(videos)
    frames = [video[round(i * (len(video) - 1) / (count - 1))] for video in videos for i in range(count)]
    for place, frame_HWC in enumerate(frames):
        picture = Image.fromarray((frame_HWC * 255).round().to(torch.uint8).numpy())
        row, column = divmod(place, COLUMNS)
        sheet.paste(ImageOps.fit(picture, (CELL, CELL)), (column * CELL, row * CELL))
    return sheet


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thumbnails", type=Path, metavar="FOLDER")
    source = parser.parse_args().thumbnails
    FOLDER.mkdir(exist_ok=True)
    if source is not None:
        for name in write_thumbnails(source):
            print(f"nothing in {source} for: {name}")
        return
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        texts = workflow_texts(server.object_info())
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)


if __name__ == "__main__":
    main()
