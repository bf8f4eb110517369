"""Compare a generated clip of a concept with its reference clip: look, motion, prompt, steadiness.

The concept's sprite may have any look and motion. It is found as the pixels that differ from the background
(sprites.py).

Shape letters: F frames, H height, W width, C channels, S side of a crop, R reference frames, G generated frames,
V variants (small shifts and turns) of a generated frame.
"""

# PyTorch leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ...evaluate.metrics import mse, temporal_coherence
from ..world.scene import SIZE, Caption
from .backdrop import fit_backdrop
from .detectors import detect, score
from .sprites import find_sprites, normalised_crops, one_sprite

Which = Literal["best", "left", "right"]

COLOUR_TOLERANCE = 0.35
"""Root mean square RGB distance at which the colour factor of `identity_similarity` has fallen to 0.37."""
IOU_RANGE = (0.4, 0.8)
"""Silhouette IoU that counts as 0 and as 1. Any two blobs reach the first, a redrawn sprite reaches the second."""
TURN = 15
"""Degrees between the angles at which looks are compared."""
STILL = 0.3
"""Movement in pixels that `motion_similarity` treats as noise."""


@dataclass(kw_only=True, slots=True, frozen=True)
class ClipFigures:
    """Figures that compare a generated clip with its reference clip and its prompt."""

    identity: float
    """`identity_similarity`, 0 to 1."""
    motion: float
    """`motion_similarity`, -1 to 1."""
    adherence: float
    """`prompt_adherence`, 0 to 1."""
    coherence: float
    """`temporal_coherence`, -1 to 1."""
    mse: float
    """Mean squared difference from the reference, 0 to 1."""


def clip_figures(reference_FHWC: Tensor, generated_FHWC: Tensor, caption: Caption) -> ClipFigures:
    """All figures of one generated clip; `caption` is its prompt in the grammar's words."""
    return ClipFigures(
        identity=identity_similarity(reference_FHWC, generated_FHWC),
        motion=motion_similarity(reference_FHWC, generated_FHWC),
        adherence=prompt_adherence(generated_FHWC, caption),
        coherence=temporal_coherence(generated_FHWC),
        mse=mse(reference_FHWC, generated_FHWC),
    )


# --- look ---------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True, frozen=True)
class _Body:
    """A sprite of any colours: centre and area of its silhouette (F, 3), NaN where unseen, and its cover and colour."""

    track_F3: Tensor
    good: Tensor
    """Indices of the frames that show the sprite well."""
    image_FCHW: Tensor
    """Cover, cover without the outermost pixel, and RGB times the latter: five channels."""


def identity_similarity(reference_FHWC: Tensor, generated_FHWC: Tensor, *, which: Which = "best") -> float:
    """Similarity of the sprites' looks, whatever their motion and background: 0 to 1.

    Sprites are cut out, centred and scaled to the same size. The similarity of two frames is

        clamp((IoU - 0.4) / (0.8 - 0.4), 0, 1) * exp(-(d / 0.35)^2)

    with IoU of the soft silhouettes and d the root mean square RGB distance inside both, at the best turn (in steps of
    15 degrees) and small shift. Each generated frame is compared with its best reference frame, and the result is the
    mean. A missing sprite gives 0.

    Args:
        reference_FHWC, generated_FHWC: clips of any number of frames; the reference shows the concept alone.
        which: the sprite of the generated clip to compare: the left one, the right one, or the best match. "best" also
            tries both as one body, in case a part in the background's colour cut a sprite in two.
    """
    return _match(_reference_body(reference_FHWC), _bodies(generated_FHWC), which)[0]


def _match(reference: _Body | None, bodies: list[_Body], which: Which) -> tuple[float, _Body | None]:
    if reference is None or not bodies:
        return 0.0, None
    chosen = {"best": bodies, "left": bodies[:1], "right": bodies[:2][-1:]}[which]
    return max(((_likeness(reference, body), body) for body in chosen), key=lambda pair: pair[0])


def _reference_body(frames_FHWC: Tensor) -> _Body | None:
    """The subject of the reference, which may be in pieces if a part has the background's colour."""
    bodies = _bodies(frames_FHWC)
    return bodies[-1] if bodies else None


def _bodies(frames_FHWC: Tensor) -> list[_Body]:
    """The sprites from left to right. After two sprites come the clip read as a single one, and both as one body."""
    frames_FHWC = frames_FHWC.detach().float().cpu()
    backdrop = fit_backdrop(frames_FHWC)
    found = find_sprites(frames_FHWC, backdrop)
    bodies = [_body(frames_FHWC, sprite.mask_FHW, sprite.whole_F) for sprite in found]
    if len(found) == 2:
        bodies.append(_body(frames_FHWC, *one_sprite(backdrop)))
        bodies.append(_body(frames_FHWC, found[0].mask_FHW | found[1].mask_FHW, found[0].whole_F & found[1].whole_F))
    return bodies


