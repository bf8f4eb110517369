"""How a step grows: the fit, the arithmetic on paper, and the page that is made of them."""

import math
from pathlib import Path

import pytest

from benchmarks import growth
from benchmarks.growth import BASE, compared
from benchmarks.growth_fit import Growth, fitted
from benchmarks.growth_models import Shape, counted
from benchmarks.growth_page import PAGE, Record, length_at, of_model, section, stored, with_section, write_figure
from benchmarks.growth_paper import BATCH, CARDS, CONCEPTS, exchange, line, lines, products


@pytest.fixture(scope="module")
def values() -> Record:
    """The measurements that the page of results is made from."""
    return stored()


def test_a_fit_recovers_known_parts() -> None:
    known = Growth(constant=0.3, linear=2e-3, quadratic=5e-7)
    x = [48, 192, 768, 1728, 5000]
    found = fitted(x, [known(each) for each in x])
    assert (found.constant, found.linear, found.quadratic) == pytest.approx((0.3, 2e-3, 5e-7), rel=1e-6)
    assert found.error(x, [known(each) for each in x]) < 1e-9
    straight = fitted(x, [1 + 0.5 * each for each in x], powers=(0, 1))
    assert (straight.constant, straight.linear, straight.quadratic) == pytest.approx((1, 0.5, 0))


def test_no_part_of_a_fit_is_negative() -> None:
    found = fitted([1, 2, 3], [3.0, 2.0, 1.0])
    assert min(found.constant, found.linear, found.quadratic) == 0 and found.constant > 0


def test_the_quadratic_part_overtakes_where_both_are_equal() -> None:
    known = Growth(constant=0.3, linear=2e-3, quadratic=5e-7)
    tokens = known.overtaking
    assert known.quadratic * tokens**2 == pytest.approx(known.constant + known.linear * tokens)
    assert math.isinf(Growth(constant=1, linear=1, quadratic=0).overtaking)


@pytest.mark.filterwarnings("ignore::UserWarning")  # the profiler's, where there is no GPU
def test_a_case_is_compared_with_the_base_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "ROUNDS", 1)
    found = compared("side", 256, BASE["sequence"])
    assert found["tokens"] == 768 and found["time"] > 0 and 2 < found["memory"] < 4


def test_counted_operations_are_tokens_and_their_square() -> None:
    model = counted(Shape(name="tiny", heads=1, feed_forward=64, blocks=1))
    tokens, operations = zip(*((one["tokens"], one["operations"]) for one in model["lengths"]), strict=True)
    found = of_model(model)
    assert found.error(tokens, operations) < 1e-3 and found.quadratic > 0
    assert [length_at(model, each) for each in tokens] == pytest.approx([1, 17, 33, 81])


def test_real_models_grow_as_counted(values: Record) -> None:
    for model in values["models"]:
        points = [one["tokens"] for one in model["lengths"]], [one["operations"] for one in model["lengths"]]
        assert of_model(model).error(*points) < 1e-3


def test_lines_on_paper_add_up(values: Record) -> None:
    for model in values["models"]:
        found = lines(model)
        assert [(one.concepts, one.cards) for one in found] == [(n, cards) for n in CONCEPTS for cards in CARDS]
        for one in found:
            assert sum(one.limits.values()) == one.seconds and min(one.limits.values()) >= 0
            work = products(model, 1) * one.concepts / one.cards
            assert one.limits["products"] == pytest.approx(work) and one.each * one.concepts <= max(
                one.cards, one.concepts
            )


def test_more_cards_are_no_slower_and_one_concept_fills_no_more_than_its_batch(values: Record) -> None:
    (model, *_) = values["models"]
    assert line(model, 64, 1).each == BATCH and line(model, 64, 1).largest[0][0] == "batch"
    assert line(model, 1, 1000).largest[0][0] == "products" and line(model, 1, 1000).each == 1
    assert exchange(model, 1) == 0 and exchange(model, 8) < exchange(model, 16)
    for concepts in CONCEPTS:
        times = [line(model, cards, concepts).seconds for cards in CARDS]
        assert times == sorted(times, reverse=True)


def test_the_page_is_what_the_measurements_make(values: Record) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_section(page, section(values)) == page


def test_the_figure_is_made_of_what_is_there(values: Record, tmp_path: Path) -> None:
    write_figure(values["cases"], tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000
