"""Find the sprites of a clip: pixels that differ from the background, split into at most two, followed through time.

Shape letters: F frames, H height, W width, C colour channels (RGB in [0, 1]), P pixels, S side of a crop.
"""

# PyTorch and SciPy leave some types of the functions used here open.
# pyright: reportMissingTypeStubs=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from ..world.looks import OBJECT_COLOURS
from ..world.scene import SIZE
from .backdrop import FAR, Backdrop

LEAST_AREA = 30
"""Smallest area of a blob in one frame, in pixels; smaller ones are noise."""
DEEPEST_NECK = 5
"""Maximum pixels by which a blob is shrunk to make it fall in two; a small sprite has a radius of 9."""
TOUCHING = 0.85
"""Minimum distance between the centres of two bodies, relative to their radii; parts of one body are nearer."""
Pair = tuple[Tensor, Tensor]
"""Masks (H, W) of the left and the right sprite."""
CROP = 32
"""Side of a normalised crop in pixels."""
CROP_REACH = 2.0
"""Half the side of a normalised crop, in radii of the disc that has the sprite's area."""


@dataclass(kw_only=True, slots=True, frozen=True)
class FoundSprite:
    """One sprite in every frame, whatever it looks like."""

    mask_FHW: Tensor
    """Its pixels, bool; empty in frames where it could not be told apart from the other sprite."""
    cover_FHW: Tensor
    """Share of each pixel that the sprite covers, in [0, 1]: `mask_FHW` with soft edges."""
    track_F3: Tensor
    """Centre x, y and area of the cover in each frame, in pixels; NaN where the sprite was not seen."""
    apart_F: Tensor
    """Whether the sprite is separate from the other one in each frame."""
    whole_F: Tensor
    """Whether the whole sprite is seen in each frame: separate, and clear of the frame's edge."""
    colour_C: Tensor
    """Its most common colour."""


def find_sprites(frames_FHWC: Tensor, backdrop: Backdrop) -> tuple[FoundSprite, ...]:
    """The one or two sprites of a clip, from left to right; none if nothing differs from the background.

    There are two if in three frames out of ten there are two blobs, or one with a neck whose halves are as far apart as
    touching bodies. Otherwise there are two if the pixels have two of the world's colours side by side.
    """
    far_FHW = _smooth(backdrop.difference_FHW) > FAR
    blobs = [_blobs(labels_HW) for labels_HW in label_blobs(far_FHW)]
    halves = _cut_at_necks(blobs)
    two = [len(found) == 2 or _touch(cut) for found, cut in zip(blobs, halves, strict=True)]
    if sum(two) >= 0.3 * len(blobs):
        masks, apart_F = _split(frames_FHWC, far_FHW, blobs, halves)
    else:
        masks, apart_F = _split_by_colour(frames_FHWC, far_FHW, blobs)
    found = [_measure(frames_FHWC, backdrop, mask, apart_F) for mask in masks if mask.any()]
    return tuple(sorted(found, key=lambda sprite: float(sprite.track_F3[:, 0].nanmean())))


def one_sprite(backdrop: Backdrop) -> tuple[Tensor, Tensor]:
    """Read the clip as a single sprite: its pixels, and the frames that show it whole."""
    far_FHW = _smooth(backdrop.difference_FHW) > FAR
    mask_FHW = _largest([_blobs(labels_HW) for labels_HW in label_blobs(far_FHW)], far_FHW)
    return mask_FHW, mask_FHW.flatten(1).any(1) & _clear_of_edge(mask_FHW)


def label_blobs(mask_FHW: Tensor) -> Tensor:
    """Label the connected blobs (8 neighbours) of each frame with numbers, int64; 0 outside the mask."""
    within_a_frame = np.zeros((3, 3, 3))
    within_a_frame[1] = 1
    labels_FHW = np.empty(mask_FHW.shape, np.int32)
    ndimage.label(mask_FHW.numpy(), within_a_frame, output=labels_FHW)
    return torch.from_numpy(labels_FHW).long()


def _smooth(values_FHW: Tensor) -> Tensor:
    return functional.avg_pool2d(values_FHW.unsqueeze(1), 3, 1, 1, count_include_pad=False).squeeze(1)


def _grow(mask_FHW: Tensor, pixels: int) -> Tensor:
    return functional.max_pool2d(mask_FHW.float().unsqueeze(1), 2 * pixels + 1, 1, pixels).squeeze(1) > 0


def _shrink(mask_FHW: Tensor, pixels: int) -> Tensor:
    return ~_grow(~mask_FHW, pixels)


