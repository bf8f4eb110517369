"""The looping clip on Train Concept and Reference Clip, whose start and end are dragged, in a real browser."""

import json

import pytest
from playwright.sync_api import expect

from setandseq_core.embedded.files import TRANSFORMER_FILE
from tools.pictures.interface import Ui
from tools.videos import MAKERS
from tools.workflows.embedded import START
from tools.workflows.make import FOLDER

MOVED = "async values => (await import('/extensions/setandseq/stretch.mjs')).moved(...values)"
CONNECT = """([from, to, wire]) => {
  const of = id => window.app.graph.nodes.find(node => String(node.id) === id);
  of(from).connect(0, of(to), of(to).inputs.findIndex(input => input.name === wire));
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
    expect(clip.get_by_text("0.00 s to 1.06 s of 1.13 s")).to_be_visible()
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
    expect(ui.region("Clip").get_by_text("Connect Load Video to see the clip.")).to_be_visible()


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


def test_a_source_that_is_not_a_file_says_so(ui: Ui) -> None:
    video, node = ui.add("CreateVideo"), ui.add("SetSeq_ReferenceClip")
    ui.page.evaluate(CONNECT, [video, node, "video"])
    expect(ui.region("Clip").get_by_text("only if it comes straight from Load Video")).to_be_visible()
