"""The embedded world: sprites that move on a background, each scene with the prompt that describes it.

A scene is one or two sprites, each with its own look and motion, on a coloured and textured background, under a
camera move. `Caption` holds the words, `Scene` the geometry drawn from them, `render` the pixels. Every random
choice comes from the `random.Random` that is passed in, so a seed identifies a clip.

Units: pixels with the origin at the top left, angles in radians, time u in [0, 1] from first to last frame,
colours RGB in [0, 1]. Shape letters: F frames, H height, W width.
"""

# PyTorch leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random

import torch
from torch import Tensor

from .looks import OBJECT_COLOURS, PATTERNS, ROUND_SHAPES, SHAPES, Colour, Look, Part, creature_look, random_colour, rgb

SIZE = 64
"""Frame height and width in pixels."""
FRAMES = 17
"""Frames in a clip: 4n+1, one second at `FPS`."""
FPS = 16

BACKGROUND_COLOURS: dict[str, Colour] = {
    "black": rgb(25, 25, 30),
    "grey": rgb(110, 110, 115),
    "green": rgb(40, 90, 55),
    "blue": rgb(40, 55, 110),
    "brown": rgb(105, 70, 40),
    "pink": rgb(190, 140, 150),
}
SHADES = (-18 / 255, 28 / 255)
"""Amounts that the two tones of a textured background add to its colour."""
TEXTURES = ("plain", "striped", "checkered", "dotted")
TEXTURE_PERIOD = 24.0
CAMERAS = ("still", "panning left", "panning right", "zooming in")
SIZES = {"small": (9.0, 10.0), "large": (13.0, 15.0)}
"""Range of the sprite radius in pixels, by size."""


# --- motions ----------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True, frozen=True)
class Path:
    """A sprite's pose in every frame, each field (F,): offset in pixels, angle, and scale along its own axes."""

    x: Tensor
    y: Tensor
    angle: Tensor
    scale_x: Tensor
    scale_y: Tensor


def make_path(
    u: Tensor,
    *,
    x: Tensor | None = None,
    y: Tensor | None = None,
    angle: Tensor | None = None,
    scale: Tensor | None = None,
    scale_y: Tensor | None = None,
) -> Path:
    """A path over the times `u`; values that are not given stay constant."""
    zero, one = torch.zeros_like(u), torch.ones_like(u)
    scale = one if scale is None else scale
    return Path(
        x=zero if x is None else x,
        y=zero if y is None else y,
        angle=zero if angle is None else angle,
        scale_x=scale,
        scale_y=scale if scale_y is None else scale_y,
    )


def _triangle_wave(u: Tensor) -> Tensor:
    return 2 * (2 * (u - torch.floor(u + 0.5))).abs() - 1


def _wander(u: Tensor, reach: float, rng: Random) -> Path:
    def drift(amount: float) -> Tensor:
        one, two = rng.uniform(-1, 1), rng.uniform(-0.4, 0.4)
        phase, turn = rng.uniform(0, 2 * math.pi), rng.uniform(0, 2 * math.pi)
        return amount * (one * torch.sin(2 * math.pi * u * 0.8 + phase) + two * torch.sin(4 * math.pi * u + turn))

    x, y, angle = drift(reach), drift(reach), drift(rng.choice((0.0, 0.4, 1.2)))
    squash = drift(rng.choice((0.0, 0.2)))
    return make_path(u, x=x, y=y, angle=angle, scale=1 + squash, scale_y=1 - squash)


MOTIONS: dict[str, Callable[[Tensor, float, Random], Path]] = {
    "standing still": lambda u, reach, rng: make_path(u),
    "moving left": lambda u, reach, rng: make_path(u, x=reach * (1 - 2 * u)),
    "moving right": lambda u, reach, rng: make_path(u, x=reach * (2 * u - 1)),
    "rising": lambda u, reach, rng: make_path(u, y=reach * (1 - 2 * u)),
    "falling": lambda u, reach, rng: make_path(u, y=reach * (2 * u - 1)),
    "bouncing": lambda u, reach, rng: make_path(u, y=0.8 * reach * (1 - 2 * torch.sin(2 * math.pi * u).abs())),
    "circling": lambda u, reach, rng: make_path(
        u, x=reach * torch.sin(2 * math.pi * u), y=-reach * torch.cos(2 * math.pi * u)
    ),
    "zigzagging": lambda u, reach, rng: make_path(u, x=reach * (2 * u - 1), y=0.6 * reach * _triangle_wave(2 * u)),
    "spinning": lambda u, reach, rng: make_path(u, angle=2 * math.pi * u),
    "pulsing": lambda u, reach, rng: make_path(u, scale=1 + 0.35 * torch.sin(4 * math.pi * u)),
    "wandering": _wander,
}
"""Functions that give the path of each motion over times u, up to `reach` pixels from the sprite's place."""
NAMED_MOTIONS = tuple(name for name in MOTIONS if name != "wandering")


