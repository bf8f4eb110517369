"""Regions for several concepts on one model: stripes, boxes or masks.

Letters: P concepts, H height, W width of regions.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..errors import ConfigError

Method = Literal["add", "regions"]


METHODS: tuple[Method, ...] = ("add", "regions")
"""Ways to put several concepts on a model; docs/composition.md compares them."""


BOX_GRID = 240
"""Pixels per side of the mask of a box."""


def stripes(count: int) -> Tensor:
    """One region per concept, (count, 1, 1, 8 count): vertical stripes of equal width, from left to right."""
    return torch.eye(count).repeat_interleave(8, dim=1).view(count, 1, 1, 8 * count)


def boxes(corners: Sequence[tuple[float, float, float, float]]) -> Tensor:
    """Masks (P, H, W) of boxes (left, top, right, bottom), given in shares of the frame."""
    grid = (torch.arange(BOX_GRID) + 0.5) / BOX_GRID
    found = [
        ((grid > top) & (grid < bottom)).float().outer(((grid > left) & (grid < right)).float())
        for left, top, right, bottom in corners
    ]
    return torch.stack(found)


def regions_for(method: Method, count: int, masks_PHW: Tensor | None = None) -> Tensor | None:
    """Regions (P, 1, H, W) of `count` concepts for a method; None means everywhere.

    Args:
        masks_PHW: the regions, in the concepts' order; None for stripes.
    Raises:
        ConfigError: the number of masks is not the number of concepts, or the method takes no masks.
    """
    if method == "add":
        if masks_PHW is None:
            return None
        raise ConfigError(
            "There are masks, but the method is 'add', which has no regions.",
            hint="Choose the method 'regions'.",
        )
    if masks_PHW is None:
        return stripes(count)
    if len(masks_PHW) != count:
        raise ConfigError(
            f"There are {len(masks_PHW)} masks for {count} concepts.",
            hint="Give one for each, in their order.",
        )
    return masks_PHW.unsqueeze(1)


def check_region_prompts(method: Method, count: int, prompts: int) -> None:
    """Check that there is one prompt for each of `count` concepts, or none at all.

    Raises:
        ConfigError: the number is wrong, or the method takes no prompts for regions.
    """
    if prompts and method == "add":
        raise ConfigError(
            "There are prompts for regions, but the method is 'add', which has no regions.",
            hint="Choose the method 'regions'.",
        )
    if prompts not in (0, count):
        raise ConfigError(
            f"There are prompts for {prompts} regions, but {count} concepts.",
            hint="Give one for each, in their order.",
        )
