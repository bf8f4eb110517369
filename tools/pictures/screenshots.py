"""The pictures in docs/images and js/docs/images of what the browser shows: python -m tools.pictures.screenshots

Runs the first workflow as it is, so it takes minutes.
"""

import json

from tools.pictures import help_pages as help_pictures
from tools.pictures.interface import Ui
from tools.pictures.pictures import PICTURE_MS, beside, fit, interface, node_picture, opened, save
from tools.server.folder import ROOT
from tools.workflows.embedded import START
from tools.workflows.make import FOLDER as WORKFLOWS

FOLDER = ROOT / "docs" / "images"
PICTURE_COLOURS = 96
"""Of a picture that has pictures in it."""
IDENTITY, MOTION = help_pictures.TRAINING
END_MS = 3_600_000
STEP = "([index, least]) => Number([...document.querySelectorAll('.setandseq-bar')][index]?.ariaValueNow) >= least"
PROMPTS = {
    "static_prompt": "a [v] dancer in a red dress, on a bright stage",
    "motion_prompt": "a [v] dancer in a red dress spinning fast, on a bright stage",
}
"""The token of the movement is forgotten."""
EMPTY = {"version": 0.4, "nodes": [], "links": []}


def wait_for_step(ui: Ui, panel: int, least: int) -> None:
    """Until the first (0) or the second stage (1) has done that many steps."""
    ui.page.wait_for_function(STEP, arg=[panel, least], timeout=END_MS, polling=500)


def panels(ui: Ui) -> None:
    """A training on the way: its panels in both renderers, dark and light, and the whole workflow; then its end."""
    ui.render("nodes2")
    ui.load(json.loads((WORKFLOWS / f"{START}.json").read_text(encoding="utf-8")))
    nodes = [ui.node(IDENTITY), ui.node(MOTION)]
    ui.run()
    wait_for_step(ui, 1, 105)
    save(beside([node_picture(ui, node) for node in nodes]), FOLDER / "panel.png")
    fit(ui, scale=0.57)
    save(opened(ui.page.screenshot(timeout=PICTURE_MS)), FOLDER / "start_here.png")
    ui.render("canvas")
    ui.set("Comfy.ColorPalette", "light")
    save(beside([node_picture(ui, node) for node in nodes]), FOLDER / "panel_light.png")
    ui.set("Comfy.ColorPalette", "dark")
    ui.region("Training").nth(1).get_by_text("Learned the motion").wait_for(timeout=END_MS)
    ui.page.wait_for_function(
        "() => fetch('/queue').then(answer => answer.json()).then(queue => !queue.queue_running.length)",
        timeout=END_MS,
        polling=1000,
    )
    ui.render("nodes2")
    for node, name in zip(nodes, help_pictures.TRAINING, strict=True):
        save(node_picture(ui, node), help_pictures.FOLDER / f"{name}.png")


def concept(ui: Ui) -> None:
    """Card and pad on the concept that was trained, and the check of prompts, in both renderers."""
    cards, checks = [], []
    for renderer in ("nodes2", "canvas"):
        ui.render(renderer)
        ui.load(EMPTY)
        node = ui.add("SetSeq_LoadDynamicConcept", concept="my_concept.safetensors", motion_strength=1.5)
        ui.region("Concept").get_by_role("img").wait_for()
        cards.append(node_picture(ui, node))
        ui.load(EMPTY)
        node = ui.add("SetSeq_ReferenceClip", **PROMPTS)
        ui.region("Prompt check").wait_for()
        checks.append(node_picture(ui, node))
    save(beside(cards), FOLDER / "concept.png")
    save(beside(checks), FOLDER / "prompts.png")


def templates(ui: Ui) -> None:
    """The template browser at our section."""
    ui.page.evaluate("() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    ui.page.get_by_text("setandseq", exact=True).first.click(timeout=60_000)
    ui.page.wait_for_timeout(3000)
    dialog = ui.page.get_by_role("dialog").first
    save(opened(dialog.screenshot(timeout=PICTURE_MS)), FOLDER / "templates.png", PICTURE_COLOURS)
    ui.page.keyboard.press("Escape")


def main() -> None:
    """Take them all."""
    FOLDER.mkdir(exist_ok=True)
    with interface(1500, 1000) as ui:
        for take in (templates, panels, concept, help_pictures.take):
            take(ui)


if __name__ == "__main__":
    main()
