"""Clips of dynamic concepts that the embedded world has no words for: looks of several parts, unusual motions.

They stand in for the artist's clip when the method is shown or measured on the embedded model.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .looks import Look, Part, rgb
from .scene import (
    BACKGROUND_COLOURS,
    FRAMES,
    SIZE,
    Caption,
    Path,
    Scene,
    Sprite,
    SpriteWords,
    background_tones,
    clip_times,
    make_path,
    render,
)

IDENTITY_TOKEN = "[v]"
MOTION_TOKEN = "[u]"


@dataclass(kw_only=True, slots=True, frozen=True)
class ConceptClip:
    """A concept's clip: its look, its motion and its background."""

    name: str
    look: Look
    motion: Callable[[Tensor], Path]
    radius: float
    background: str
    texture: str = "plain"

    @property
    def caption(self) -> Caption:
        """Describes the clip in the embedded world's words: the concept's class and the background."""
        words = SpriteWords(size="large", colour="white", shape="creature", motion="wandering")
        return Caption(sprites=(words,), background=self.background, texture=self.texture)

    @property
    def static_prompt(self) -> str:
        """Describes the appearance, with the identity token."""
        return with_tokens(self.caption.static)

    @property
    def motion_prompt(self) -> str:
        """Describes the appearance and the motion, with both tokens."""
        return with_tokens(str(self.caption))

    def frames(self, times: Tensor | None = None) -> Tensor:
        """The clip, (F, H, W, 3) RGB in [0, 1], at the given times u or at the world's 17 times."""
        return render(self.scene(times))

    def scene(self, times: Tensor | None = None, place: tuple[float, float] = (SIZE / 2, SIZE / 2)) -> Scene:
        """The concept alone on its background."""
        path = self.motion(clip_times() if times is None else times)
        return Scene(
            sprites=(Sprite(look=self.look, radius=self.radius, place=place, path=path),),
            tones=background_tones(BACKGROUND_COLOURS[self.background]),
            texture=self.texture,
        )

    def edited(self, *, background: str = "", texture: str = "", second: SpriteWords | None = None) -> Caption:
        """The caption with another background, or with a second sprite beside the concept."""
        caption = self.caption
        return replace(
            caption,
            background=background or caption.background,
            texture=texture or caption.texture,
            sprites=caption.sprites if second is None else (*caption.sprites, second),
        )


def with_tokens(prompt: str) -> str:
    """Add the tokens to a prompt: [v] before "creature", [u] before "wandering"."""
    return prompt.replace("creature", f"{IDENTITY_TOKEN} creature", 1).replace(
        "wandering", f"{MOTION_TOKEN} wandering", 1
    )


def _figure_eight(u: Tensor) -> Path:
    turn = 2 * math.pi * u
    return make_path(u, x=15 * torch.sin(turn), y=9 * torch.sin(2 * turn), angle=0.35 * torch.cos(turn))


def _squashing_hops(u: Tensor) -> Path:
    height = torch.sin(2 * math.pi * u).abs()
    squash = 0.3 * (1 - height) ** 2
    return make_path(u, x=16 * (2 * u - 1), y=8 - 16 * height, scale=1 + squash, scale_y=1 - squash)


def _pendulum(u: Tensor) -> Path:
    swing = 0.9 * torch.cos(2 * math.pi * u)
    return make_path(u, x=26 * torch.sin(swing), y=26 * torch.cos(swing) - 20, angle=-swing)


def _spinning_dash(u: Tensor) -> Path:
    dash = torch.sin(math.pi * u) ** 2
    return make_path(u, x=13 - 26 * dash, y=10 - 20 * u, angle=3 * math.pi * u)


def _flutter(u: Tensor) -> Path:
    beat = torch.cos(8 * math.pi * u)
    return make_path(
        u, x=-10 * torch.sin(2 * math.pi * u), y=12 * (2 * u - 1), scale=1 + 0.25 * beat, scale_y=0 * u + 1
    )


def _spiral(u: Tensor) -> Path:
    reach, turn = 2 + 15 * u, 3 * math.pi * u
    return make_path(u, x=reach * torch.cos(turn), y=reach * torch.sin(turn), angle=turn)


def _wobble(u: Tensor) -> Path:
    wave = torch.sin(6 * math.pi * u)
    return make_path(u, x=9 * torch.sin(2 * math.pi * u), y=6 * wave, scale=1 + 0.3 * wave, scale_y=1 - 0.3 * wave)


