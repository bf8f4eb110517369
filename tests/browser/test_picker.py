"""The picker with moving thumbnails on Load Dynamic Concept, in a real browser."""

import io
import shutil
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Request, expect

from tools.pictures.interface import Ui
from tools.sample_concept import save_sample

MANY = 200


def looping(colours: tuple[str, ...] = ("yellow", "blue")) -> bytes:
    """A picture that moves."""
    pictures = [Image.new("RGB", (16, 16), colour) for colour in colours]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "PNG", save_all=True, append_images=pictures[1:], duration=200, loop=0)
    return buffer.getvalue()


@pytest.fixture
def many(concepts: Path, page_of_server: Ui) -> Path:
    """200 concepts, the second version of bee among them."""
    first = concepts / "bee.safetensors"
    save_sample(first, thumbnail=looping())
    for name in ("bee_2", *(f"concept {number:03}" for number in range(MANY - 2))):
        shutil.copyfile(first, concepts / f"{name}.safetensors")
    page_of_server.page.evaluate("() => window.app.refreshComboInNodes()")
    return concepts


def open_picker(ui: Ui) -> Locator:
    ui.region("Concept").get_by_role("button", name="Browse").click()
    dialog = ui.page.get_by_role("dialog", name="Choose a concept")
    expect(dialog).to_be_visible()
    return dialog


@pytest.mark.every_frontend
def test_a_click_chooses_one_of_many_and_only_those_in_view_are_asked_for(ui: Ui, many: Path) -> None:
    node = ui.add("SetSeq_LoadDynamicConcept", concept="bee.safetensors")
    expect(ui.region("Concept").get_by_text("for the embedded model")).to_be_visible()
    asked: list[str] = []

    def note(request: Request) -> None:
        if "/setandseq/concept?" in request.url:
            asked.append(request.url)

    ui.page.on("request", note)
    dialog = open_picker(ui)
    expect(dialog.locator(".setandseq-tile")).to_have_count(MANY)
    tile = dialog.get_by_role("button", name="bee version 2")
    tile.scroll_into_view_if_needed()
    expect(tile).to_contain_text("Nov 22, 2026")
    picture = tile.locator("img").element_handle()
    ui.page.wait_for_function("image => image.naturalWidth === 16", arg=picture)
    ui.page.wait_for_timeout(500)
    assert 0 < len(asked) < MANY / 2 and len(set(asked)) == len(asked)
    tile.click()
    ui.page.remove_listener("request", note)
    expect(dialog).to_have_count(0)
    assert ui.widgets(node)["concept"] == "bee_2.safetensors"
    assert "picker" not in str(ui.saved()) + str(ui.prompt())


def test_the_keyboard_is_enough(ui: Ui, many: Path) -> None:
    node = ui.add("SetSeq_LoadDynamicConcept", concept="concept 007.safetensors")
    expect(ui.region("Concept").get_by_text("for the embedded model")).to_be_visible()
    button = ui.region("Concept").get_by_role("button", name="Browse")
    button.focus()
    keyboard = ui.page.keyboard
    keyboard.press("Enter")
    dialog = ui.page.get_by_role("dialog", name="Choose a concept")
    expect(dialog.locator("[aria-current]")).to_be_focused()
    keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()
    assert ui.widgets(node)["concept"] == "concept 007.safetensors" and ui.saved()["nodes"]
    keyboard.press("Enter")
    dialog.get_by_role("searchbox").fill("bee")
    expect(dialog.locator(".setandseq-tile:visible")).to_have_count(2)
    for key in ("Tab", "Tab", "End", "Home", "ArrowRight", "ArrowLeft"):
        keyboard.press(key)
    chosen = dialog.locator(".setandseq-tile:focus").get_attribute("title") or ""
    keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    assert ui.widgets(node)["concept"] == chosen.partition("\n")[0]


def test_one_that_does_not_fit_or_is_damaged_is_marked(canvas: Ui, concepts: Path) -> None:
    save_sample(concepts / "bee.safetensors")
    (concepts / "cut.safetensors").write_bytes((concepts / "bee.safetensors").read_bytes()[:50])
    canvas.page.evaluate("() => window.app.refreshComboInNodes()")
    canvas.add("SetSeq_LoadDynamicConcept", concept="bee.safetensors")
    dialog = open_picker(canvas)
    expect(dialog.get_by_role("button", name="cut")).to_contain_text("cannot be read")
    dialog.get_by_role("searchbox").fill("nothing of the kind")
    expect(dialog.get_by_text("No concept has this in its name.")).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
