"""The workflows in ComfyUI's template browser: shown with their pictures, opened, and saved again unchanged."""

import json
from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import Locator, TimeoutError

from tools.pictures.interface import Ui
from tools.workflows.make import FOLDER, MAKERS
from tools.workflows.prompt import to_prompt

SHOWN_ONLY = ("training_panel", "concept_card", "strength_pad", "prompt_check", "stretch_chooser", "token_check")
"""Names of the widgets that js/ adds; they appear in no file and no prompt."""
WAIT_MS, CLICK_MS = 60_000, 5_000
LOADED = """ids => {
  const nodes = window.app.graph.nodes;
  return nodes.length === ids.length && nodes.every(node => ids.includes(Number(node.id)));
}"""


def file_of(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def open_templates(ui: Ui) -> Locator:
    """Open the template browser at our section. Opening a template closes it twice, perhaps late."""
    section = ui.page.get_by_role("dialog").get_by_text("setandseq", exact=True).first
    for _ in range(WAIT_MS // CLICK_MS):
        if not section.is_visible():
            ui.page.evaluate("() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
            ui.page.wait_for_timeout(500)
        with suppress(TimeoutError):
            section.click(timeout=CLICK_MS)
            break
    return ui.page.get_by_role("dialog")


def comparable(workflow: dict[str, Any]) -> dict[str, Any]:
    """The parts of a workflow whose change a person would notice."""
    subgraphs = {each["id"] for each in workflow.get("definitions", {}).get("subgraphs", [])}
    nodes = {
        f"{node['id']} {node['type']}": (
            [round(value) for value in node["pos"]],
            round(node["size"][0]),  # each renderer has its own smallest heights
            node.get("mode", 0),
            # A subgraph's values belong to the nodes in it, and only newer frontends repeat them.
            [] if node["type"] in subgraphs else node.get("widgets_values") or [],
            node.get("properties", {}).get("models"),
        )
        for node in workflow["nodes"]
    }
    links = sorted(tuple(link[1:]) for link in workflow["links"])
    return {**nodes, "links": links, "groups": [group["title"] for group in workflow["groups"]]}


@pytest.mark.every_frontend
def test_workflows_come_in_the_order_of_their_numbers(canvas: Ui) -> None:
    """MAKERS has that order; the disk and the alphabet have others."""
    cards = open_templates(canvas).locator('[data-testid^="template-workflow-"]')
    cards.nth(len(MAKERS) - 1).wait_for(timeout=WAIT_MS)
    names = cards.evaluate_all("cards => cards.map(card => card.dataset.testid)")
    canvas.page.keyboard.press("Escape")
    assert names == [f"template-workflow-{name}" for name in MAKERS]


def test_every_workflow_opens_from_the_template_browser(canvas: Ui) -> None:
    for name in MAKERS:
        dialog = open_templates(canvas)
        card = dialog.get_by_test_id(f"template-workflow-{name}")
        card.scroll_into_view_if_needed(timeout=WAIT_MS)
        picture = card.locator("img").first
        picture.wait_for(timeout=WAIT_MS)
        canvas.page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())
        card.click()
        canvas.page.wait_for_function(LOADED, arg=[node["id"] for node in file_of(name)["nodes"]], timeout=WAIT_MS)
        dialog.wait_for(state="detached", timeout=WAIT_MS)


@pytest.mark.parametrize("name", MAKERS)
def test_saved_again_it_is_the_same_and_its_prompt_has_nothing_more(ui: Ui, name: str) -> None:
    workflow = file_of(name)
    ui.load(workflow)
    ui.page.wait_for_timeout(700)
    before, after = comparable(workflow), comparable(ui.saved())
    changed = [f"{key}: {value} became {after.get(key)}" for key, value in before.items() if value != after.get(key)]
    assert changed == []
    found, expected = ui.prompt(), to_prompt(workflow, ui.server.object_info())
    assert {node: entry["inputs"] for node, entry in found.items()} == {
        node: entry["inputs"] for node, entry in expected.items()
    }
    assert not [text for text in SHOWN_ONLY if text in json.dumps(found) + json.dumps(ui.saved())]


def test_files_that_are_missing_are_named_with_where_to_get_them(canvas: Ui) -> None:
    name = next(name for name in MAKERS if name.startswith("4"))
    workflow = file_of(name)
    hints = [model for node in workflow["nodes"] for model in node["properties"].get("models", ())]
    loaders = [node for node in workflow["nodes"] if node["type"].endswith("Loader")]
    assert len(hints) == len(loaders) == 3
    canvas.page.evaluate("workflow => window.app.loadGraphData(workflow, true, true)", workflow)
    for hint in hints:
        canvas.page.get_by_text(hint["name"]).first.wait_for(timeout=WAIT_MS)
