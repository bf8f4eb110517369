"""The looping picture in a concept file."""

import io
from typing import Any

import torch
from PIL import Image

from setandseq_core.concept_file.thumbnail import thumbnail


def test_thumbnail_is_the_middle_frame_made_small_and_loops() -> None:
    frames_FHWC = torch.zeros(5, 300, 600, 3)
    frames_FHWC[2, ..., 1] = 1
    frames_FHWC[4, ..., 2] = 1
    image: Any = Image.open(io.BytesIO(thumbnail(frames_FHWC, 8.0)))
    assert (image.format, image.size, image.getpixel((5, 5))) == ("PNG", (256, 128), (0, 255, 0))
    image.seek(1)
    assert (image.convert("RGB").getpixel((5, 5)), image.info["duration"], image.info["loop"]) == ((0, 0, 0), 250, 0)
    image.seek(image.n_frames - 1)
    assert image.convert("RGB").getpixel((5, 5)) == (0, 0, 255)


def test_thumbnail_of_a_long_noisy_clip_is_small_enough() -> None:
    frames_FHWC = torch.rand(97, 300, 300, 3, generator=torch.Generator().manual_seed(0))
    file = thumbnail(frames_FHWC, 16.0)
    image: Any = Image.open(io.BytesIO(file))
    assert len(file) <= 2**20 and max(image.size) >= 64
    assert image.n_frames == 26
