"""The walk of docs/walk.md counts every click; tested on the shortest way, up to Run."""

import pytest

from tools.pictures.interface import Ui
from tools.pictures.walk import Hand, open_template, press_run
from tools.workflows.embedded import START


@pytest.mark.every_frontend
def test_four_clicks_start_the_first_training(canvas: Ui) -> None:
    hand = Hand(canvas)
    open_template(hand, START)
    assert canvas.node("SetSeq_TrainConcept") and canvas.server.get("prompt")["exec_info"]["queue_remaining"] == 0
    press_run(hand)
    canvas.page.wait_for_function(
        "() => fetch('/prompt').then(answer => answer.json()).then(found => found.exec_info.queue_remaining === 1)"
    )
    assert hand.clicks == ["Templates", "section *setandseq*", "the picture", "**Run**"]
