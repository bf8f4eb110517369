"""The looping clip on Train Concept and Reference Clip, whose start and end are dragged, in a real browser."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from setandseq_core.embedded.files import TRANSFORMER_FILE
from tools.pictures.interface import Ui
from tools.server.server import Server
from tools.videos import MAKERS
from tools.workflows.embedded import START
from tools.workflows.make import FOLDER

MOVED = "async values => (await import('/extensions/setandseq/stretch.mjs')).moved(...values)"
CONNECT = """([from, to, wire]) => {
  const of = id => window.app.graph.nodes.find(node => String(node.id) === id);
  of(from).connect(0, of(to), of(to).inputs.findIndex(input => input.name === wire));
}"""
PLACE = "async values => (await import('/extensions/setandseq/choose.mjs')).freePlace(...values)"
TO_SUBGRAPH = """id => {
  const node = window.app.graph.nodes.find(node => String(node.id) === id);
  const { node: holder } = window.app.graph.convertToSubgraph(new Set([node]));
  window.app.canvas.openSubgraph(holder.subgraph, holder);
}"""
WIRED_TO = """id => {
  const graph = window.app.canvas.graph;
  const input = graph.nodes.find(node => String(node.id) === id).inputs.find(input => input.name === 'video');
  return input.link === null ? '' : graph.getNodeById(graph.getLink(input.link).origin_id).type;
}"""
STRETCH = "async values => (await import('/extensions/setandseq/stretch.mjs')).stretchOf(...values)"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((1, 0, 5, 8), (1, 6)),
        ((1, 2, 5, 8), (1, 3)),
        ((1, 9, 5, 20), (1, 6)),
        ((7, 2, 5, 8), (7, 8)),
        ((9, 2, 5, 8), (7.8, 8)),
    ],
)
def test_start_and_length_mean_a_part_of_the_video(
    canvas: Ui, given: tuple[float, ...], expected: tuple[float, float]
) -> None:
    found = canvas.page.evaluate(STRETCH, given)
    assert (found["start"], found["end"]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "time", "expected"),
    [
        ("start", 3, (3, 5)),
        ("start", -1, (0, 2)),
        ("start", 9, (7.8, 8)),
        ("end", 6, (1, 6)),
        ("end", 0, (1, 1.2)),
        ("end", 9, (1, 8)),
    ],
)
def test_dragging_stays_within_the_video(canvas: Ui, name: str, time: float, expected: tuple[float, float]) -> None:
    found = canvas.page.evaluate(MOVED, [{"start": 1, "end": 3}, name, time, 8])
    assert (found["start"], found["end"]) == pytest.approx(expected)


def test_the_clip_loops_and_its_ends_can_be_dragged(ui: Ui) -> None:
    ui.load(json.loads((FOLDER / f"{START}.json").read_text(encoding="utf-8")))
    node = ui.node("SetSeq_TrainConcept")
    ui.show(node)
    clip = ui.region("Clip")
    expect(clip.get_by_text("0.00 to 1.06 of 1.13 s")).to_be_visible()
    end = clip.get_by_role("slider", name="End")
    track = clip.locator(".setandseq-track").bounding_box()
    assert track is not None
    end.hover()
    ui.page.mouse.down()
    ui.page.mouse.move(track["x"] + track["width"] / 2, track["y"] + 5, steps=4)
    ui.page.mouse.up()
    length = ui.widgets(node)["length"]
    assert 0.5 < length < 0.65 and ui.widgets(node)["start"] == 0
    end.press("ArrowLeft")
    assert ui.widgets(node)["length"] == pytest.approx(length - 0.1, abs=0.011)
    assert "stretch_chooser" not in json.dumps(ui.prompt())


def test_without_a_video_it_says_what_to_connect(ui: Ui) -> None:
    ui.add("SetSeq_ReferenceClip")
    expect(ui.region("Clip").get_by_text("Choose a video, or connect Load Video.")).to_be_visible()


def test_the_chooser_shows_what_the_clip_becomes_while_its_numbers_change(ui: Ui) -> None:
    MAKERS["small.webm"](ui.server.folder / "input" / "small.webm")
    ui.page.evaluate("() => window.app.refreshComboInNodes()")
    video = ui.add("LoadVideo", file="small.webm")
    model = ui.add("UNETLoader", unet_name=TRANSFORMER_FILE.name)
    node = ui.add("SetSeq_ReferenceClip")
    ui.page.evaluate(CONNECT, [video, node, "video"])
    ui.page.evaluate(CONNECT, [model, node, "model"])
    clip = ui.region("Clip")
    for changes, text in (
        ({}, "Trains on 80x48 of 160x96, 29 frames at 16 fps"),
        ({"width": 64, "height": 64}, "Trains on 64x64 of 160x96, 29 frames at 16 fps"),
        ({"length": 1.0}, "Trains on 64x64 of 160x96, 13 frames at 16 fps"),
        ({"frames": 9}, "Trains on 64x64 of 160x96, 9 frames at 16 fps"),
        ({"width": 60}, "both must be multiples of 16"),
    ):
        ui.change(node, **changes)
        expect(clip.get_by_text(text)).to_be_visible()
    ui.change(node, width=64)
    expect(clip.get_by_text("Trains on 64x64")).to_be_visible()
    screen, crop = (clip.locator(f".setandseq-{part}").bounding_box() for part in ("screen", "crop"))
    assert screen is not None and crop is not None
    assert crop["width"] / screen["width"] == pytest.approx(96 / 160, abs=0.05)


def test_a_file_that_is_not_on_the_server_is_called_missing(ui: Ui) -> None:
    video, node = ui.add("LoadVideo", file="gone.mp4"), ui.add("SetSeq_ReferenceClip")
    ui.page.evaluate(CONNECT, [video, node, "video"])
    expect(ui.region("Clip").get_by_text("There is no gone.mp4 on the server yet. Choose a video.")).to_be_visible()


def test_a_source_that_is_not_a_file_says_so(ui: Ui) -> None:
    video, node = ui.add("CreateVideo"), ui.add("SetSeq_ReferenceClip")
    ui.page.evaluate(CONNECT, [video, node, "video"])
    expect(ui.region("Clip").get_by_text("only if it comes straight from Load Video")).to_be_visible()


@pytest.fixture
def clip_file(server: Server, tmp_path: Path) -> Path:
    """A video on the user's own disk; the server has no file of that name."""
    for file in (server.folder / "input").glob("mine*"):
        file.unlink()
    return MAKERS["small.webm"](tmp_path / "mine.webm")


