"""Learn the look from pictures, each in its own size, while the clip shows something else that moves.

This is not in the paper, whose set stage sees the frames of the clip.

Shape letters: F frames, H height, W width, C the three channels red, green and blue.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import VideoError
from .clip import MAX_CLIP_MIB, Clip, Reference, Words, check_frames
from .size import Size, crop, fitted_size, resize


def with_pictures(
    reference: Reference,
    batches: Iterable[Tensor],
    words: Words,
    *,
    multiple: int,
    max_pixels: int,
    look_of_clip: bool = False,
) -> Reference:
    """A clip with pictures for its look, each scaled down to `max_pixels` and cropped to multiples of `multiple`.

    Args:
        reference: the clip, which gives the motion.
        batches: pictures in [0, 1]; each batch (F, H, W, 3) may have its own size.
        words: the prompt of all pictures.
        multiple: height and width become multiples of this.
        max_pixels: approximate limit of the area of a picture.
        look_of_clip: whether the set stage also sees the frames of the clip, with their own prompt.
    Raises:
        VideoError: there are no pictures, they need too much memory, or a batch does not hold pictures.
    """
    order: list[Size] = []
    fitted: dict[Size, list[Tensor]] = defaultdict(list)
    for frames_FHWC in batches:
        check_frames(frames_FHWC)
        size = fitted_size((frames_FHWC.shape[1], frames_FHWC.shape[2]), multiple, max_pixels=max_pixels)
        order += [size] * len(frames_FHWC)
        _check_memory(order)
        fitted[size] += [resize(crop(picture_HWC.float(), size), size).clamp(0, 1) for picture_HWC in frames_FHWC]
    if not order:
        raise VideoError("There are no pictures.", hint="Connect at least one.")
    fps = reference.clip.fps
    of_size = {size: _together(pictures, words, fps) for size, pictures in fitted.items()}
    own = (replace(reference, pictures=()),) if look_of_clip else ()
    return replace(reference, pictures=tuple(each for size in order for each in (of_size[size], *own)))


def num_pictures(reference: Reference) -> int:
    """Number of pictures that show the look for the clip."""
    return sum(each.clip is not reference.clip for each in reference.pictures)


def pictures_in_words(reference: Reference) -> str:
    """Number and sizes of the pictures that show the look for the clip, as part of a sentence."""
    sizes = [each.clip for each in unique(reference.pictures) if each.clip is not reference.clip]
    count = num_pictures(reference)
    return f"{count} picture{'s' * (count != 1)}: {', '.join(clip.choice for clip in sizes)}"


def seen_in_turn(references: Sequence[Reference]) -> list[Reference]:
    """Everything that the set stage sees, in turn; every reference, with its pictures, appears equally often."""
    turns = [reference.pictures or (reference,) for reference in references]
    return [each[turn % len(each)] for turn in range(max(map(len, turns))) for each in turns]


def unique(references: Iterable[Reference]) -> list[Reference]:
    """Each reference once, in order."""
    return list({id(each): each for each in references}.values())


def _together(pictures: Sequence[Tensor], words: Words, fps: float) -> Reference:
    frames_FHWC = torch.stack(list(pictures))
    count, height, width = frames_FHWC.shape[:3]
    clip = Clip(frames_FHWC=frames_FHWC, fps=fps, choice=f"{count} of {width}x{height}")
    return Reference(clip=clip, words=words)


def _check_memory(sizes: Sequence[Size]) -> None:
    mib = sum(height * width for height, width in sizes) * 3 * 4 / 2**20
    if mib > MAX_CLIP_MIB:
        raise VideoError(
            f"{len(sizes)} pictures need {mib:.0f} MiB of memory; at most {MAX_CLIP_MIB} are used.",
            hint="Use fewer pictures: 10 to 30 different ones are enough for a look.",
        )
