"""The workflows' thumbnails: each has a source, and those of large models are drawn as they lie in workflows/."""

import pytest
from PIL import Image, ImageChops, ImageStat

from tools.pictures.schemes import SCHEMES, SIZE, drawn
from tools.pictures.thumbnails import ROWS
from tools.workflows.embedded import COMPOSE
from tools.workflows.make import FOLDER, MAKERS


def test_every_workflow_has_a_source() -> None:
    assert sorted([*ROWS, COMPOSE, *SCHEMES]) == sorted(MAKERS)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_drawn_thumbnail_is_what_the_program_draws(name: str) -> None:
    picture = drawn(name)
    assert picture.size == SIZE
    with Image.open(FOLDER / f"{name}.jpg") as kept:
        difference = ImageChops.difference(picture, kept.convert("RGB"))
    assert max(ImageStat.Stat(difference).mean) < 6  # JPEG's own loss


def test_schemes_differ() -> None:
    pictures = [drawn(name).tobytes() for name in SCHEMES]
    assert len(set(pictures)) == len(pictures)
