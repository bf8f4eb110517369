"""Looks of the embedded world's sprites: combinations of shapes, by signed distance, in one or two colours.

Colours are RGB in [0, 1]; coordinates are in units of the sprite's radius, y downwards, angles in radians.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

Colour = tuple[float, float, float]


def rgb(red: int, green: int, blue: int) -> Colour:
    """An RGB colour in [0, 1] from values in 0 to 255."""
    return red / 255, green / 255, blue / 255


OBJECT_COLOURS: dict[str, Colour] = {
    "red": rgb(230, 40, 40),
    "green": rgb(50, 210, 70),
    "blue": rgb(50, 90, 240),
    "yellow": rgb(245, 220, 40),
    "purple": rgb(170, 60, 210),
    "cyan": rgb(60, 220, 230),
    "white": rgb(245, 245, 245),
}


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 1


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.85


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    slope = math.sqrt(3) / 2
    return torch.maximum(slope * x.abs() - 0.5 * y, y) - 0.58


def _star(x: Tensor, y: Tensor) -> Tensor:
    radius, sector = torch.hypot(x, y), 2 * math.pi / 5
    angle = (torch.remainder(torch.atan2(x, -y) + sector / 2, sector) - sector / 2).abs()
    outer, inner = 1.2, 0.5
    inner_x, inner_y = inner * math.cos(sector / 2), inner * math.sin(sector / 2)
    normal_x, normal_y = inner_y, outer - inner_x
    length = math.hypot(normal_x, normal_y)
    return ((radius * torch.cos(angle) - outer) * normal_x + radius * torch.sin(angle) * normal_y) / length


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.76).abs() - 0.3


def _cross(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs(), y.abs()
    return torch.minimum(torch.maximum(x - 0.38, y - 1.05), torch.maximum(x - 1.05, y - 0.38))


SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
}
"""Signed distance of each shape at radius 1: negative inside."""
ROUND_SHAPES = ("circle", "ring")
"""Shapes whose spinning cannot be seen."""

PATTERNS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "solid": lambda x, y: torch.full_like(x, -1.0),
    "halves": lambda x, y: y,
    "quarters": lambda x, y: x * y,
    "stripes": lambda x, y: torch.sin(3.6 * y),
    "spots": lambda x, y: torch.sin(3.4 * x) * torch.sin(3.4 * y) - 0.25,
}
"""Functions that are positive where the pattern shows the part's second colour."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Part:
    """One shape of a look, in units of the sprite's radius, drawn over the parts before it."""

    shape: str
    colour: Colour
    second_colour: Colour = (0.0, 0.0, 0.0)
    pattern: str = "solid"
    offset: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    angle: float = 0.0


Look = tuple[Part, ...]


def random_colour(rng: Random) -> Colour:
    """A random colour that is not nearly black."""
    return rng.uniform(0.05, 1), rng.uniform(0.05, 1), rng.uniform(0.05, 1)


def creature_look(rng: Random) -> Look:
    """A look that no word of the grammar names: one or two shapes in random colours and patterns."""
    parts: list[Part] = []
    for index in range(rng.choice((1, 2, 2))):
        far = 0.0 if index == 0 else 0.75
        size = rng.uniform(0.8, 1.0) if index == 0 else rng.uniform(0.45, 0.7)
        parts.append(
            Part(
                shape=rng.choice(tuple(SHAPES)),
                colour=random_colour(rng),
                second_colour=random_colour(rng),
                pattern=rng.choice(tuple(PATTERNS)),
                offset=(rng.uniform(-far, far), rng.uniform(-far, far)),
                scale=(size * rng.uniform(0.75, 1.2), size * rng.uniform(0.75, 1.2)),
                angle=rng.uniform(0, 2 * math.pi),
            )
        )
    return tuple(parts)
