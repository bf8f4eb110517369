"""Contact sheets: videos side by side in one picture, a labelled row for each.

Shape letters: F frames, H height, W width, C the three channels red, green and blue.
"""

import textwrap
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import VideoError

MAX_SIDE = 320
"""Longest side of a frame on the sheet, in pixels; larger frames are scaled down to it."""
LABEL_CHARACTERS = 26
"""Maximum characters in a line of a label; longer labels are wrapped."""
FONT_SIZE = 16
LINE_HEIGHT = 22
MARGIN = 16
GAP = 4
BACKGROUND = (250, 250, 250)
TEXT = (35, 35, 40)
RULE = (222, 222, 226)

_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def contact_sheet(rows: Sequence[tuple[str, Tensor]], *, columns: int = 9, scale: int = 2) -> Image.Image:
    """Draw one row per video: its label, then evenly spaced frames from the first to the last.

    Args:
        rows: (label, frames_FHWC) with RGB in [0, 1]; lengths and sizes may differ from row to row.
        columns: maximum number of frames in a row.
        scale: factor by which frames are enlarged, as long as their longer side stays within 320 pixels.
    Returns:
        An RGB picture.
    Raises:
        VideoError: there are no rows, or frames do not have the shape (F, H, W, 3).
    """
    if not rows or columns < 1 or scale < 1:
        raise VideoError(
            f"A contact sheet of {len(rows)} videos, {columns} columns and scale {scale} cannot be drawn.",
            hint="Give 1 or more of each.",
        )
    font = ImageFont.load_default(FONT_SIZE)
    labels = [_wrap(label) for label, _ in rows]
    pictures = [_pictures(label, frames_FHWC, columns, scale) for label, frames_FHWC in rows]
    left = 2 * MARGIN + max(_text_width(font, line) for lines in labels for line in lines)
    heights = [max(row[0].height, LINE_HEIGHT * len(lines)) for row, lines in zip(pictures, labels, strict=True)]
    width = left + max(len(row) * (row[0].width + GAP) for row in pictures) - GAP + MARGIN
    sheet = Image.new("RGB", (width, MARGIN + sum(height + MARGIN for height in heights)), BACKGROUND)
    top = MARGIN
    for lines, row, height in zip(labels, pictures, heights, strict=True):
        _draw_row(sheet, font, lines, row, left, top, height)
        top += height + MARGIN
    return sheet


def _draw_row(
    sheet: Image.Image, font: _Font, lines: list[str], row: list[Image.Image], left: int, top: int, height: int
) -> None:
    draw = ImageDraw.Draw(sheet)
    if top > MARGIN:
        rule = top - MARGIN // 2
        draw.line((MARGIN, rule, sheet.width - MARGIN, rule), fill=RULE)
    text_top = top + (height - LINE_HEIGHT * len(lines)) // 2
    for i, line in enumerate(lines):
        draw.text((MARGIN, text_top + LINE_HEIGHT * i), line, fill=TEXT, font=font)
    for i, picture in enumerate(row):
        sheet.paste(picture, (left + i * (picture.width + GAP), top + (height - picture.height) // 2))


def _pictures(label: str, frames_FHWC: Tensor, columns: int, scale: int) -> list[Image.Image]:
    shape = tuple(frames_FHWC.shape)
    if len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise VideoError(
            f"The frames of {label!r} have shape {shape}; (frames, height, width, 3) is needed.",
            hint="Give RGB frames, channels last, at least one.",
        )
    length, height, width, _ = shape
    factor = min(scale, MAX_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    pixels = (frames_FHWC[_evenly_spaced(length, columns)].detach().float().nan_to_num().clamp(0, 1) * 255).round()
    return [
        Image.fromarray(frame_HWC.numpy()).resize(size, Image.Resampling.BICUBIC)
        for frame_HWC in pixels.to(torch.uint8).cpu()
    ]


def _evenly_spaced(length: int, columns: int) -> list[int]:
    count = min(length, columns)
    return [round(i * (length - 1) / max(1, count - 1)) for i in range(count)]


def _wrap(label: str) -> list[str]:
    return [line for part in label.splitlines() for line in textwrap.wrap(part, LABEL_CHARACTERS)] or [""]


def _text_width(font: _Font, line: str) -> int:
    return round(font.getlength(line))
