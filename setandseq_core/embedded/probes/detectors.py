"""Read a clip of the embedded world: background, camera, and each sprite's colour, shape, size and motion.

`detect` describes a clip in the grammar's words, and `score` compares this with a caption. A look or motion without a
name (a creature, wandering) gets the nearest word and is not scored. Background: backdrop.py; sprites: sprites.py.

Shape letters: F frames, H height, W width, C channels, S side of a crop, K shape templates.
"""

# PyTorch leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

import torch
from torch import Tensor
from torch.nn import functional

from ..world.looks import OBJECT_COLOURS, SHAPES
from ..world.scene import FRAMES, MOTIONS, NAMED_MOTIONS, SIZE, SIZES, Caption, SpriteWords, clip_times
from .backdrop import Backdrop, fit_backdrop
from .sprites import FoundSprite, find_sprites, normalised_crops

ANGLES = 48
"""Number of angles at which each shape is tried."""
WEAR = ((1, 1.0), (4, 1.0), (8, 3.0))
"""Ways in which a lossy model may render shapes of 12 pixels radius: (number of 3 x 3 averages, contrast after them).

They make the shape crisp, blurred, or blunted: without its points, but with sharp edges.
"""
STILL = 2.2
"""A sprite stays in place if its root mean square travel is below this, in pixels, or half its frames are there."""
PULSE = 0.14
"""Amplitude of log scale above which a sprite that stays in its place pulses (the world's is about 0.35)."""
SPIN_GAIN = 0.75
"""A sprite spins if less than this share of its change over time is left after turning it back."""


@dataclass(kw_only=True, slots=True, frozen=True)
class SpriteReading:
    """One sprite in the grammar's words, and its place in each frame."""

    colour: str
    shape: str
    size: str
    motion: str
    found: FoundSprite

    @property
    def mask_FHW(self) -> Tensor:
        """The pixels of the sprite in each frame."""
        return self.found.mask_FHW

    @property
    def track_F3(self) -> Tensor:
        """Centre x, y and area in each frame, in pixels; NaN where the sprite was not seen."""
        return self.found.track_F3


@dataclass(kw_only=True, slots=True, frozen=True)
class Detection:
    """The contents of a clip as the detectors see them; sprites from left to right, at most two."""

    background: str
    texture: str
    camera: str
    sprites: tuple[SpriteReading, ...]
    backdrop: Backdrop


def detect(frames_FHWC: Tensor) -> Detection:
    """Read a clip, (F, 64, 64, 3) RGB in [0, 1].

    Raises:
        VideoError: the frames have another shape.
    """
    frames_FHWC = frames_FHWC.detach().float().cpu()
    backdrop = fit_backdrop(frames_FHWC)
    found = find_sprites(frames_FHWC, backdrop)
    return Detection(
        background=backdrop.colour,
        texture=backdrop.texture,
        camera=backdrop.camera,
        sprites=tuple(_read(sprite) for sprite in found),
        backdrop=backdrop,
    )


def _read(sprite: FoundSprite) -> SpriteReading:
    seen_F = ~sprite.track_F3[:, 0].isnan()
    whole = _enough(sprite.whole_F, seen_F)
    shape = _read_shape(sprite, whole)
    motion = _read_motion(sprite.track_F3, sprite.whole_F, spins=_spins(sprite, _enough(sprite.apart_F, seen_F)))
    radius = _unit_radius(shape) * _middle_scale(sprite.track_F3[whole, 2].sqrt(), whole, motion)
    between = (SIZES["small"][1] + SIZES["large"][0]) / 2
    return SpriteReading(
        colour=_name_colour(sprite.colour_C),
        shape=shape,
        size="small" if radius < between else "large",
        motion=motion,
        found=sprite,
    )


def _enough(wanted_F: Tensor, seen_F: Tensor) -> Tensor:
    """Indices of the wanted frames; of all frames that show the sprite if fewer than three are wanted."""
    return (wanted_F if wanted_F.sum() >= 3 else seen_F).nonzero().flatten()


def _name_colour(colour_C: Tensor) -> str:
    def apart(named: Tensor) -> float:
        difference = colour_C - named
        grey = difference.mean()
        return float((difference - grey).square().sum() + 0.5 * grey.square())

    return min(OBJECT_COLOURS, key=lambda name: apart(torch.tensor(OBJECT_COLOURS[name])))


# --- shape and size -----------------------------------------------------------------------------------------------


