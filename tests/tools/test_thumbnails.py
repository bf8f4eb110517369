"""The workflows' thumbnails: each has a source, and those made with another model say so."""

import pytest
from PIL import Image

from tools.workflows.embedded import COMPOSE
from tools.workflows.make import CELL, COLUMNS, MAKERS, ROWS

thumbnails = pytest.importorskip("tools.pictures.thumbnails", reason="pip install playwright", exc_type=ImportError)


def test_every_workflow_has_a_source() -> None:
    assert sorted([*thumbnails.ROWS, COMPOSE, *thumbnails.PARTS]) == sorted(MAKERS)


def test_a_caption_covers_the_lowest_part_only() -> None:
    plain = Image.new("RGB", (COLUMNS * CELL, ROWS * CELL), (200, 10, 10))
    picture = thumbnails.captioned(plain.copy())
    left, top, right, bottom = 0, 0, plain.width, plain.height - thumbnails.CAPTION_HEIGHT
    assert picture.size == plain.size
    assert picture.crop((left, top, right, bottom)).getcolors() == [(right * bottom, (200, 10, 10))]
    below = picture.crop((left, bottom, right, plain.height))
    assert below.getpixel((0, 2)) == (0, 0, 0) and below.getextrema()[0][1] > 200
