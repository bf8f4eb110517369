"""The events and records that the training panel receives."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]


@pytest.fixture
def panel(pack: Pack) -> Any:
    """The module."""
    return pack("nodes.panel")


def test_a_long_curve_stays_small_and_keeps_its_shape(panel: Any) -> None:
    curve, steps = panel.LossCurve(start=10), 5 * panel.MOST_VALUES
    for step in range(steps):
        curve.add(float(step))
    assert len(curve.values) < 2 * panel.MOST_VALUES
    assert curve.stride == 4 and curve.end == 10 + steps
    assert curve.values[0] == pytest.approx(1.5) and curve.values[-1] == pytest.approx(steps - 2.5)


def test_news_hold_what_is_new_and_a_late_comer_gets_all(panel: Any) -> None:
    record = panel.TrainingRecord(node="7", workflow="w", stage="set", steps=9)
    for loss in (0.5, 0.4, 0.3):
        record.losses.add(loss)
    record.validation += [(1, 0.6), (3, 0.5)]
    assert record.news(2, 1)["losses"] == [0.3] and record.news(2, 1)["validation"] == [(3, 0.5)]
    assert record.news()["losses"] == [0.5, 0.4, 0.3] and record.news()["first"] == 0


def test_records_belong_to_a_node_of_a_workflow_and_the_oldest_are_forgotten(panel: Any) -> None:
    records = panel.Records()
    for number in range(panel.MOST_RECORDS + 1):
        records.put(panel.TrainingRecord(node=str(number), workflow="one"))
    records.put(panel.TrainingRecord(node="5", workflow=""))
    assert records.get("0", "one") is None and records.get("9", "one").node == "9"
    assert records.get("9", "two") is None
    assert records.get("5", "two").workflow == ""  # a prompt without a workflow may be anyone's


def test_a_node_is_known_by_its_own_mark_in_subgraphs_too_or_else_by_its_workflow(panel: Any) -> None:
    inner = {"id": "aaa", "nodes": [{"id": 101, "properties": {panel.COPY: "inside"}}]}
    nodes = [{"id": 4, "properties": {panel.COPY: "mark"}}, {"id": 5, "type": "aaa"}, {"id": 6, "properties": {}}]
    workflow = {"id": "abc", "nodes": nodes, "definitions": {"subgraphs": [inner]}}
    ids = ("4", "5:101", "5", "6", "99")
    assert [panel.copy_id({"workflow": workflow}, node_id) for node_id in ids] == [
        "mark",
        "inside",
        "abc",
        "abc",
        "abc",
    ]
    assert [panel.copy_id(found, "4") for found in (None, {}, {"workflow": None}, {"workflow": {}}, [])] == [""] * 5


def test_samples_of_all_stretches_of_a_training_are_kept(panel: Any) -> None:
    record = panel.TrainingRecord(node="1")
    for record.step in range(10, 1010, 10):
        record.add_sample(str(record.step).encode())
    steps = sorted(int(name.removeprefix(panel.SAMPLE)) for name in record.pictures if name.startswith(panel.SAMPLE))
    assert record.pictures["sample"] == b"1000" and record.sample_step == 1000
    assert len(steps) == panel.MOST_SAMPLES and steps[0] == 10 and steps[-1] == 1000
    assert max(after - before for before, after in pairwise(steps)) <= 300


def test_what_was_trained_before_has_its_curve_again(panel: Any) -> None:
    record = panel.TrainingRecord(node="1", stage="set")
    panel.trained_before(record, [0.5, 0.4, 0.3], 300)
    assert (record.step, record.steps, record.losses.stride) == (300, 300, 100)


def test_records_know_whether_any_node_trains(pack: Callable[[str], Any]) -> None:
    panel = pack("nodes.panel")
    records = panel.Records()
    record = panel.TrainingRecord(node="1")
    assert not records.any_trains()
    records.put(record)
    assert records.any_trains()
    record.state = panel.FAILED
    assert not records.any_trains()
