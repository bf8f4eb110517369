import pytest
import torch
from PIL import Image

from setandseq_core.errors import VideoError
from setandseq_core.evaluate.contact_sheet import BACKGROUND, contact_sheet


def colours(sheet: Image.Image, row: int) -> list[tuple[int, ...]]:
    """The plain colours of a row's frames, from left to right."""
    found: list[tuple[int, ...]] = []
    for x in range(sheet.width):
        pixel = sheet.getpixel((x, row))
        assert isinstance(pixel, tuple)
        if pixel != BACKGROUND and max(pixel) - min(pixel) > 20 and (not found or found[-1] != pixel):
            found.append(pixel)
    return found


def red_ramp(length: int, height: int = 64, width: int = 64) -> torch.Tensor:
    """Frame i has red 100 + i, of 255."""
    frames = torch.zeros(length, height, width, 3)
    frames[..., 0] = (100 + torch.arange(length).view(-1, 1, 1)) / 255
    return frames


def test_frames_are_evenly_spaced_from_first_to_last() -> None:
    sheet = contact_sheet([("clip", red_ramp(17))], columns=5)
    assert colours(sheet, sheet.height // 2) == [(100 + i, 0, 0) for i in (0, 4, 8, 12, 16)]


def test_short_video_shows_each_frame_once() -> None:
    sheet = contact_sheet([("still", red_ramp(1)), ("clip", red_ramp(3))])
    assert colours(sheet, sheet.height // 4) == [(100, 0, 0)]
    assert colours(sheet, sheet.height * 3 // 4) == [(100, 0, 0), (101, 0, 0), (102, 0, 0)]


def test_small_frames_are_enlarged_and_large_ones_made_smaller() -> None:
    small = contact_sheet([("a", red_ramp(1))], scale=1)
    enlarged = contact_sheet([("a", red_ramp(1))], scale=3)
    assert enlarged.height - small.height == 128
    assert enlarged.width - small.width == 128
    large = contact_sheet([("a", red_ramp(1, 480, 832))], scale=1)
    assert large.width - small.width == 320 - 64


def test_each_row_has_its_label() -> None:
    sheet = contact_sheet([("the concept, on a green striped background", red_ramp(3)), ("", red_ramp(3))])
    label_column = sheet.crop((0, 0, sheet.width // 5, sheet.height))
    top, bottom = (label_column.crop((0, y, label_column.width, y + sheet.height // 2 - 16)) for y in (8, 160))
    assert len(set(top.convert("L").tobytes())) > 10  # the greys of the letters
    assert set(bottom.convert("L").tobytes()) <= {250}


def test_rows_of_different_sizes_do_not_overlap() -> None:
    sheet = contact_sheet([("wide", red_ramp(2, 32, 96)), ("tall", red_ramp(2, 96, 32))], scale=1)
    assert sheet.mode == "RGB"
    assert sheet.height == 16 + 32 + 16 + 96 + 16


@pytest.mark.parametrize("shape", [(3, 16, 16), (5, 3, 16, 16), (0, 16, 16, 3)])
def test_frames_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(VideoError, match=r"frames of 'clip' have shape .* \(frames, height, width, 3\) is needed"):
        contact_sheet([("clip", torch.zeros(shape))])


@pytest.mark.parametrize("settings", [{"columns": 0}, {"scale": 0}])
def test_empty_sheet_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(VideoError, match="cannot be drawn. Give 1 or more of each"):
        contact_sheet([("clip", torch.zeros(5, 16, 16, 3))], **settings)
    with pytest.raises(VideoError, match="0 videos"):
        contact_sheet([])