# --- captions ---------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True, frozen=True)
class SpriteWords:
    """A prompt's words for one sprite. Shape "creature" is any look that the grammar has no words for."""

    size: str
    colour: str
    shape: str
    motion: str

    @property
    def look(self) -> str:
        """The words for its appearance alone."""
        words = (self.size, self.shape) if self.shape == "creature" else (self.size, self.colour, self.shape)
        return f"a {' '.join(words)}"


@dataclass(kw_only=True, slots=True, frozen=True)
class Caption:
    """Everything that a prompt says of a scene: one or two sprites (the first is on the left), background, camera."""

    sprites: tuple[SpriteWords, ...]
    background: str
    texture: str
    camera: str = "still"

    def __str__(self) -> str:
        sprites = " and ".join(f"{sprite.look} {sprite.motion}" for sprite in self.sprites)
        return f"{sprites} {self._place}{self._camera}"

    @property
    def static(self) -> str:
        """The appearance alone, as a static prompt."""
        return f"{' and '.join(sprite.look for sprite in self.sprites)} {self._place}"

    @property
    def motion(self) -> str:
        """The static prompt followed by the motion, as a motion prompt (Eq. 7)."""
        return f"{self.static}, {' and '.join(sprite.motion for sprite in self.sprites)}{self._camera}"

    @property
    def _place(self) -> str:
        return f"on a {self.background} {self.texture} background"

    @property
    def _camera(self) -> str:
        return "" if self.camera == "still" else f", camera {self.camera}"

    @property
    def held_out(self) -> bool:
        """Whether the base model never trains on these sprites and this background: one combination in eight."""
        key = "|".join(f"{s.colour} {s.shape} {s.motion}" for s in self.sprites) + f"|{self.background}"
        return blake2b(key.encode()).digest()[0] < 32


def _sprite_words(rng: Random, creatures: float) -> SpriteWords:
    shape = "creature" if rng.random() < creatures else rng.choice(tuple(SHAPES))
    motions = [m for m in NAMED_MOTIONS if not (m == "spinning" and shape in ROUND_SHAPES)]
    motion = "wandering" if rng.random() < creatures else rng.choice(motions)
    return SpriteWords(
        size=rng.choice(tuple(SIZES)), colour=rng.choice(tuple(OBJECT_COLOURS)), shape=shape, motion=motion
    )


def random_caption(rng: Random, *, sprites: int, held_out: bool = False, creatures: float = 0.0) -> Caption:
    """A random caption of `sprites` sprites. `creatures` is the probability of an unnamed look, and of an unnamed
    motion."""
    while True:
        texture = rng.choice(TEXTURES)
        camera = "still" if texture == "plain" or rng.random() < 0.6 else rng.choice(CAMERAS[1:])
        caption = Caption(
            sprites=tuple(_sprite_words(rng, creatures) for _ in range(sprites)),
            background=rng.choice(tuple(BACKGROUND_COLOURS)),
            texture=texture,
            camera=camera,
        )
        if caption.held_out == held_out:
            return caption


# --- scenes and pixels ------------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True, frozen=True)
class Sprite:
    """A look with a radius of `radius` pixels that follows `path` around `place` (x, y)."""

    look: Look
    radius: float
    place: tuple[float, float]
    path: Path


@dataclass(kw_only=True, slots=True, frozen=True)
class Scene:
    """Everything `render` needs; `phase` shifts the background's texture, in pixels."""

    sprites: tuple[Sprite, ...]
    tones: tuple[Colour, Colour]
    texture: str
    camera: str = "still"
    phase: tuple[float, float] = field(default=(0.0, 0.0))


def clip_times(frames: int = FRAMES) -> Tensor:
    """Times u (F,) of a clip's frames, 0 to 1 over `FRAMES` frames; longer clips continue beyond 1."""
    return torch.arange(frames) / (FRAMES - 1)


def background_tones(colour: Colour) -> tuple[Colour, Colour]:
    """The dark and the light tone of a textured background."""
    dark, light = (tuple(min(max(c + shade, 0.0), 1.0) for c in colour) for shade in SHADES)
    return dark, light  # type: ignore[return-value]


def place_sprite(look: Look, motion: str, radius: float, rng: Random, *, slot: tuple[int, int] = (0, 1)) -> Sprite:
    """A sprite with `motion`, placed at random so that its path stays in sight; `slot` (0, 2) is the left half."""
    index, slots = slot
    width = SIZE / slots
    reach = min(14.0 if slots == 1 else 8.0, SIZE / 2 - radius)
    if motion in ("rising", "falling", "bouncing"):
        reach = min(14.0, SIZE / 2 - radius)
    path = MOTIONS[motion](clip_times(), reach, rng)

    def room(offsets: Tensor, low: float, high: float) -> float:
        low, high = low + radius - float(offsets.min()), high - radius - float(offsets.max())
        return rng.uniform(low, high) if low < high else (low + high) / 2

    place = room(path.x, index * width, (index + 1) * width), room(path.y, 0, SIZE)
    return Sprite(look=look, radius=radius, place=place, path=path)


