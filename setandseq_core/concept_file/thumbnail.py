"""Make the thumbnail of a concept: a small looping picture of its clip."""

import io

import torch
from PIL import Image
from torch import Tensor

from .info import MAX_THUMBNAIL_BYTES

THUMBNAIL_SIDES = (256, 192, 128, 64)
"""Longest sides in pixels, from the best down to one at which any 33 pictures are small enough."""


THUMBNAIL_FRAMES = 32


def thumbnail(frames_FHWC: Tensor, fps: float) -> bytes:
    """Frames in [0, 1] as a looping PNG of at most 32 pictures and 256 pixels a side, smaller if it would be too large.

    Programs that do not support animated PNGs show its first picture, the middle frame, which is not part of the loop.
    """
    every = -(-len(frames_FHWC) // THUMBNAIL_FRAMES)
    order = [len(frames_FHWC) // 2, *range(0, len(frames_FHWC), every)]
    pixels = (frames_FHWC[order].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    pictures = [Image.fromarray(picture) for picture in pixels]
    files = (_animated(pictures, side, every / fps) for side in THUMBNAIL_SIDES)
    return next(file for file in files if len(file) <= MAX_THUMBNAIL_BYTES)


def _animated(pictures: list[Image.Image], side: int, seconds: float) -> bytes:
    small = [picture.copy() for picture in pictures]
    for picture in small:
        picture.thumbnail((side, side))
    buffer = io.BytesIO()
    small[0].save(
        buffer,
        "PNG",
        save_all=True,
        default_image=True,
        append_images=small[1:],
        duration=round(seconds * 1000),
        loop=0,
    )
    return buffer.getvalue()