def _darting(u: Tensor) -> Path:
    """Jump from place to place and stay three frames at each."""
    stops = torch.tensor([[-14.0, 9.0], [12.0, -11.0], [3.0, 12.0], [-11.0, -12.0], [14.0, 6.0], [-2.0, -5.0]])
    place = stops[(u * (FRAMES - 1) / 3).round().long().clamp(0, len(stops) - 1)]
    return make_path(u, x=place[:, 0], y=place[:, 1], angle=4 * math.pi * u)


CONCEPTS: dict[str, ConceptClip] = {
    clip.name: clip
    for clip in (
        ConceptClip(
            name="bee",
            look=(
                Part(shape="circle", colour=rgb(235, 245, 255), offset=(-0.3, -0.6), scale=(0.35, 0.6), angle=-0.4),
                Part(shape="circle", colour=rgb(235, 245, 255), offset=(0.3, -0.6), scale=(0.35, 0.6), angle=0.4),
                Part(
                    shape="circle",
                    colour=rgb(250, 190, 20),
                    second_colour=rgb(50, 25, 10),
                    pattern="stripes",
                    offset=(0.0, 0.15),
                    scale=(0.7, 1.0),
                    angle=math.pi / 2,
                ),
            ),
            motion=_figure_eight,
            radius=14,
            background="blue",
        ),
        ConceptClip(
            name="mushroom",
            look=(
                Part(shape="square", colour=rgb(245, 225, 190), offset=(0.0, 0.5), scale=(0.4, 0.6)),
                Part(
                    shape="circle",
                    colour=rgb(215, 40, 60),
                    second_colour=rgb(255, 240, 230),
                    pattern="spots",
                    offset=(0.0, -0.25),
                    scale=(1.0, 0.7),
                ),
            ),
            motion=_squashing_hops,
            radius=14,
            background="green",
        ),
        ConceptClip(
            name="lantern",
            look=(
                Part(shape="circle", colour=rgb(255, 140, 40), second_colour=rgb(255, 230, 130), pattern="halves"),
                Part(shape="square", colour=rgb(90, 40, 110), offset=(0.0, -0.85), scale=(0.5, 0.3)),
            ),
            motion=_pendulum,
            radius=13,
            background="black",
            texture="dotted",
        ),
        ConceptClip(
            name="pinwheel",
            look=(
                Part(
                    shape="star",
                    colour=rgb(255, 90, 170),
                    second_colour=rgb(70, 220, 190),
                    pattern="quarters",
                    scale=(1.1, 1.1),
                ),
                Part(shape="circle", colour=rgb(255, 255, 120), scale=(0.35, 0.35)),
            ),
            motion=_spinning_dash,
            radius=14,
            background="grey",
        ),
        ConceptClip(
            name="butterfly",
            look=(
                Part(shape="circle", colour=rgb(60, 120, 255), offset=(-0.6, 0.0), scale=(0.6, 0.9), angle=0.3),
                Part(shape="circle", colour=rgb(255, 120, 60), offset=(0.6, 0.0), scale=(0.6, 0.9), angle=-0.3),
                Part(shape="square", colour=rgb(40, 30, 40), scale=(0.2, 0.9)),
            ),
            motion=_flutter,
            radius=14,
            background="pink",
            texture="striped",
        ),
        ConceptClip(
            name="shell",
            look=(
                Part(
                    shape="ring",
                    colour=rgb(150, 90, 220),
                    second_colour=rgb(255, 210, 90),
                    pattern="quarters",
                    scale=(1.05, 1.05),
                ),
                Part(shape="square", colour=rgb(60, 230, 120), scale=(0.45, 0.45), angle=math.pi / 4),
            ),
            motion=_spiral,
            radius=13,
            background="brown",
            texture="checkered",
        ),
        ConceptClip(
            name="jelly",
            look=(
                Part(shape="square", colour=rgb(120, 60, 190), offset=(-0.45, 0.55), scale=(0.15, 0.5)),
                Part(shape="square", colour=rgb(120, 60, 190), offset=(0.45, 0.55), scale=(0.15, 0.5)),
                Part(
                    shape="circle",
                    colour=rgb(250, 130, 200),
                    second_colour=rgb(170, 90, 230),
                    pattern="stripes",
                    offset=(0.0, -0.15),
                    scale=(1.0, 0.75),
                ),
            ),
            motion=_wobble,
            radius=14,
            background="blue",
            texture="striped",
        ),
        ConceptClip(
            name="spark",
            look=(
                Part(shape="cross", colour=rgb(255, 235, 80), scale=(1.0, 1.0)),
                Part(
                    shape="circle",
                    colour=rgb(230, 60, 40),
                    second_colour=rgb(255, 160, 60),
                    pattern="halves",
                    scale=(0.6, 0.6),
                ),
            ),
            motion=_darting,
            radius=13,
            background="black",
        ),
    )
}
DEMO = "bee"
