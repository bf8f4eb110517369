"""The first workflows open on a small screen at 100 %, with all nodes in sight and no wire or node below another."""

import json
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest

from tools.pictures.interface import Ui
from tools.pictures.openings import SMALL_WINDOW, opened_template
from tools.workflows import embedded, image_to_video, lora, wan
from tools.workflows.make import FOLDER

Box = tuple[float, float, float, float]
POINTS = 40
"""On a wire."""
VIEWS = (
    "async values => { const view = await import('/extensions/setandseq/view.mjs'); return view.largeView(...values); }"
)


def overlap(first: Box, second: Box) -> bool:
    return all(first[side] < second[side + 2] and second[side] < first[side + 2] for side in (0, 1))


def curve(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """Points of a wire as the interface draws it: a spline that leaves to the right and arrives from the left."""
    reach = 0.25 * ((start[0] - end[0]) ** 2 + (start[1] - end[1]) ** 2) ** 0.5
    across = start[0], start[0] + reach, end[0] - reach, end[0]
    down = start[1], start[1], end[1], end[1]
    shares = [step / POINTS for step in range(POINTS)]
    weights = [((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3) for t in shares]
    return [(weighted(each, across), weighted(each, down)) for each in weights]


def weighted(weights: Sequence[float], values: Sequence[float]) -> float:
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def hidden(wire: dict[str, Any], boxes: dict[str, Box]) -> list[str]:
    """The nodes that a wire passes below, apart from the sockets at its ends."""
    points = curve(tuple(wire["start"]), tuple(wire["end"]))
    inner = {title: (left + 12, top, right - 12, bottom) for title, (left, top, right, bottom) in boxes.items()}
    return [
        title
        for title, (left, top, right, bottom) in inner.items()
        if any(left < x < right and top < y < bottom for x, y in points)
    ]


@pytest.mark.every_frontend
@pytest.mark.parametrize(
    ("name", "most", "scale"),
    [(embedded.START, 8, 1), (wan.TRAIN, 8, 1), (lora.NAME, 10, 1), (image_to_video.NAME, 11, 0.81)],
)
def test_a_first_workflow_opens_in_full_size_with_nothing_hidden(ui: Ui, name: str, most: int, scale: float) -> None:
    with opened_template(ui, name, SMALL_WINDOW) as look:
        boxes = look["boxes"]
        assert look["scale"] == pytest.approx(scale, abs=0.01)
        assert len(boxes) <= most
        assert not [pair for pair in combinations(boxes, 2) if overlap(boxes[pair[0]], boxes[pair[1]])]
        assert not [title for title, (left, top, right, bottom) in look["shown"].items() if left < 0 or top < 0]
        assert max(right for _, _, right, _ in look["shown"].values()) <= SMALL_WINDOW[0]
        assert max(bottom for _, _, _, bottom in look["shown"].values()) <= SMALL_WINDOW[1]
        assert {wire["name"]: hidden(wire, boxes) for wire in look["wires"] if hidden(wire, boxes)} == {}


def test_a_view_that_a_person_chose_stays(canvas: Ui) -> None:
    workflow = json.loads((FOLDER / f"{embedded.START}.json").read_text(encoding="utf-8"))
    workflow["extra"]["ds"] = {"scale": 0.5, "offset": [10, 20]}
    canvas.page.evaluate("file => window.app.loadGraphData(file, true, true, null, {skipAssetScans: true})", workflow)
    canvas.page.wait_for_timeout(700)
    found = canvas.page.evaluate("() => [window.app.canvas.ds.scale, ...window.app.canvas.ds.offset]")
    assert found == [0.5, 10, 20]


def test_a_large_workflow_is_shown_whole_below_the_bar(canvas: Ui) -> None:
    view = canvas.page.evaluate(VIEWS, [{"left": -100, "top": 50, "width": 3000, "height": 900}, 1366, 768])
    assert 0.42 < view["scale"] < 0.44
    assert (50 + view["y"]) * view["scale"] == pytest.approx(92)
    assert (-100 + view["x"]) * view["scale"] == pytest.approx(66)
