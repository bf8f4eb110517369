"""Take the browser pictures in docs/images and js/docs/images: python -m tools.pictures.screenshots

It runs the first workflow unchanged, so it takes minutes.
"""

import json

from tools.pictures import help_pages as help_pictures
from tools.pictures.interface import Ui
from tools.pictures.pictures import PICTURE_MS, beside, fit, interface, node_picture, opened, save
from tools.server.folder import ROOT
from tools.workflows.embedded import START, TRAIN
from tools.workflows.make import FOLDER as WORKFLOWS

FOLDER = ROOT / "docs" / "images"
PICTURE_COLOURS = 96
"""Colours of a screenshot that contains pictures."""
CONCEPT = "SetSeq_TrainConcept"
END_MS = 3_600_000
MOTION_STEP = """least => {
  const title = document.querySelector('.setandseq-title').textContent;
  return Number(/^Learning the motion: step (\\d+)/.exec(title)?.[1] ?? 0) >= least;
}"""
PROMPTS = {
    "static_prompt": "a [v] dancer in a red dress, on a bright stage",
    "motion_prompt": "a [v] dancer in a red dress spinning fast, on a bright stage",
}
"""Prompts in which the motion token is forgotten."""
EMPTY = {"version": 0.4, "nodes": [], "links": []}


def start_here(ui: Ui) -> None:
    """Take pictures of the first workflow and its panel during a training (both renderers, dark, light), and after."""
    ui.render("nodes2")
    ui.load(json.loads((WORKFLOWS / f"{START}.json").read_text(encoding="utf-8")))
    node = ui.node(CONCEPT)
    ui.run()
    ui.page.wait_for_function(MOTION_STEP, arg=105, timeout=END_MS, polling=500)
    fit(ui, scale=0.84)
    save(opened(ui.page.screenshot(timeout=PICTURE_MS)), FOLDER / "start_here.png")
    dark = node_picture(ui, node)
    ui.render("canvas")
    save(beside([dark, node_picture(ui, node)]), FOLDER / "panel.png")
    ui.set("Comfy.ColorPalette", "light")
    save(node_picture(ui, node), FOLDER / "panel_light.png")
    ui.set("Comfy.ColorPalette", "dark")
    wait_for_end(ui)
    ui.render("nodes2")
    save(node_picture(ui, node), help_pictures.FOLDER / f"{CONCEPT}.png")


def stages(ui: Ui) -> None:
    """Take pictures of both train nodes, which reuse the training of Train Concept."""
    ui.load(json.loads((WORKFLOWS / f"{TRAIN}.json").read_text(encoding="utf-8")))
    ui.run()
    ui.region("Training").nth(1).get_by_text("Learned the motion").wait_for(timeout=END_MS)
    for name in help_pictures.STAGES:
        save(node_picture(ui, ui.node(name)), help_pictures.FOLDER / f"{name}.png")
    wait_for_end(ui)


def wait_for_end(ui: Ui) -> None:
    """Wait until nothing runs."""
    ui.page.wait_for_function(
        "() => fetch('/queue').then(answer => answer.json()).then(queue => !queue.queue_running.length)",
        timeout=END_MS,
        polling=1000,
    )


def concept(ui: Ui) -> None:
    """Take pictures of the trained concept's card and pad, and of the prompt check, in both renderers."""
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
    """Take a picture of the template browser at the section of this pack."""
    ui.page.evaluate("() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    ui.page.get_by_text("setandseq", exact=True).first.click(timeout=60_000)
    ui.page.wait_for_timeout(3000)
    dialog = ui.page.get_by_role("dialog").first
    save(opened(dialog.screenshot(timeout=PICTURE_MS)), FOLDER / "templates.png", PICTURE_COLOURS)
    ui.page.keyboard.press("Escape")


def main() -> None:
    """Take all pictures."""
    FOLDER.mkdir(exist_ok=True)
    with interface(1500, 1000) as ui:
        for take in (templates, start_here, stages, concept, help_pictures.take):
            take(ui)


if __name__ == "__main__":
    main()