def _body(frames_FHWC: Tensor, mask_FHW: Tensor, whole_F: Tensor) -> _Body:
    cover_FHW = mask_FHW.float()
    area_F = cover_FHW.sum(dim=(1, 2))
    grid = torch.arange(SIZE) + 0.5
    x_F = (cover_FHW * grid).sum(dim=(1, 2)) / area_F
    y_F = (cover_FHW * grid.view(-1, 1)).sum(dim=(1, 2)) / area_F
    track_F3 = torch.stack([x_F, y_F, area_F.where(area_F > 0, math.nan)], dim=1)
    good_F = whole_F if whole_F.sum() >= 3 else area_F > 0
    core_FHW = -functional.max_pool2d(-cover_FHW, 3, 1, 1)
    soft_FCHW = functional.avg_pool2d(torch.stack([cover_FHW, core_FHW], dim=1), 3, 1, 1)
    image_FCHW = torch.cat([soft_FCHW, soft_FCHW[:, 1:] * frames_FHWC.movedim(-1, 1)], dim=1)
    return _Body(track_F3=track_F3, good=good_F.nonzero().flatten(), image_FCHW=image_FCHW)


def _likeness(reference: _Body, generated: _Body) -> float:
    """Similarity of each generated frame to its best reference frame, averaged."""
    reference_RCS = _crops(reference).flatten(2)
    best: list[Tensor] = []
    for turn in range(0, 360, TURN):
        crops_GCSS = _crops(generated, math.radians(turn))
        for dx, dy in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)):
            moved_GCS = torch.roll(crops_GCSS, (dy, dx), dims=(2, 3)).flatten(2)
            best.append(_likeness_of_crops(reference_RCS, moved_GCS).amax(dim=0))
    return float(torch.stack(best).amax(dim=0).mean()) if len(generated.good) else 0.0


def _crops(body: _Body, turn: float = 0.0) -> Tensor:
    """Crops (F, 5, S, S) of at most nine of the good frames, at half the resolution of `normalised_crops`."""
    frames = body.good[:: max(1, math.ceil(len(body.good) / 9))]
    crops = normalised_crops(body.image_FCHW[frames], body.track_F3[frames], torch.full((len(frames),), turn))
    return functional.avg_pool2d(crops, 2)


def _likeness_of_crops(reference_RCS: Tensor, generated_GCS: Tensor) -> Tensor:
    """The formula of `identity_similarity` for every pair of crops, (R, G)."""
    cover_RS, cover_GS = reference_RCS[:, 0], generated_GCS[:, 0]
    both_RG = cover_RS @ cover_GS.T
    iou_RG = both_RG / (cover_RS.square().sum(1).unsqueeze(1) + cover_GS.square().sum(1) - both_RG).clamp_min(1e-6)
    low, high = IOU_RANGE
    colour_RG = torch.exp(-_colour_distance(reference_RCS[:, 1:], generated_GCS[:, 1:]) / COLOUR_TOLERANCE**2)
    return ((iou_RG - low) / (high - low)).clamp(0, 1) * colour_RG


def _colour_distance(reference_RCS: Tensor, generated_GCS: Tensor) -> Tensor:
    """Mean squared RGB distance (R, G) of every pair of crops, weighted by both covers (the first channel)."""
    cover_RS, cover_GS = reference_RCS[:, 0], generated_GCS[:, 0]
    squares_RS = reference_RCS[:, 1:].square().sum(1) / cover_RS.clamp_min(1e-6)
    squares_GS = generated_GCS[:, 1:].square().sum(1) / cover_GS.clamp_min(1e-6)
    product_RG = reference_RCS[:, 1:].flatten(1) @ generated_GCS[:, 1:].flatten(1).T
    total_RG = squares_RS @ cover_GS.T + cover_RS @ squares_GS.T - 2 * product_RG
    return (total_RG / (cover_RS @ cover_GS.T).clamp_min(1e-6)).clamp_min(0)


# --- movement -----------------------------------------------------------------------------------------------------


