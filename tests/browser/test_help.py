"""Help pages and other languages, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tools.pictures.interface import Ui
from tools.server.folder import ROOT

FETCHED = "async path => { const answer = await fetch(path); return [answer.status, await answer.text()]; }"
SELECT = "id => window.app.canvas.selectNode(window.app.graph.nodes.find(node => String(node.id) === id))"
LABELS = """id => {
  const node = window.app.graph.nodes.find(node => String(node.id) === id);
  return [node.title, node.widgets.map(widget => widget.label)];
}"""

FRENCH = (
    ("SetSeq_TrainIdentityLoRA", "Entra\u00eenement", "vid\u00e9os d'essai"),
    ("SetSeq_LoadDynamicConcept", "Pav\u00e9 des forces", "comme \u00e0 l'entra\u00eenement"),
    ("SetSeq_LoadDynamicConcept", "Concept", "Pas encore de concept"),
    ("SetSeq_ReferenceClip", "V\u00e9rification des prompts", "Prompt d'apparence"),
)
"""For each node, the label of the widget that js/ adds, and a text in it."""


def test_the_server_gives_every_page_and_its_picture(canvas: Ui) -> None:
    pages = [page.stem for page in (ROOT / "js" / "docs").glob("*.md")]
    assert pages
    for node in pages:
        status, text = canvas.page.evaluate(FETCHED, f"/extensions/setandseq/docs/{node}.md")
        assert status == 200 and text.startswith("# ")
        status, _ = canvas.page.evaluate(FETCHED, f"/extensions/setandseq/docs/images/{node}.png")
        assert status == 200


def test_a_node_shows_its_page(canvas: Ui) -> None:
    """The interface first asks for a page in its own language, which does not exist for English."""
    node = canvas.add("SetSeq_LoadDynamicConcept")
    canvas.page.evaluate(SELECT, node)
    canvas.page.get_by_test_id("info-button").click()
    page = canvas.page.locator(".node-help-content")
    expect(page.get_by_role("heading", name="The strength pad")).to_be_visible()
    picture = page.get_by_role("img").first
    expect(picture).to_be_visible()
    canvas.page.wait_for_function("image => image.naturalWidth > 100", arg=picture.element_handle())
    canvas.errors[:] = [error for error in canvas.errors if "/SetSeq_LoadDynamicConcept/en.md" not in error]


@pytest.fixture
def french(page_of_server: Ui) -> Iterator[Ui]:
    """The page in French."""
    page_of_server.set("Comfy.Locale", "fr")
    page_of_server.open()
    yield page_of_server
    page_of_server.set("Comfy.Locale", "en")  # the last test of this file: the next one has its own page


@pytest.mark.usefixtures("concepts")
def test_nodes_and_what_we_show_on_them_are_in_french(french: Ui) -> None:
    node = french.add("SetSeq_TrainingSettings")
    title, labels = french.page.evaluate(LABELS, node)
    assert title == "R\u00e9glages d'entra\u00eenement"
    assert "lot" in labels
    for node_type, region, text in FRENCH:
        french.add(node_type)
        expect(french.region(region).get_by_text(text).first).to_be_visible()