def _blobs(labels_HW: Tensor, least: int = LEAST_AREA) -> list[Tensor]:
    """Masks (H, W) of the blobs of at least `least` pixels, largest first, at most two."""
    areas = torch.bincount(labels_HW.flatten(), minlength=3)
    areas[0] = 0
    values, numbers = areas.topk(2)
    return [labels_HW == n for n, area in zip(numbers.tolist(), values.tolist(), strict=True) if area >= least]


def _centre_x(mask_HW: Tensor) -> float:
    return float(mask_HW.nonzero()[:, 1].float().mean())


def _split(
    frames_FHWC: Tensor, far_FHW: Tensor, blobs: list[list[Tensor]], halves: list[Pair | None]
) -> tuple[list[Tensor], Tensor]:
    """Left and right masks (F, H, W) of two sprites, and the frames where they are apart.

    Args:
        halves: halves of each frame's only blob if it has a neck.
    """
    left_FHW, right_FHW = torch.zeros_like(far_FHW), torch.zeros_like(far_FHW)
    apart_F = torch.tensor([len(found) == 2 for found in blobs])
    for frame, (found, cut) in enumerate(zip(blobs, halves, strict=True)):
        if len(found) == 2:
            left_FHW[frame], right_FHW[frame] = sorted(found, key=_centre_x)
        elif cut:
            left_FHW[frame], right_FHW[frame] = cut
    sure_F = apart_F if apart_F.any() else torch.ones_like(apart_F)
    colours = [_median_colour(frames_FHWC[sure_F], mask[sure_F]) for mask in (left_FHW, right_FHW)]
    for frame, (found, cut) in enumerate(zip(blobs, halves, strict=True)):
        if len(found) == 1 and cut is None and float((colours[0] - colours[1]).norm()) > 0.35:
            nearer_HW = (frames_FHWC[frame] - colours[0]).norm(dim=-1) < (frames_FHWC[frame] - colours[1]).norm(dim=-1)
            left_FHW[frame], right_FHW[frame] = found[0] & nearer_HW, found[0] & ~nearer_HW
    return [left_FHW, right_FHW], apart_F


def _median_colour(frames_FHWC: Tensor, mask_FHW: Tensor) -> Tensor:
    return frames_FHWC[_shrink(mask_FHW, 1) & mask_FHW].median(dim=0).values


def _touch(halves: Pair | None) -> bool:
    """Whether the halves' centres are nearly as far apart as those of two touching discs of the same areas."""
    if halves is None:
        return False
    one, two = (half.nonzero().float() for half in halves)
    return float((one.mean(0) - two.mean(0)).norm()) > TOUCHING * (
        math.sqrt(len(one)) + math.sqrt(len(two))
    ) / math.sqrt(math.pi)


def _cut_at_necks(blobs: list[list[Tensor]]) -> list[Pair | None]:
    """The left and right half of each frame's only blob, if it falls in two when shrunk."""
    halves: list[Pair | None] = [None] * len(blobs)
    for pixels in range(1, DEEPEST_NECK + 1):
        left = [frame for frame, found in enumerate(blobs) if len(found) == 1 and halves[frame] is None]
        if not left:
            break
        masks_FHW = torch.stack([blobs[frame][0] for frame in left])
        for frame, labels_HW in zip(left, label_blobs(_shrink(masks_FHW, pixels)), strict=True):
            cores = _blobs(labels_HW)
            if len(cores) == 2:
                halves[frame] = _grown_back(cores, blobs[frame][0], pixels)
    return halves


def _grown_back(cores: list[Tensor], mask_HW: Tensor, pixels: int) -> Pair:
    left, right = sorted(cores, key=_centre_x)
    for _ in range(pixels + 2):
        grown = _grow(torch.stack([left, right]), 1) & mask_HW
        left, right = left | (grown[0] & ~right), right | (grown[1] & ~grown[0] & ~left)
    return left, right


