"""Scenes beyond the grammar, for the embedded VAE: richer looks, livelier and faster paths."""

import math
from dataclasses import replace
from random import Random

import torch
from torch import Tensor

from setandseq_core.embedded.world.looks import (
    OBJECT_COLOURS,
    PATTERNS,
    SHAPES,
    Look,
    Part,
    creature_look,
    random_colour,
)
from setandseq_core.embedded.world.scene import (
    BACKGROUND_COLOURS,
    CAMERAS,
    FRAMES,
    SIZE,
    TEXTURE_PERIOD,
    TEXTURES,
    Caption,
    Path,
    Scene,
    Sprite,
    SpriteWords,
    background_tones,
    clip_times,
    make_path,
    random_caption,
    scene_of,
)

NEAR = 1.3
"""Half the side of the box around a sprite, in units of the sprite's radius."""
CENTRE = SIZE / 2, SIZE / 2
BETWEEN_SIZES = 11.5
"""Radius in pixels below which a sprite is called small."""


def grammar_scene(rng: Random) -> Scene:
    """A scene of the grammar for training; a sprite's look and its motion are each unnamed with probability 0.3."""
    return scene_of(random_caption(rng, sprites=rng.choice((1, 2)), creatures=0.3), rng)


def lively_scene(rng: Random) -> Scene:
    """One or two sprites of up to seven parts and of any size, on paths that mix slow and fast waves."""
    sprites = []
    for _ in range(rng.choice((1, 1, 2))):
        radius = rng.choice((rng.uniform(6, 10), rng.uniform(9, 16)))
        look = _rich_look(rng) if rng.random() < 0.8 else creature_look(rng)
        place = CENTRE[0] + rng.uniform(-5, 5), CENTRE[1] + rng.uniform(-5, 5)
        sprites.append(Sprite(look=look, radius=radius, place=place, path=_lively_path(rng, radius)))
    return _on_any_background(tuple(sprites), rng)


def fast_scene(rng: Random) -> Scene:
    """One small sprite that moves by about its own size per frame: in jumps, back and forth, or in circles."""
    radius = rng.uniform(5, 9)
    if rng.random() < 0.7:
        look = creature_look(rng)
    else:
        look = (Part(shape=rng.choice(tuple(SHAPES)), colour=rng.choice(tuple(OBJECT_COLOURS.values()))),)
    sprite = Sprite(look=look, radius=radius, place=CENTRE, path=_fast_path(rng, SIZE / 2 - 0.9 * radius))
    return _on_any_background((sprite,), rng)


def unnamed_scene(rng: Random) -> tuple[Scene, Caption]:
    """One sprite of any look and size on any path, on a background of the grammar, and its caption."""
    sprite = rng.choice((lively_scene, fast_scene))(rng).sprites[0]
    words = SpriteWords(
        size="small" if sprite.radius < BETWEEN_SIZES else "large",
        colour=rng.choice(tuple(OBJECT_COLOURS)),
        shape="creature",
        motion="wandering",
    )
    while True:
        caption = replace(random_caption(rng, sprites=1), sprites=(words,))
        if not caption.held_out:
            return replace(scene_of(caption, rng), sprites=(sprite,)), caption


def near_sprites(scene: Scene) -> Tensor:
    """Mask (F, H, W), bool, of the pixels in the box around a sprite."""
    pixels = torch.arange(SIZE) + 0.5
    near_FHW = torch.zeros(FRAMES, SIZE, SIZE, dtype=torch.bool)
    for sprite in scene.sprites:
        x, y = (place + offset for place, offset in zip(sprite.place, (sprite.path.x, sprite.path.y), strict=True))
        columns = (pixels.view(1, 1, -1) - x.view(-1, 1, 1)).abs() < NEAR * sprite.radius
        rows = (pixels.view(1, -1, 1) - y.view(-1, 1, 1)).abs() < NEAR * sprite.radius
        near_FHW |= columns & rows
    return near_FHW


