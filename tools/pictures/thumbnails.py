"""Make the thumbnails of the workflows: python -m tools.pictures.thumbnails (takes minutes)

The rows of a thumbnail are videos of the workflow on the embedded model. Thumbnails for large models are drawn.
Results are kept in build/thumbnails. The rows of *3 Compose two concepts* come from
`python -m benchmarks.composition --rows build/thumbnails/pictures`.
"""

import shutil
from pathlib import Path

from setandseq_core.clips.video import read_clip
from setandseq_core.embedded.demo import run_demo
from setandseq_core.embedded.files import CLIP_FILE
from tools.pictures.schemes import SCHEMES, drawn
from tools.server.folder import ROOT
from tools.workflows import embedded
from tools.workflows.make import READ_FPS, film_strips, write_thumbnails

FOLDER = ROOT / "build" / "thumbnails"
CLIP = "clip"
ROWS = {
    embedded.START: (CLIP, "reconstructed", "pink"),
    embedded.TRAIN: (CLIP, "reconstructed", "green"),
    embedded.USE: ("reconstructed", "pink", "calm"),
}
"""The demo's videos in each thumbnail."""


def demo_rows(out: Path) -> None:
    """Make thumbnails from the demo's videos for the workflows in `ROWS`."""
    demo = FOLDER / "demo"
    if not (demo / "report.json").exists():
        run_demo(demo, print)
        shutil.copy(CLIP_FILE, demo / f"{CLIP}.mp4")
    for name, videos in ROWS.items():
        rows = [read_clip(demo / f"{video}.mp4", fps=READ_FPS, multiple=2).frames_FHWC for video in videos]
        film_strips(rows).save(out / f"{name}.png")


def schemes(out: Path) -> None:
    """Draw the thumbnails of workflows for large models."""
    for name in SCHEMES:
        drawn(name).save(out / f"{name}.png")


def main() -> None:
    """Make all thumbnails."""
    out = FOLDER / "pictures"
    out.mkdir(parents=True, exist_ok=True)
    for make in (demo_rows, schemes):
        make(out)
    for name in write_thumbnails(out):
        print(f"nothing for: {name}")


if __name__ == "__main__":
    main()
