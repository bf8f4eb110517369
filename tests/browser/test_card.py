"""The concept card on Load Dynamic Concept, in a real browser."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from playwright.sync_api import Locator, expect
from safetensors.torch import load_file

from setandseq_core.concept import BaseFingerprint, Concept, ConceptInfo, ConceptLayer, fingerprint, save_concept
from setandseq_core.toy.model import TRANSFORMER_FILE
from tools.interface import Ui

LAYERS = ("blocks.0.self_attn.q", "blocks.0.self_attn.k", "blocks.0.self_attn.v")
STATIC, MOTION = "a large [v] creature on a blue plain background", "a large [v] creature [u] wandering"
CONNECT = """([from, to]) => {
  const find = id => window.app.graph.getNodeById(id) ?? window.app.graph.getNodeById(Number(id));
  find(from).connect(0, find(to), find(to).inputs.findIndex(input => input.name === "model"));
}"""
SELECT = "id => window.app.canvas.selectNode(window.app.graph.nodes.find(node => String(node.id) === id))"
Save = Callable[..., str]


@pytest.fixture(scope="module")
def base() -> BaseFingerprint:
    """Of the embedded model, as far as the concepts of these tests change it."""
    weights = load_file(TRANSFORMER_FILE)
    return fingerprint("wan", {layer: weights[f"{layer}.weight"] for layer in LAYERS})


@pytest.fixture
def save(concepts: Path, base: BaseFingerprint, page_of_server: Ui) -> Save:
    """Saves a concept that does nothing, and lets the page see it; returns its name in the list."""

    def write(name: str = "bee", *, shift: float = 0.0, static_prompt: str = STATIC, file: str = "bee") -> str:
        moved = {layer: value + shift for layer, value in base.projections.items()}
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), "yellow").save(buffer, "PNG")
        info = ConceptInfo(
            name=name,
            static_prompt=static_prompt,
            motion_prompt=MOTION,
            identity_token="[v]",
            motion_token="[u]",
            base=BaseFingerprint(family="wan", layers=base.layers, projections=moved),
            base_name="The embedded model",
            config={},
            training={"date": "2026-11-22T10:00:00", "set": {"steps": 30, "seconds": 4}},
            thumbnail=buffer.getvalue(),
        )
        empty = {
            layer: ConceptLayer(
                identity_basis_OR=torch.zeros(num_out, 2),
                coefficients_RI=torch.zeros(2, num_in),
                motion_residual_RI=torch.zeros(2, num_in),
            )
            for layer, (num_out, num_in) in base.layers.items()
        }
        save_concept(Concept(info=info, layers=empty), concepts / f"{file}.safetensors")
        page_of_server.page.evaluate("() => window.app.refreshComboInNodes()")
        return f"{file}.safetensors"

    return write


def card_of(ui: Ui, file: str) -> Locator:
    """Adds Load Dynamic Concept with that file; its card."""
    ui.add("SetSeq_LoadDynamicConcept", concept=file)
    card = ui.region("Concept")
    expect(card.get_by_text("The embedded model")).to_be_visible()
    return card


def test_the_card_shows_what_is_in_the_file(ui: Ui, save: Save) -> None:
    card = card_of(ui, save())
    for text in ("bee", STATIC, MOTION, "for The embedded model", "30 steps look"):
        expect(card.get_by_text(text, exact=True)).to_be_visible()
    expect(card.get_by_text("rank 2")).to_be_visible()
    assert card.get_by_role("img").evaluate("image => image.naturalWidth") == 8
    expect(card.get_by_role("alert")).to_have_count(0)


def test_another_file_gives_another_card(ui: Ui, save: Save) -> None:
    save("ant", file="ant")
    card = card_of(ui, save("bee", file="bee"))
    ui.change(ui.node("SetSeq_LoadDynamicConcept"), concept="ant.safetensors")
    expect(card.get_by_text("ant", exact=True)).to_be_visible()


def test_a_click_copies_a_prompt_or_a_token(ui: Ui, save: Save) -> None:
    card = card_of(ui, save())
    for text in (MOTION, "[u]"):
        card.get_by_text(text, exact=True).click()
        ui.page.wait_for_function("text => navigator.clipboard.readText().then(found => found === text)", arg=text)


def test_a_prompt_goes_into_a_text_node(ui: Ui, save: Save) -> None:
    first, second = ui.add("CLIPTextEncode"), ui.add("CLIPTextEncode", text="blurry")
    card = card_of(ui, save())
    card.get_by_role("button", name="Put the prompt into a text node: look and motion").click()
    assert (ui.widgets(first)["text"], ui.widgets(second)["text"]) == (MOTION, "blurry")
    ui.page.evaluate(SELECT, second)
    card.get_by_role("button", name="Put the prompt into a text node: look", exact=True).click()
    assert (ui.widgets(first)["text"], ui.widgets(second)["text"]) == (MOTION, STATIC)


@pytest.mark.parametrize(("shift", "warnings"), [(0.0, 0), (2.0, 1)], ids=["fits", "does not fit"])
def test_the_card_warns_when_it_does_not_fit_the_connected_model(
    ui: Ui, save: Save, shift: float, warnings: int
) -> None:
    model = ui.add("UNETLoader", unet_name=TRANSFORMER_FILE.name)
    card = card_of(ui, save(shift=shift))
    with ui.page.expect_response(lambda answer: f"model={TRANSFORMER_FILE.stem}" in answer.url):
        ui.page.evaluate(CONNECT, [model, ui.node("SetSeq_LoadDynamicConcept")])
    expect(card.get_by_role("alert")).to_have_count(warnings)
    if warnings:
        expect(card.get_by_text("not made for the connected model: load The embedded model")).to_be_visible()


def test_without_a_concept_the_card_says_what_to_do(ui: Ui, concepts: Path) -> None:
    ui.page.evaluate("() => window.app.refreshComboInNodes()")
    assert not list(concepts.iterdir())
    ui.add("SetSeq_LoadDynamicConcept")
    expect(ui.region("Concept").get_by_text("No concept yet. Run the template")).to_be_visible()


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