def _on_any_background(sprites: tuple[Sprite, ...], rng: Random) -> Scene:
    tones = random_colour(rng), random_colour(rng)
    if rng.random() < 0.5:
        tones = background_tones(rng.choice(tuple(BACKGROUND_COLOURS.values())))
    return Scene(
        sprites=sprites,
        tones=tones,
        texture=rng.choice(TEXTURES),
        camera=rng.choice(CAMERAS),
        phase=(rng.uniform(0, TEXTURE_PERIOD), rng.uniform(0, TEXTURE_PERIOD)),
    )


def _rich_look(rng: Random) -> Look:
    """One large part and up to three smaller ones, sometimes mirrored, in front of it or behind it."""
    parts = [_part(rng, size=rng.uniform(0.7, 1.05), far=0.2)]
    mirrored = rng.random() < 0.4
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3))):
        part = _part(rng, size=rng.uniform(0.25, 0.7), far=0.85)
        parts.append(part)
        if mirrored:
            parts.append(replace(part, offset=(-part.offset[0], part.offset[1]), angle=-part.angle))
    return tuple(reversed(parts)) if rng.random() < 0.4 else tuple(parts)


def _part(rng: Random, *, size: float, far: float) -> Part:
    dark_or_light = rng.choice(((0.05, 0.05, 0.05), (0.97, 0.97, 0.97)))
    return Part(
        shape=rng.choice(tuple(SHAPES)),
        colour=random_colour(rng) if rng.random() < 0.85 else dark_or_light,
        second_colour=random_colour(rng),
        pattern=rng.choice(tuple(PATTERNS)),
        offset=(rng.uniform(-far, far), rng.uniform(-far, far)),
        scale=(size * rng.uniform(0.5, 1.2), size * rng.uniform(0.5, 1.2)),
        angle=rng.uniform(0, 2 * math.pi),
    )


def _lively_path(rng: Random, radius: float) -> Path:
    times = clip_times()
    room = max(SIZE / 2 - 0.9 * radius, 2.0)
    straight = room * (2 * times - 1)
    x = rng.choice((-1, 1)) * straight if rng.random() < 0.3 else _waves(times, room, rng)
    y = rng.choice((-1, 1)) * straight if rng.random() < 0.2 else _waves(times, room, rng)
    angle = rng.choice((0.0 * times, _waves(times, 0.8, rng), rng.uniform(-14, 14) * times))
    squash = _waves(times, rng.choice((0.0, 0.0, 0.3)), rng)
    return make_path(times, x=x, y=y, angle=angle, scale=1 + squash, scale_y=1 + rng.choice((-1, 0, 1)) * squash)


def _waves(times: Tensor, reach: float, rng: Random) -> Tensor:
    """A sum of two sines, the second with up to five cycles; sometimes folded so that the path bounces."""

    def wave(share: float, cycles: float) -> Tensor:
        return share * torch.sin(2 * math.pi * cycles * times + rng.uniform(0, 2 * math.pi))

    sum_F = wave(rng.uniform(0.2, 1), rng.uniform(0.3, 3)) + wave(rng.choice((0.0, 0.2, 0.4)), rng.uniform(1, 5))
    if rng.random() < 0.2:
        sum_F = 2 * sum_F.abs() / sum_F.abs().max() - 1
    return reach * sum_F


def _fast_path(rng: Random, room: float) -> Path:
    times = clip_times()
    angle = rng.choice((0.0, rng.uniform(-6, 6))) * times
    kind = rng.choice(("jumps", "to and fro", "circles"))
    if kind == "jumps":
        stays = rng.choice((1, 2, 3))
        stops = torch.tensor([[rng.uniform(-room, room) for _ in "xy"] for _ in range(FRAMES)])
        place_F2 = stops[torch.arange(FRAMES) // stays]
        return make_path(times, x=place_F2[:, 0], y=place_F2[:, 1], angle=angle)
    turn = 2 * math.pi * rng.uniform(2, 3.7) * times + rng.uniform(0, 2 * math.pi)
    if kind == "to and fro":
        along, direction = room * torch.sin(turn), rng.uniform(0, 2 * math.pi)
        return make_path(times, x=along * math.cos(direction), y=along * math.sin(direction), angle=angle)
    return make_path(times, x=room * torch.cos(turn), y=rng.uniform(0.5, 1) * room * torch.sin(turn), angle=angle)
