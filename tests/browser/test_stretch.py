"""The looping clip on Train Concept and Reference Clip, whose start and end are dragged, in a real browser."""

import json

import pytest
from playwright.sync_api import expect

from tools.pictures.interface import Ui
from tools.workflows.embedded import START
from tools.workflows.make import FOLDER

MOVED = "async values => (await import('/extensions/setandseq/stretch.mjs')).moved(...values)"
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
