"""The strength pad on Load Dynamic Concept and Compose Concepts, in a real browser."""

import pytest
from playwright.sync_api import Locator, expect

from tools.pictures.interface import Ui

NODES = ("SetSeq_LoadDynamicConcept", "SetSeq_ComposeConcepts")
EMPTY = {"version": 0.4, "nodes": [], "links": []}


def pad_of(ui: Ui, node_type: str) -> tuple[str, Locator]:
    """Adds a node; returns its id and its pad."""
    node = ui.add(node_type)
    pad = ui.region("Strength pad")
    expect(pad).to_be_visible()
    return node, pad


def strengths(ui: Ui, node: str) -> tuple[float, float]:
    """The two strengths on the node."""
    values = ui.widgets(node)
    return values["identity_strength"], values["motion_strength"]


@pytest.mark.parametrize("node_type", NODES)
def test_presets_set_both_numbers(ui: Ui, node_type: str) -> None:
    node, pad = pad_of(ui, node_type)
    presets = {"off": (0, 0), "look only": (1, 0), "exaggerated": (1, 1.5), "as trained": (1, 1)}
    for name, wanted in presets.items():
        button = pad.get_by_role("button", name=name)
        button.click()
        assert strengths(ui, node) == wanted
        expect(button).to_have_attribute("aria-pressed", "true")
    assert pad.get_by_role("button").count() == len(presets)


def test_dragging_sets_both_numbers(ui: Ui) -> None:
    node, pad = pad_of(ui, NODES[0])
    before = ui.saved()["nodes"][0]["pos"]
    box = pad.locator(".setandseq-field").bounding_box()
    assert box is not None
    ui.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    ui.page.mouse.down()
    ui.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4, steps=3)
    ui.page.mouse.up()
    assert strengths(ui, node) == (0.5, 1.5)
    expect(pad.get_by_role("slider")).to_have_attribute("aria-valuetext", "look 0.5, motion 1.5")
    assert ui.saved()["nodes"][0]["pos"] == before


def test_arrow_keys_move_the_point(ui: Ui) -> None:
    node, pad = pad_of(ui, NODES[0])
    before = ui.saved()["nodes"][0]["pos"]
    point = pad.get_by_role("slider")
    point.focus()
    for key, wanted in {
        "ArrowRight": (1.05, 1),
        "ArrowUp": (1.05, 1.05),
        "ArrowLeft": (1, 1.05),
        "Shift+ArrowDown": (1, 0.8),
    }.items():
        point.press(key)
        assert strengths(ui, node) == wanted
    assert ui.saved()["nodes"][0]["pos"] == before


def test_a_preset_is_one_step_of_undo(ui: Ui) -> None:
    node, pad = pad_of(ui, NODES[0])
    for name in ("off", "exaggerated"):
        pad.get_by_role("button", name=name).click()
    ui.page.keyboard.press("Control+z")
    slider = ui.region("Strength pad").get_by_role("slider")
    expect(slider).to_have_attribute("aria-valuetext", "look 0, motion 0")
    assert strengths(ui, node) == (0, 0)


def test_the_point_follows_the_numbers(ui: Ui) -> None:
    node, pad = pad_of(ui, NODES[1])
    ui.change(node, identity_strength=0.3, motion_strength=-2.0)
    point = pad.get_by_role("slider")
    expect(point).to_have_attribute("aria-valuetext", "look 0.3, motion -2")
    expect(point).to_have_class("setandseq-point setandseq-outside")


def test_the_pad_is_saved_by_its_two_numbers_only(ui: Ui) -> None:
    _, pad = pad_of(ui, NODES[1])
    pad.get_by_role("button", name="exaggerated").click()
    saved = ui.saved()
    assert saved["nodes"][0]["widgets_values"][:2] == [1, 1.5]
    assert all("strength_pad" not in node["inputs"] for node in ui.prompt().values())
    ui.load(EMPTY)
    ui.load(saved)
    expect(ui.region("Strength pad").get_by_role("slider")).to_have_attribute("aria-valuetext", "look 1, motion 1.5")
    assert ui.saved()["nodes"][0]["widgets_values"] == saved["nodes"][0]["widgets_values"]
