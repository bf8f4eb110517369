"""Eight clips that are harder than `embedded.world.concepts`: small sprites in two tones or stripes on fast paths.

No recipe was chosen on them, so they show what a new clip gets. Letters: u is the time in [0, 1], see `world.scene`.
"""

import math

import torch
from torch import Tensor

from setandseq_core.embedded.world.concepts import ConceptClip
from setandseq_core.embedded.world.looks import Part, rgb
from setandseq_core.embedded.world.scene import Path, make_path


def _racing_loop(u: Tensor) -> Path:
    turn = 4 * math.pi * u
    return make_path(u, x=17 * torch.cos(turn), y=12 * torch.sin(turn), angle=turn)


def _zigzag(u: Tensor) -> Path:
    across = torch.asin(torch.sin(6 * math.pi * u)) * 2 / math.pi
    return make_path(u, x=18 * across, y=30 * u - 15)


def _shuttle(u: Tensor) -> Path:
    return make_path(u, x=18 * torch.cos(4 * math.pi * u), y=4 * torch.sin(8 * math.pi * u))


def _dive(u: Tensor) -> Path:
    height = (2 * u - 1).square()
    return make_path(u, x=36 * u - 18, y=14 - 28 * height, angle=1.5 * (2 * u - 1))


def _steep_hops(u: Tensor) -> Path:
    return make_path(u, x=24 * u - 12, y=14 - 26 * torch.sin(3 * math.pi * u).abs())


def _tight_spiral(u: Tensor) -> Path:
    reach, turn = 18 - 14 * u, 5 * math.pi * u
    return make_path(u, x=reach * torch.cos(turn), y=reach * torch.sin(turn))


def _swinging(u: Tensor) -> Path:
    swing = 1.1 * torch.cos(3 * math.pi * u)
    return make_path(u, x=20 * torch.sin(swing), y=20 * torch.cos(swing) - 14, angle=-swing)


def _tumbling(u: Tensor) -> Path:
    return make_path(u, x=16 * torch.sin(2 * math.pi * u), y=34 * u - 17, angle=4 * math.pi * u)


def _two_tone(shape: str, first: tuple[int, int, int], second: tuple[int, int, int], pattern: str) -> tuple[Part, ...]:
    return (Part(shape=shape, colour=rgb(*first), second_colour=rgb(*second), pattern=pattern),)


MORE_CLIPS: dict[str, ConceptClip] = {
    clip.name: clip
    for clip in (
        ConceptClip(
            name="wasp",
            look=_two_tone("circle", (250, 200, 30), (40, 30, 20), "stripes"),
            motion=_racing_loop,
            radius=8,
            background="green",
        ),
        ConceptClip(
            name="kite",
            look=_two_tone("triangle", (240, 60, 90), (250, 240, 220), "halves"),
            motion=_zigzag,
            radius=9,
            background="blue",
        ),
        ConceptClip(
            name="puck",
            look=_two_tone("square", (60, 220, 230), (20, 60, 90), "quarters"),
            motion=_shuttle,
            radius=7,
            background="grey",
        ),
        ConceptClip(
            name="swallow",
            look=_two_tone("cross", (245, 245, 245), (70, 90, 200), "halves"),
            motion=_dive,
            radius=9,
            background="pink",
        ),
        ConceptClip(
            name="flea",
            look=_two_tone("circle", (160, 70, 210), (250, 220, 80), "halves"),
            motion=_steep_hops,
            radius=7,
            background="brown",
        ),
        ConceptClip(
            name="comet",
            look=_two_tone("star", (255, 240, 120), (240, 110, 40), "quarters"),
            motion=_tight_spiral,
            radius=9,
            background="black",
        ),
        ConceptClip(
            name="bell",
            look=_two_tone("ring", (250, 190, 60), (120, 60, 30), "stripes"),
            motion=_swinging,
            radius=9,
            background="blue",
            texture="dotted",
        ),
        ConceptClip(
            name="leaf",
            look=_two_tone("triangle", (90, 220, 80), (230, 120, 40), "stripes"),
            motion=_tumbling,
            radius=10,
            background="grey",
            texture="checkered",
        ),
    )
}
