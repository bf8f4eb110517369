"""Sizes of pictures and clips: which one a model takes, and how a frame is cropped and resized to it.

Shape letters: H height, W width, C channels.
"""

import math

import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]
"""(height, width) in pixels."""
WantedSize = tuple[int | None, int | None]
"""Requested (height, width) in pixels; None follows the shape of the clip."""


def fitted_size(source: Size, multiple: int, wanted: WantedSize | None = None, max_pixels: int | None = None) -> Size:
    """The size of a clip for training; the node and the command line share this rule.

    A side that is asked for is kept. The other follows the shape of the source; if neither is asked for, both follow
    the source, scaled down to `max_pixels` if it is larger. Each becomes the nearest multiple of `multiple`.
    """
    height, width = wanted or (None, None)
    scale = 1.0
    if height:
        scale = height / source[0]
    elif width:
        scale = width / source[1]
    elif max_pixels:
        scale = min(1.0, math.sqrt(max_pixels / (source[0] * source[1])))
    return (
        height or nearest_multiple(source[0] * scale, multiple),
        width or nearest_multiple(source[1] * scale, multiple),
    )


def nearest_multiple(side: float, multiple: int) -> int:
    """The multiple nearest to a side in pixels, and at least one multiple."""
    # If two are equally near, the smaller one: 640x360 is cropped to 640x352. For 640x368 every pixel would have to be
    # enlarged.
    return max(1, math.ceil(side / multiple - 0.5)) * multiple


def crop_size(source: Size, size: Size) -> Size:
    """Size of the largest part of the source that has the aspect ratio of the result."""
    return (
        max(1, min(source[0], round(source[1] * size[0] / size[1]))),
        max(1, min(source[1], round(source[0] * size[1] / size[0]))),
    )


def crop(frame_HWC: Tensor, size: Size) -> Tensor:
    """The largest central part of a frame with the aspect ratio of `size`; any dtype and number of channels."""
    source = (frame_HWC.shape[0], frame_HWC.shape[1])
    height, width = crop_size(source, size)
    top = (source[0] - height) // 2
    left = (source[1] - width) // 2
    return frame_HWC[top : top + height, left : left + width]


def resize(frame_HWC: Tensor, size: Size) -> Tensor:
    """A frame resized with antialiasing; floats may overshoot a little."""
    if frame_HWC.shape[:2] == size:
        return frame_HWC
    image = frame_HWC.permute(2, 0, 1)[None]
    return F.interpolate(image, size, mode="bicubic", antialias=True)[0].permute(1, 2, 0)