def _split_by_colour(frames_FHWC: Tensor, far_FHW: Tensor, blobs: list[list[Tensor]]) -> tuple[list[Tensor], Tensor]:
    """Masks of one sprite, or of two that always touch, found by two named colours side by side."""
    mask_FHW = _largest(blobs, far_FHW)
    whole_F = torch.ones(len(blobs), dtype=torch.bool)
    core_FHW = _shrink(mask_FHW, 1) & mask_FHW
    if not core_FHW.any():
        return [mask_FHW], whole_F
    named = torch.tensor(list(OBJECT_COLOURS.values()))
    distance, name = (frames_FHWC.unsqueeze(-2) - named).norm(dim=-1).min(dim=-1)
    name[~core_FHW | (distance > 0.25)] = len(named)
    counts = torch.bincount(name.flatten(), minlength=len(named) + 1)[:-1]
    (one_count, two_count), (one, two) = counts.topk(2)
    if two_count < 0.15 * core_FHW.sum() or one_count + two_count < 0.7 * core_FHW.sum():
        return [mask_FHW], whole_F
    masks = [mask_FHW & (name == number) for number in (one, two)]
    both_F = masks[0].flatten(1).any(1) & masks[1].flatten(1).any(1)
    gaps = [abs(_centre_x(masks[0][f]) - _centre_x(masks[1][f])) for f in both_F.nonzero().flatten().tolist()]
    if not gaps or torch.tensor(gaps).median() < 10:
        return [mask_FHW], whole_F
    return [_grow(mask, 1) & mask_FHW for mask in masks], ~whole_F


def _largest(blobs: list[list[Tensor]], far_FHW: Tensor) -> Tensor:
    """Each frame's largest blob, with nearby pieces that a part in the background's colour cuts off."""
    mask_FHW = torch.stack([found[0] if found else torch.zeros_like(far_FHW[0]) for found in blobs])
    for _ in range(2):
        mask_FHW = mask_FHW | (_grow(mask_FHW, 3) & far_FHW)
    return mask_FHW


def _clear_of_edge(mask_FHW: Tensor) -> Tensor:
    border = mask_FHW.clone()
    border[:, 1:-1, 1:-1] = False
    return border.sum(dim=(1, 2)) < 4


def _measure(frames_FHWC: Tensor, backdrop: Backdrop, mask_FHW: Tensor, apart_F: Tensor) -> FoundSprite:
    colour_C = _commonest_colour(frames_FHWC, mask_FHW)
    towards = colour_C - backdrop.frames_FHWC
    share_FHW = ((frames_FHWC - backdrop.frames_FHWC) * towards).sum(-1) / towards.square().sum(-1).clamp_min(0.02)
    inner_FHW = _shrink(mask_FHW, 2) & mask_FHW
    cover_FHW = torch.where(inner_FHW, share_FHW.clamp(0, 1), share_FHW.clamp(0, 1) * _grow(mask_FHW, 1))
    area_F = cover_FHW.sum(dim=(1, 2))
    seen_F = mask_FHW.flatten(1).any(1) & (area_F > LEAST_AREA / 2)
    grid = torch.arange(SIZE) + 0.5
    x_F = (cover_FHW * grid).sum(dim=(1, 2)) / area_F
    y_F = (cover_FHW * grid.view(-1, 1)).sum(dim=(1, 2)) / area_F
    track_F3 = torch.stack([x_F, y_F, area_F], dim=1)
    track_F3[~seen_F] = math.nan
    apart_F = seen_F & apart_F
    return FoundSprite(
        mask_FHW=mask_FHW,
        cover_FHW=cover_FHW,
        track_F3=track_F3,
        apart_F=apart_F,
        whole_F=apart_F & _clear_of_edge(mask_FHW),
        colour_C=colour_C,
    )


def _commonest_colour(frames_FHWC: Tensor, mask_FHW: Tensor) -> Tensor:
    for pixels in (3, 2, 1):
        core_FHW = _shrink(mask_FHW, pixels) & mask_FHW
        if core_FHW.sum() >= LEAST_AREA:
            return frames_FHWC[core_FHW].median(dim=0).values
    return frames_FHWC[mask_FHW].median(dim=0).values


def normalised_crops(images_FCHW: Tensor, track_F3: Tensor, angle_F: Tensor | None = None) -> Tensor:
    """Crops (F, C, S, S) around the track's centre, scaled by its area and turned back by `angle_F` radians.

    A crop reaches `CROP_REACH` radii of the disc of the same area to each side; pixels outside the frame are zero.
    """
    angle_F = torch.zeros(len(track_F3)) if angle_F is None else angle_F
    line = (torch.arange(CROP) + 0.5) * 2 / CROP - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    reach = (CROP_REACH * (track_F3[:, 2] / math.pi).sqrt()).view(-1, 1, 1)
    cos, sin = torch.cos(angle_F).view(-1, 1, 1), torch.sin(angle_F).view(-1, 1, 1)
    at_x = track_F3[:, 0].view(-1, 1, 1) + reach * (cos * x - sin * y)
    at_y = track_F3[:, 1].view(-1, 1, 1) + reach * (sin * x + cos * y)
    where = torch.stack([at_x, at_y], dim=-1) * 2 / SIZE - 1
    return functional.grid_sample(images_FCHW, where, align_corners=False)