@cache
def _shape_templates() -> Tensor:
    """Crops of every shape at every wear and angle, normalised like a sprite's: (wear, shapes, angles, S * S)."""
    grid = torch.arange(SIZE) + 0.5 - SIZE / 2
    templates: list[Tensor] = []
    for averages, contrast in WEAR:
        for shape in SHAPES.values():
            cover = torch.stack([_cover(shape, grid, 12.0, 2 * math.pi * k / ANGLES) for k in range(ANGLES)])
            cover = cover.unsqueeze(1)
            for _ in range(averages):
                cover = functional.avg_pool2d(cover, 3, 1, 1)
            cover = ((cover - 0.5) * contrast + 0.5).clamp(0, 1)
            centre = torch.tensor([SIZE / 2, SIZE / 2, float(cover[0].sum())]).expand(ANGLES, 3)
            templates.append(normalised_crops(cover, centre).flatten(1))
    return torch.stack(templates).view(len(WEAR), len(SHAPES), ANGLES, -1)


def _cover(shape: Callable[[Tensor, Tensor], Tensor], grid: Tensor, radius: float, angle: float) -> Tensor:
    x, y = grid.view(1, -1), grid.view(-1, 1)
    u, v = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    return (0.5 - shape(u / radius, v / radius) * radius).clamp(0, 1)


def _read_shape(sprite: FoundSprite, frames: Tensor) -> str:
    """The shape with the highest mean soft IoU, <a, b> / (|a|^2 + |b|^2 - <a, b>), upright or at any angle.

    Sprites of the grammar are upright or turn evenly, so a free angle in each frame costs 0.03.
    """
    crops_FS = normalised_crops(sprite.cover_FHW[frames].unsqueeze(1), sprite.track_F3[frames]).flatten(1)
    times_F, templates = frames / (FRAMES - 1), _shape_templates()
    product = torch.einsum("fs,bnks->fbnk", crops_FS, templates)
    squares = crops_FS.square().sum(-1).view(-1, 1, 1, 1) + templates.square().sum(-1)
    iou_FNK = (product / (squares - product)).amax(dim=1)
    upright_N = iou_FNK[:, :, 0].mean(dim=0)
    turning_N = torch.stack([_along(iou_FNK, turns * times_F) for turns in (-1.0, 1.0)]).amax(dim=0)
    free_N = iou_FNK.amax(dim=-1).mean(dim=0) - 0.03
    best = int(torch.stack([upright_N, turning_N, free_N]).amax(dim=0).argmax())
    return tuple(SHAPES)[best]


def _along(iou_FNK: Tensor, turns_F: Tensor) -> Tensor:
    steps_F = torch.remainder((turns_F * ANGLES).round().long(), ANGLES)
    return iou_FNK[torch.arange(len(steps_F)), :, steps_F].mean(dim=0)


@cache
def _unit_radius(shape: str) -> float:
    """Radius of a shape of area 1."""
    grid, radius = torch.arange(SIZE) + 0.5 - SIZE / 2, 20.0
    return radius / math.sqrt(float(_cover(SHAPES[shape], grid, radius, 0.0).sum()))


def _middle_scale(scale_F: Tensor, frames: Tensor, motion: str) -> float:
    """The middle scale of a pulse, or the median scale for other motions, where changes are noise."""
    if motion != "pulsing":
        return float(scale_F.median())
    wave_F = torch.sin(4 * math.pi * frames / (FRAMES - 1))
    return float(torch.linalg.lstsq(torch.stack([torch.ones_like(wave_F), wave_F], dim=1), scale_F).solution[0])


# --- motion -------------------------------------------------------------------------------------------------------


def _spins(sprite: FoundSprite, frames: Tensor) -> bool:
    """Whether the sprite changes much less over time after one full turn in either direction is undone."""
    cover_FCHW, track_F3 = sprite.cover_FHW[frames].unsqueeze(1), sprite.track_F3[frames]

    def change(turns: float) -> float:
        crops = normalised_crops(cover_FCHW, track_F3, 2 * math.pi * turns * frames / (FRAMES - 1))
        return float(crops.var(dim=0, unbiased=False).mean())

    still = change(0.0)
    return still > 0.002 and min(change(1.0), change(-1.0)) < SPIN_GAIN * still


