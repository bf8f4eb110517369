"""Stitched clips: two clips side by side with both prompts, so that looks do not mix (section 5.2.2).

Shape letters: F frames, H height, W width, C the three channels red, green and blue.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import torch
import torch.nn.functional as functional
from torch import Tensor

from ..errors import VideoError
from .clip import Reference, Words

MARGIN = 0.1
"""Margin around a masked subject, as a share of the box that it moves in."""
PLACES = frozenset(("on", "in", "at", "under", "over", "before", "beside", "by", "near", "against", "inside", "above"))
"""Words that begin the name of a place in a prompt."""
REMOVED = 0.5
"""Grey level that replaces a background removed by a mask."""
GREY_PLACE = "on a grey plain background"
"""Text that replaces the background in prompts of masked clips."""


def stitched_references(references: Sequence[Reference]) -> list[Reference]:
    """Stitch every ordered pair of references that have different identity tokens."""
    pairs = permutations(references, 2)
    return [stitch(a, b) for a, b in pairs if a.words.identity_token != b.words.identity_token]


def stitch(left: Reference, right: Reference) -> Reference:
    """Join two clips side by side in a frame of the left one's size, as long as the shorter one.

    With a mask, a half shows the box that its subject moves in, on grey instead of its background, and its prompts say
    so. Without a mask, it shows its whole clip, with the outermost pixels repeated to fill the half.

    Raises:
        VideoError: the frame rates differ.
    """
    if left.clip.fps != right.clip.fps:
        raise VideoError(
            f"Clips to be stitched have {left.clip.fps:g} and {right.clip.fps:g} frames a second.",
            hint="Fit both for one model.",
        )
    frames = min(len(left.clip.frames_FHWC), len(right.clip.frames_FHWC))
    height, width = left.clip.frames_FHWC.shape[1:3]
    halves = [_half(each, frames, (height, width // 2)) for each in (left, right)]
    frames_FHWC = torch.cat([picture_FHWC for picture_FHWC, _ in halves], dim=2)
    masks = [mask_FHW for _, mask_FHW in halves]
    shown = [each.words if each.mask_FHW is None else _on_grey(each.words) for each in (left, right)]
    words = Words(
        static_prompt=join_prompts(*(each.static_prompt for each in shown)),
        motion_prompt=join_prompts(*(each.motion_prompt for each in shown)),
        identity_token=left.words.identity_token,
        motion_token=left.words.motion_token,
    )
    choice = f"stitched: {left.clip.choice} Beside it: {right.clip.choice}"
    return Reference(
        clip=replace(left.clip, frames_FHWC=frames_FHWC, choice=choice),
        words=words,
        mask_FHW=torch.cat(masks, dim=2) if left.mask_FHW is not None or right.mask_FHW is not None else None,
    )


def join_prompts(first: str, second: str) -> str:
    """Join two prompts with "and"; a place at the end of both, such as "on a stage", is named once."""
    a, b = first.split(), second.split()
    shared = 0
    while shared < min(len(a), len(b)) and a[-1 - shared] == b[-1 - shared]:
        shared += 1
    end = a[len(a) - shared :]
    place = next((index for index, word in enumerate(end) if word in PLACES), len(end))
    return " ".join([*a[: len(a) - len(end) + place], "and", *b])


def _on_grey(words: Words) -> Words:
    """Replace the places in the prompts, up to the next comma, by `GREY_PLACE`; tokens always stay."""
    tokens = [token for token in (words.identity_token, words.motion_token) if token]

    def moved(prompt: str) -> str:
        kept: list[str] = []
        for part in prompt.split(","):
            spoken = part.split()
            named = max((index for index, word in enumerate(spoken) if any(t in word for t in tokens)), default=-1)
            places = (index for index, word in enumerate(spoken) if index > named and word.lower() in PLACES)
            kept.append(" ".join(spoken[: next(places, len(spoken))]))
        return f"{', '.join(filter(None, kept))} {GREY_PLACE}"

    return replace(words, static_prompt=moved(words.static_prompt), motion_prompt=moved(words.motion_prompt))


def _half(reference: Reference, frames: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A clip and its mask in half a frame; the mask is all ones if the clip has none."""
    pictures_FHWC = reference.clip.frames_FHWC[:frames]
    if reference.mask_FHW is None:
        return _fit(pictures_FHWC, size), torch.ones(frames, *size)
    mask_FHW1 = reference.mask_FHW[:frames].unsqueeze(-1)
    cut_FHWC = mask_FHW1 * pictures_FHWC + (1 - mask_FHW1) * REMOVED
    top, bottom, left, right = _box(mask_FHW1[..., 0].amax(0), size[0] / size[1])
    box = (slice(None), slice(top, bottom), slice(left, right))
    return _fit(cut_FHWC[box], size), _fit(mask_FHW1[box], size)[..., 0]


def _box(mask_HW: Tensor, shape: float) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the masked area with a margin, of ratio `shape` (height / width) if it fits."""
    rows, columns = ((mask_HW > 0.5).any(side).nonzero().flatten() for side in (1, 0))
    if len(rows) == 0:
        return 0, mask_HW.shape[0], 0, mask_HW.shape[1]
    height, width = (float(found[-1] - found[0] + 1) * (1 + MARGIN) for found in (rows, columns))
    height, width = max(height, width * shape), max(width, height / shape)

    def side(found: Tensor, length: float, most: int) -> tuple[int, int]:
        first = round(float(found[0] + found[-1] + 1) / 2 - length / 2)
        return max(first, 0), min(first + round(length), most)

    return (*side(rows, height, mask_HW.shape[0]), *side(columns, width, mask_HW.shape[1]))


def _fit(pictures_FHWC: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures scaled to fit within the size; their outermost pixels are repeated over the rest."""
    height, width = pictures_FHWC.shape[1:3]
    scale = min(size[0] / height, size[1] / width)
    inner = min(size[0], max(1, round(height * scale))), min(size[1], max(1, round(width * scale)))
    scaled = functional.interpolate(pictures_FHWC.movedim(-1, 1).float(), inner, mode="area")
    rows, columns = size[0] - inner[0], size[1] - inner[1]
    edges = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return functional.pad(scaled, edges, mode="replicate").movedim(1, -1)
