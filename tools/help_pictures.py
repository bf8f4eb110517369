"""Pictures of all nodes for their help pages: python -m tools.help_pictures"""

import io
import shutil
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import sync_playwright

from setandseq_core.learn import thumbnail
from setandseq_core.video import read_clip
from tools.comfyui import Server
from tools.comfyui_folder import ROOT
from tools.interface import Ui, write_settings
from tools.sample_concept import INFO, save_sample

FOLDER = ROOT / "js" / "docs" / "images"
EXAMPLE = ROOT / "setandseq_core" / "toy" / "demo_clip.mp4"
COLOURS = 96
VALUES: dict[str, dict[str, object]] = {
    "SetSeq_ReferenceClip": {"static_prompt": INFO["static_prompt"], "motion_prompt": INFO["motion_prompt"]},
    "SetSeq_LoadDynamicConcept": {"concept": "bee.safetensors"},
    "SetSeq_SaveDynamicConcept": {"name": "bee"},
    "SetSeq_StrengthSchedule": {"identity_first": 0.0},
}
"""What is written on nodes whose defaults show little."""


def main() -> None:
    """Start ComfyUI and a browser, and take them all."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        write_settings(folder)
        server, driver = stack.enter_context(Server(folder)), stack.enter_context(sync_playwright())
        clip = read_clip(EXAMPLE, fps=16.0, multiple=16, max_frames=17)
        path = server.folder / "models" / "dynamic_concepts" / "bee.safetensors"
        save_sample(path, thumbnail=thumbnail(clip.frames_FHWC, clip.fps))
        chromium = shutil.which("chromium")
        with driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]) as browser:
            ui = Ui(browser.new_page(viewport={"width": 900, "height": 1200}), server)
            ui.open()
            ui.render("nodes2")
            for node_type in sorted(name for name in server.object_info() if name.startswith("SetSeq_")):
                save_picture(ui, node_type)


def save_picture(ui: Ui, node_type: str) -> None:
    """One node, alone in the graph."""
    ui.load({"version": 0.4, "nodes": [], "links": []})
    node = ui.add(node_type, **VALUES.get(node_type, {}))
    element = ui.page.locator(f'[data-node-id="{node}"]')
    element.wait_for()
    ui.page.wait_for_timeout(1500)
    picture = Image.open(io.BytesIO(element.screenshot())).convert("RGB")
    picture.quantize(COLOURS).save(FOLDER / f"{node_type}.png", optimize=True)


if __name__ == "__main__":
    main()