def motion_similarity(reference_FHWC: Tensor, generated_FHWC: Tensor, *, which: Which = "best") -> float:
    """Similarity of the sprites' motion, whatever they look like and wherever they start: -1 to 1.

    The motion A of a sprite is, in every frame and relative to the clip's mean, the position of its centre in pixels
    and the offset of a typical point of its body, which follows its scale and turn. The similarity is

        2 <A, B> / (|A|^2 + |B|^2)  =  1 - |A - B|^2 / (|A|^2 + |B|^2)

    where one clip may also be shifted by one frame if that agrees better. Equal motion gives 1, opposite motion -1, and
    no motion in either clip 0. The same motion k times as large gives 2k / (1 + k^2): 0.8 at half or twice the size,
    0.92 at 1.5 times. In a clip with two sprites, `which` chooses the one that looks most like the reference's, the
    left one or the right one.
    """
    reference = _reference_body(reference_FHWC)
    generated = _match(reference, _bodies(generated_FHWC), which)[1]
    if reference is None or generated is None:
        return 0.0
    distance = 0.7 * math.sqrt(float(reference.track_F3[:, 2].nanmean()) / math.pi)
    frames = min(len(reference.track_F3), len(generated.track_F3))
    if frames < 4:
        return 0.0
    one_F4, two_F4 = (_movement(body, distance)[:frames] for body in (reference, generated))
    return max(_agreement(a, b) for a, b in ((one_F4, two_F4), (one_F4[1:], two_F4[:-1]), (one_F4[:-1], two_F4[1:])))


def _agreement(one_F4: Tensor, two_F4: Tensor) -> float:
    one_F4, two_F4 = one_F4 - one_F4.mean(dim=0), two_F4 - two_F4.mean(dim=0)
    noise = len(one_F4) * STILL**2
    return float(2 * (one_F4 * two_F4).sum() / (one_F4.square().sum() + two_F4.square().sum() + noise))


def _movement(body: _Body, distance: float) -> Tensor:
    """Position (x, y) of the centre, and offset (x, y) of a typical point of the body from it, in pixels: (F, 4)."""
    track_F3 = _filled(body.track_F3)
    scale_F = track_F3[:, 2].sqrt() / track_F3[:, 2].sqrt().mean()
    angle_F = _turns(body.image_FCHW, track_F3)
    x_F, y_F = distance * scale_F * torch.cos(angle_F), distance * scale_F * torch.sin(angle_F)
    return torch.stack([track_F3[:, 0], track_F3[:, 1], x_F, y_F], dim=1)


def _filled(track_F3: Tensor) -> Tensor:
    """The track with unseen frames interpolated between their neighbours."""
    seen = (~track_F3[:, 0].isnan()).nonzero().flatten()
    frames = torch.arange(len(track_F3))
    after = torch.searchsorted(seen, frames).clamp(0, len(seen) - 1)
    before = (torch.searchsorted(seen, frames, right=True) - 1).clamp(0, len(seen) - 1)
    gap = (seen[after] - seen[before]).clamp_min(1)
    share = ((frames - seen[before]) / gap).clamp(0, 1).unsqueeze(1)
    return torch.lerp(track_F3[seen[before]], track_F3[seen[after]], share)


def _turns(image_FCHW: Tensor, track_F3: Tensor) -> Tensor:
    """Angle (F,) in radians turned since the first frame. Each frame is fitted to the previous one, within 45 degrees.

    A turn counts only if it removes a fifth of the difference between the two frames.
    """
    steps = torch.arange(-6, 7) * math.radians(7.5)
    before_FCSS = normalised_crops(image_FCHW[:-1], track_F3[:-1])
    errors: list[Tensor] = []
    for step in steps.tolist():
        turned = normalised_crops(image_FCHW[1:], track_F3[1:], torch.full((len(track_F3) - 1,), step))
        errors.append((turned - before_FCSS).square().mean(dim=(1, 2, 3)))
    error_FN = torch.stack(errors, dim=1)
    least, best = error_FN.min(dim=1)
    turn_F = torch.where(least < 0.8 * error_FN[:, 6], steps[best], 0.0)
    return torch.cat([torch.zeros(1), turn_F.cumsum(0)])


# --- prompt -------------------------------------------------------------------------------------------------------


def prompt_adherence(frames_FHWC: Tensor, caption: Caption) -> float:
    """Share of the caption's statements that are seen: background, texture, a camera move, each sprite's words.

    Captions do not mention a still camera and have no words for creatures and wandering, so these do not count.
    """
    seen = score(detect(frames_FHWC), caption)
    skipped = {"count", "sprite 1 object", "sprite 2 object"}
    if caption.camera == "still":
        skipped.add("camera")
    stated = [right for name, right in seen.items() if name not in skipped]
    return sum(stated) / len(stated)