def _read_motion(track_F3: Tensor, whole_F: Tensor, *, spins: bool) -> str:
    """The motion of a track: the shape of its path if it travels, otherwise pulsing, spinning or standing still.

    Frames that show the whole sprite count four times.
    """
    seen_F = ~track_F3[:, 0].isnan()
    times_F, track_F3 = clip_times(len(track_F3))[seen_F], track_F3[seen_F]
    weight_F = torch.where(whole_F[seen_F], 1.0, 0.25)
    weight_F = weight_F / weight_F.sum()
    travel_F2 = _centred(track_F3[:, :2], weight_F)
    travel = float((weight_F @ travel_F2.square()).sum().sqrt())
    home_F = (track_F3[:, :2] - track_F3[:, :2].median(dim=0).values).norm(dim=1) < 2
    stays = travel < STILL or float(weight_F @ home_F.float()) > 0.5
    pulse = _pulse(track_F3[:, 2].log() / 2, times_F, weight_F)
    if not stays and not (pulse > PULSE and travel < 1.6 * STILL):
        return min(_paths(), key=lambda name: _path_error(name, travel_F2, times_F, weight_F))
    if pulse > PULSE:
        return "pulsing"
    return "spinning" if spins else "standing still"


def _centred(values: Tensor, weight_F: Tensor) -> Tensor:
    return values - weight_F @ values


def _pulse(log_scale_F: Tensor, times_F: Tensor, weight_F: Tensor) -> float:
    """Amplitude of two cycles in log scale; 0 if they explain less than half of its variance."""
    waves_F2 = torch.stack([torch.sin(4 * math.pi * times_F), torch.cos(4 * math.pi * times_F)], dim=1)
    waves_F2, values_F1 = _centred(waves_F2, weight_F), _centred(log_scale_F, weight_F).unsqueeze(1)
    root_F1 = weight_F.sqrt().unsqueeze(1)
    fit = torch.linalg.lstsq(waves_F2 * root_F1, values_F1 * root_F1).solution
    left = weight_F @ (values_F1 - waves_F2 @ fit).square()
    return float(fit.norm()) if left < 0.5 * (weight_F @ values_F1.square()) else 0.0


@cache
def _paths() -> tuple[str, ...]:
    return tuple(m for m in NAMED_MOTIONS if m not in ("standing still", "spinning", "pulsing"))


def _path_error(name: str, travel_F2: Tensor, times_F: Tensor, weight_F: Tensor) -> float:
    """Weighted squared error of the motion's path, at its best reach and up to one frame early or late."""
    errors: list[float] = []
    for shift in (-1 / 16, 0.0, 1 / 16):
        path = MOTIONS[name](times_F + shift, 1.0, Random(0))
        path_F2 = _centred(torch.stack([path.x, path.y], dim=1), weight_F)
        power = (weight_F @ path_F2.square()).sum().clamp_min(1e-6)
        reach = ((weight_F @ (path_F2 * travel_F2)).sum() / power).clamp_min(0)
        errors.append(float((weight_F @ (travel_F2 - reach * path_F2).square()).sum()))
    return min(errors)


# --- score --------------------------------------------------------------------------------------------------------


def score(detection: Detection, caption: Caption) -> dict[str, bool]:
    """Whether each statement of the caption was seen in the clip.

    Keys: "background", "texture", "camera", "count", and for sprite 1 and 2, numbered as in the caption:
    "sprite 1 colour", "sprite 1 shape", "sprite 1 size", "sprite 1 motion", and "sprite 1 object" (colour, shape and
    motion all right). Attributes without a name (a creature's look and size, wandering) have no key.
    """
    result = {
        "background": detection.background == caption.background,
        "texture": detection.texture == caption.texture,
        "camera": detection.camera == caption.camera,
        "count": len(detection.sprites) == len(caption.sprites),
    }
    for number, (words, reading) in enumerate(_matched(detection, caption), 1):
        attributes = [] if words.shape == "creature" else ["colour", "shape", "size"]
        attributes += [] if words.motion == "wandering" else ["motion"]
        right = {a: reading is not None and getattr(reading, a) == getattr(words, a) for a in attributes}
        result |= {f"sprite {number} {attribute}": value for attribute, value in right.items()}
        if named := [right[a] for a in ("colour", "shape", "motion") if a in right]:
            result[f"sprite {number} object"] = all(named)
    return result


def _matched(detection: Detection, caption: Caption) -> list[tuple[SpriteWords, SpriteReading | None]]:
    """Pairs of each sprite in the caption and the one seen in its place; a single sprite is paired with the largest."""
    seen = detection.sprites
    if len(caption.sprites) == 1:
        largest = max(seen, key=lambda s: float(s.track_F3[:, 2].nanmean()), default=None)
        return [(caption.sprites[0], largest)]
    if len(seen) == 1:
        on_left = float(seen[0].track_F3[:, 0].nanmean()) < SIZE / 2
        return list(zip(caption.sprites, (seen[0], None) if on_left else (None, seen[0]), strict=True))
    return list(zip(caption.sprites, seen or (None, None), strict=True))