def scene_of(caption: Caption, rng: Random) -> Scene:
    """A scene that the caption describes; places, radii, phases and unnamed looks come from `rng`."""
    sprites: list[Sprite] = []
    for index, words in enumerate(caption.sprites):
        if words.shape == "creature":
            look = creature_look(rng)
        else:
            look = (Part(shape=words.shape, colour=OBJECT_COLOURS[words.colour]),)
        slot = (index, len(caption.sprites))
        sprites.append(place_sprite(look, words.motion, rng.uniform(*SIZES[words.size]), rng, slot=slot))
    return Scene(
        sprites=tuple(sprites),
        tones=background_tones(BACKGROUND_COLOURS[caption.background]),
        texture=caption.texture,
        camera=caption.camera,
        phase=(rng.uniform(0, TEXTURE_PERIOD), rng.uniform(0, TEXTURE_PERIOD)),
    )


def wide_scene(rng: Random) -> Scene:
    """A scene far beyond the grammar, for the VAE: one or two sprites of any colours, looks, sizes and paths."""
    sprites: list[Sprite] = []
    for _ in range(rng.choice((1, 2))):
        motion = rng.choice(("wandering", "wandering", *NAMED_MOTIONS))
        sprites.append(place_sprite(creature_look(rng), motion, rng.uniform(9, 18), rng))
    return Scene(
        sprites=tuple(sprites),
        tones=(random_colour(rng), random_colour(rng)),
        texture=rng.choice(TEXTURES),
        camera=rng.choice(CAMERAS),
        phase=(rng.uniform(0, TEXTURE_PERIOD), rng.uniform(0, TEXTURE_PERIOD)),
    )


def tone_share(texture: str, x: Tensor, y: Tensor) -> Tensor:
    """Share of the light tone at background coordinates, in [0, 1], with edges that are one pixel soft."""
    if texture == "plain":
        return torch.full_like(x, 0.4)
    period = TEXTURE_PERIOD

    def soft(distance: Tensor) -> Tensor:
        return (0.5 + distance).clamp(0, 1)

    stripe = period / 4 - (torch.remainder(x, period) - period / 2).abs()
    if texture == "striped":
        return soft(stripe)
    row = period / 4 - (torch.remainder(y, period) - period / 2).abs()
    if texture == "checkered":
        column_share, row_share = soft(stripe), soft(row)
        return column_share * row_share + (1 - column_share) * (1 - row_share)
    return soft(7.0 - torch.hypot(torch.remainder(x, period) - period / 2, torch.remainder(y, period) - period / 2))


def _mix(share: Tensor, first: Colour, second: Colour) -> Tensor:
    return torch.lerp(torch.tensor(first), torch.tensor(second), share.unsqueeze(-1))


def _draw(frames: Tensor, sprite: Sprite, x: Tensor, y: Tensor, chosen: slice) -> Tensor:
    path = sprite.path

    def column(values: Tensor) -> Tensor:
        return values[chosen].view(-1, 1, 1)

    dx, dy = x - sprite.place[0] - column(path.x), y - sprite.place[1] - column(path.y)
    cos, sin = column(torch.cos(path.angle)), column(torch.sin(path.angle))
    u = (cos * dx + sin * dy) / (sprite.radius * column(path.scale_x))
    v = (cos * dy - sin * dx) / (sprite.radius * column(path.scale_y))
    for part in sprite.look:
        cos, sin = math.cos(part.angle), math.sin(part.angle)
        du, dv = u - part.offset[0], v - part.offset[1]
        part_u, part_v = (cos * du + sin * dv) / part.scale[0], (cos * dv - sin * du) / part.scale[1]
        pixels = sprite.radius * min(part.scale)
        alpha = (0.5 - SHAPES[part.shape](part_u, part_v) * pixels).clamp(0, 1)
        share = (0.5 + PATTERNS[part.pattern](part_u, part_v) * pixels / 3).clamp(0, 1)
        frames = torch.lerp(frames, _mix(share, part.colour, part.second_colour), alpha.unsqueeze(-1))
    return frames


def render(scene: Scene, frame: int | None = None) -> Tensor:
    """Frames of the scene, (F, H, W, 3) RGB in [0, 1], or only one `frame` (1, H, W, 3).

    A pan scrolls only the background, as if the camera followed the sprites. A zoom enlarges it around its centre.
    """
    count = len(scene.sprites[0].path.x) if scene.sprites else FRAMES
    chosen = slice(None) if frame is None else slice(frame, frame + 1)
    times = clip_times(count)[chosen].view(-1, 1, 1)
    grid = torch.arange(SIZE) + 0.5
    x, y = grid.view(1, 1, -1), grid.view(1, -1, 1)
    travel = {"panning left": -12.0, "panning right": 12.0}.get(scene.camera, 0.0) * times
    zoom = 1 + (0.5 * times if scene.camera == "zooming in" else 0 * times)
    back_x = (x - SIZE / 2 + travel) / zoom + scene.phase[0]
    back_y = (y - SIZE / 2) / zoom + scene.phase[1]
    back_x, back_y = torch.broadcast_tensors(back_x, back_y)
    frames = _mix(tone_share(scene.texture, back_x, back_y), *scene.tones)
    for sprite in scene.sprites:
        frames = _draw(frames, sprite, x, y, chosen)
    return frames