def choose(page: Page, file: Path) -> None:
    """Choose a file in the dialog that the button opens."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a video…").click()
    chooser.value.set_files(file)


def loaders(ui: Ui) -> list[dict[str, Any]]:
    return [node for node in ui.saved()["nodes"] if node["type"] == "LoadVideo"]


@pytest.mark.every_frontend
def test_a_chosen_video_comes_from_a_new_load_video_beside_all_others(ui: Ui, clip_file: Path) -> None:
    ui.load(json.loads((FOLDER / f"{START}.json").read_text(encoding="utf-8")))
    node = ui.node("SetSeq_TrainConcept")
    ui.show(node)
    expect(ui.region("Clip").get_by_text("of 1.13 s")).to_be_visible()
    before = ui.saved()
    choose(ui.page, clip_file)
    expect(ui.region("Clip").get_by_text("of 1.93 s")).to_be_visible()
    expect(ui.region("Clip").get_by_text("of 160x96")).to_be_visible()
    (loader,) = loaders(ui)
    assert loader["widgets_values"][0] == "mine.webm"
    assert (ui.server.folder / "input" / "mine.webm").read_bytes() == clip_file.read_bytes()
    assert ui.page.evaluate(WIRED_TO, node) == "LoadVideo"
    assert ui.prompt()[node]["inputs"]["video"] == [str(loader["id"]), 0]
    left, top = loader["pos"]
    for other in before["nodes"]:
        x, y = other["pos"]
        assert x >= left + loader["size"][0] or y + other["size"][1] < top - 30
    ui.page.keyboard.press("Control+z")
    expect(ui.region("Clip").get_by_text("of 1.13 s")).to_be_visible()
    assert loaders(ui) == [] and ui.page.evaluate(WIRED_TO, node) == "SetSeq_ExampleClip"


@pytest.mark.every_frontend
def test_a_chosen_video_replaces_the_file_of_a_load_video(ui: Ui, clip_file: Path) -> None:
    MAKERS["small.webm"](ui.server.folder / "input" / "small.webm")
    ui.page.evaluate("() => window.app.refreshComboInNodes()")
    video, node = ui.add("LoadVideo", file="small.webm"), ui.add("SetSeq_ReferenceClip")
    ui.page.evaluate(CONNECT, [video, node, "video"])
    choose(ui.page, clip_file)
    expect(ui.region("Clip").locator("video")).to_have_attribute("src", re.compile("filename=mine.webm"))
    assert [loader["widgets_values"][0] for loader in loaders(ui)] == ["mine.webm"]
    assert ui.page.evaluate(WIRED_TO, node) == "LoadVideo"


def test_a_chosen_video_ends_the_interfaces_complaint_about_a_missing_one(ui: Ui, clip_file: Path) -> None:
    video, node = ui.add("LoadVideo", file="gone.mp4"), ui.add("SetSeq_ReferenceClip")
    ui.page.evaluate(CONNECT, [video, node, "video"])
    ui.page.evaluate("file => window.app.loadGraphData(file, true, true)", ui.saved())
    complaint = ui.page.get_by_text("Media input missing")
    expect(complaint).to_be_visible(timeout=30_000)
    ui.show(ui.node("SetSeq_ReferenceClip"))
    choose(ui.page, clip_file)
    expect(complaint).to_have_count(0)


@pytest.mark.every_frontend
def test_a_video_can_be_chosen_inside_a_subgraph(ui: Ui, clip_file: Path) -> None:
    ui.page.evaluate(TO_SUBGRAPH, ui.add("SetSeq_ReferenceClip"))
    node = ui.node("SetSeq_ReferenceClip")
    ui.show(node)
    choose(ui.page, clip_file)
    expect(ui.region("Clip").get_by_text("of 1.93 s")).to_be_visible()
    assert ui.page.evaluate(WIRED_TO, node) == "LoadVideo"


@pytest.mark.every_frontend
def test_a_file_that_is_no_video_is_refused_beside_the_clip(ui: Ui, clip_file: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a video", encoding="utf-8")
    node = ui.add("SetSeq_ReferenceClip")
    choose(ui.page, text)
    expect(ui.region("Clip").get_by_text("notes.txt is not a video. Choose an mp4")).to_be_visible()
    assert loaders(ui) == [] and not (ui.server.folder / "input" / "notes.txt").exists()
    choose(ui.page, clip_file)
    expect(ui.region("Clip").get_by_text("of 1.93 s")).to_be_visible()
    expect(ui.region("Clip").get_by_text("is not a video")).to_have_count(0)
    assert ui.page.evaluate(WIRED_TO, node) == "LoadVideo"


@pytest.mark.parametrize(("status", "text"), [(413, "too large to upload"), (500, "refused the file (500)")])
def test_a_refused_upload_says_what_to_do(canvas: Ui, clip_file: Path, status: int, text: str) -> None:
    def refuse(route: Route) -> None:
        route.fulfill(status=status)

    canvas.add("SetSeq_ReferenceClip")
    canvas.page.route("**/upload/image", refuse)
    choose(canvas.page, clip_file)
    expect(canvas.region("Clip").get_by_text(text)).to_be_visible()
    expect(canvas.page.get_by_role("button", name="Choose a video…")).to_be_enabled()
    canvas.page.unroute("**/upload/image", refuse)
    assert loaders(canvas) == []
    canvas.errors[:] = [error for error in canvas.errors if "/upload/image" not in error]


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([], (375, 30)),
        ([(0, 0, 500, 100)], (375, 165)),
        ([(0, 0, 300, 100)], (375, 30)),
        ([(400, 0, 500, 100), (400, 300, 500, 400)], (375, 465)),
        ([(400, 0, 500, 100), (400, 900, 500, 999)], (375, 165)),
        ([(400, -500, 500, -200)], (375, 30)),
    ],
)
def test_the_new_node_is_beside_its_neighbour_and_clear_of_all_others(
    canvas: Ui, others: list[tuple[float, ...]], expected: tuple[float, float]
) -> None:
    boxes = [dict(zip(("left", "top", "right", "bottom"), box, strict=True)) for box in ((700, 0, 900, 500), *others)]
    assert canvas.page.evaluate(PLACE, [boxes[0], boxes, [290, 320]]) == list(expected)
