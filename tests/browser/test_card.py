"""The concept card on Load Dynamic Concept, in a real browser."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from setandseq_core.embedded.files import TRANSFORMER_FILE
from tools.pictures.interface import Ui
from tools.sample_concept import INFO, save_sample

STATIC, MOTION = INFO["static_prompt"], INFO["motion_prompt"]
CONNECT = """([from, to, wire]) => {
  const find = id => window.app.graph.nodes.find(node => String(node.id) === id);
  const slot = slots => slots.findIndex(slot => slot.name.toLowerCase() === wire);
  find(from).connect(slot(find(from).outputs), find(to), slot(find(to).inputs));
}"""
IN_LIST = """file => window.app.graph.nodes[0].widgets[0].options.values.includes(file)"""
SELECT = "id => window.app.canvas.selectNode(window.app.graph.nodes.find(node => String(node.id) === id))"
Save = Callable[..., str]


@pytest.fixture
def save(concepts: Path, page_of_server: Ui) -> Save:
    """Saves a concept without effect, and makes the page see it; returns its name in the list."""

    def write(name: str = "bee", file: str = "bee", **options: Any) -> str:
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), "yellow").save(buffer, "PNG")
        save_sample(concepts / f"{file}.safetensors", name=name, thumbnail=buffer.getvalue(), **options)
        page_of_server.page.evaluate("() => window.app.refreshComboInNodes()")
        return f"{file}.safetensors"

    return write


def card_of(ui: Ui, file: str) -> Locator:
    """Adds Load Dynamic Concept with that file; returns its card."""
    ui.add("SetSeq_LoadDynamicConcept", concept=file)
    card = ui.region("Concept")
    expect(card.get_by_text("the embedded model")).to_be_visible()
    return card


def test_the_card_shows_what_is_in_the_file(ui: Ui, save: Save) -> None:
    card = card_of(ui, save())
    for text in (
        "bee",
        STATIC,
        MOTION,
        "for the embedded model",
        "look: 300 steps, motion: 300 steps; 17 frames 64x64 at 16 fps",
    ):
        expect(card.get_by_text(text, exact=True)).to_be_visible()
    expect(card.get_by_text("rank 8")).to_be_visible()
    assert card.get_by_role("img").evaluate("image => image.naturalWidth") == 8
    expect(card.get_by_role("alert")).to_have_count(0)


def test_another_file_gives_another_card(ui: Ui, save: Save) -> None:
    save("ant", file="ant")
    card = card_of(ui, save("bee", file="bee"))
    ui.change(ui.node("SetSeq_LoadDynamicConcept"), concept="ant.safetensors")
    expect(card.get_by_text("ant", exact=True)).to_be_visible()


def test_a_newer_version_is_offered_and_a_new_node_takes_the_newest(ui: Ui, save: Save) -> None:
    older = save("bee", file="bee")
    newest = save("bee again", file="bee_2")
    card = card_of(ui, older)
    expect(card.get_by_text("bee_2.safetensors is newer.")).to_be_visible()
    card.get_by_role("button", name="Use it").click()
    expect(card.get_by_text("bee again", exact=True)).to_be_visible()
    expect(card.get_by_role("button", name="Use it")).to_have_count(0)
    assert ui.widgets(ui.add("SetSeq_LoadDynamicConcept"))["concept"] == newest


def test_a_click_copies_a_prompt_or_a_token(ui: Ui, save: Save) -> None:
    card = card_of(ui, save())
    for text in (MOTION, "[u]"):
        card.get_by_text(text, exact=True).click()
        ui.page.wait_for_function("text => navigator.clipboard.readText().then(found => found === text)", arg=text)


def test_a_prompt_goes_into_a_text_node(ui: Ui, save: Save) -> None:
    first, second = ui.add("CLIPTextEncode"), ui.add("CLIPTextEncode", text="blurry")
    card = card_of(ui, save())
    card.get_by_role("button", name="Write the prompt into a text node: look and motion").click()
    assert (ui.widgets(first)["text"], ui.widgets(second)["text"]) == (MOTION, "blurry")
    ui.page.evaluate(SELECT, second)
    card.get_by_role("button", name="Write the prompt into a text node: look", exact=True).click()
    assert (ui.widgets(first)["text"], ui.widgets(second)["text"]) == (MOTION, STATIC)


@pytest.mark.parametrize(("shift", "warnings"), [(0.0, 0), (2.0, 1)], ids=["fits", "does not fit"])
def test_the_card_warns_when_it_does_not_fit_the_connected_model(
    ui: Ui, save: Save, shift: float, warnings: int
) -> None:
    model = ui.add("UNETLoader", unet_name=TRANSFORMER_FILE.name)
    card = card_of(ui, save(shift=shift))
    with ui.page.expect_response(lambda answer: f"model={TRANSFORMER_FILE.stem}" in answer.url):
        ui.page.evaluate(CONNECT, [model, ui.node("SetSeq_LoadDynamicConcept"), "model"])
    expect(card.get_by_role("alert")).to_have_count(warnings)
    if warnings:
        expect(card.get_by_text("made for a different model. Load the embedded model")).to_be_visible()


def test_without_a_concept_the_card_says_what_to_do(ui: Ui, concepts: Path) -> None:
    ui.page.evaluate("() => window.app.refreshComboInNodes()")
    assert not list(concepts.iterdir())
    ui.add("SetSeq_LoadDynamicConcept")
    expect(ui.region("Concept").get_by_text("No concepts yet. Run the template")).to_be_visible()


def test_a_damaged_file_says_so(ui: Ui, save: Save, concepts: Path) -> None:
    file = save()
    (concepts / file).write_bytes((concepts / file).read_bytes()[:50])
    ui.add("SetSeq_LoadDynamicConcept", concept=file)
    expect(ui.region("Concept").get_by_role("alert")).to_contain_text("cut short")


def test_texts_of_a_file_are_never_run(canvas: Ui, save: Save) -> None:
    attack = "<img src=x onerror='window.attacked = true'><script>window.attacked = true</script>"
    card = card_of(canvas, save(attack, static_prompt=attack))
    expect(card.get_by_text(attack, exact=True).first).to_be_visible()
    assert card.locator("script").count() == 0 and card.get_by_role("img").count() == 1
    assert canvas.page.evaluate("() => window.attacked") is None


def test_the_card_is_neither_saved_nor_queued(ui: Ui, save: Save) -> None:
    file = save()
    card_of(ui, file)
    (node,) = ui.saved()["nodes"]
    assert node["widgets_values"] == [file, 1, 1]
    (queued,) = ui.prompt().values()
    assert queued["inputs"] == {"concept": file, "identity_strength": 1, "motion_strength": 1}


def test_a_saved_concept_is_in_the_lists_at_once(canvas: Ui, save: Save) -> None:
    loaded = canvas.add("SetSeq_LoadDynamicConcept", concept=save())
    saver = canvas.add("SetSeq_SaveDynamicConcept", name="copy")
    canvas.page.evaluate(CONNECT, [loaded, saver, "concept"])
    canvas.run()
    canvas.page.wait_for_function(IN_LIST, arg="copy.safetensors", timeout=120_000)
