"""Draw the thumbnails of the workflows for large models: the input, what is learned or used, and the result.

These models do not run in the tools, so a picture of a result would show another model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from tools.workflows import image_to_video, lora, wan

SIZE = 400, 300
FINE = 4
"""Factor by which pictures are drawn larger, for smooth edges."""
BACKDROP, FILM, INK = "#17171c", "#050507", "#f2f2f2"
STAGE, BEACH = ("#8d99ae", "#6b7487"), ("#ffb26b", "#2a9db5")
"""Colours of places, above and below the horizon."""
RED, BLUE = "#e5383b", "#2f6fde"
LOOK, MOTION, CHIP = "#c77dff", "#ffd166", "#3a86c8"
FRAMES = 4
LABEL = 15
POSES = ((60, 20), (10, -40), (-40, 10), (20, 60))
"""Degrees of the left and right arm above the horizontal in each frame."""


@dataclass(frozen=True, slots=True)
class Strip:
    """A film strip of a dancer in a coat, in a place."""

    coat: str
    place: tuple[str, str]
    held: bool = False
    """Whether all frames show the same pose."""
    known: bool = False
    """Whether the first frame has a border, which marks it as given."""
    frames: int = FRAMES


class Scheme:
    """A picture under construction, in coordinates of the finished one."""

    def __init__(self) -> None:
        self._picture = Image.new("RGB", (SIZE[0] * FINE, SIZE[1] * FINE), BACKDROP)
        self._draw = ImageDraw.Draw(self._picture)

    def finished(self) -> Image.Image:
        """The picture in its own size."""
        return self._picture.resize(SIZE, Image.Resampling.LANCZOS)

    def strip(self, box: tuple[float, float, float, float], film: Strip) -> None:
        """Draw a film strip in a box (left, top, right, bottom), with holes along both edges."""
        left, top, right, bottom = box
        self._box(box, FILM)
        step = (right - left) / film.frames
        for index in range(film.frames):
            x = left + index * step
            frame = x + 3, top + 9, x + step - 3, bottom - 9
            self._frame(frame, film, POSES[0 if film.held else index % len(POSES)])
            if film.known and index == 0:
                self._box(frame, None, INK, 3)
            for hole in range(4):
                place = x + (hole + 0.5) * step / 4
                for y in (top + 4.5, bottom - 4.5):
                    self._box((place - 3, y - 2, place + 3, y + 2), BACKDROP)

    def chips(self, y: float, chips: Sequence[tuple[str, str]]) -> None:
        """Draw labels side by side in the middle, each in its colour."""
        font = ImageFont.load_default(LABEL * FINE)
        widths = [font.getlength(text) / FINE + 24 for text, _ in chips]
        x = (SIZE[0] - sum(widths) - 12 * (len(chips) - 1)) / 2
        for (text, colour), width in zip(chips, widths, strict=True):
            area = self._scaled((x, y - 14, x + width, y + 14))
            self._draw.rounded_rectangle(area, 14 * FINE, fill=colour)
            self._text(text, (x + width / 2, y), BACKDROP)
            x += width + 12

    def arrow(self, x: float, top: float, bottom: float) -> None:
        """Draw an arrow that points down."""
        self._draw.line(self._scaled((x, top, x, bottom - 6)), fill=INK, width=3 * FINE)
        points = self._scaled((x - 7, bottom - 8)), self._scaled((x + 7, bottom - 8)), self._scaled((x, bottom))
        self._draw.polygon(points, fill=INK)

    def plus(self, x: float, y: float) -> None:
        """Draw a plus sign centred at a place."""
        self._line((x - 7, y), (x + 7, y), INK, 3)
        self._line((x, y - 7), (x, y + 7), INK, 3)

    def _frame(self, box: tuple[float, float, float, float], film: Strip, pose: tuple[float, float]) -> None:
        left, top, right, bottom = box
        ground = top + 0.72 * (bottom - top)
        self._box((left, top, right, ground), film.place[0])
        self._box((left, ground, right, bottom), film.place[1])
        height = min(bottom - top - 10, 1.2 * (right - left))
        self._dancer(((left + right) / 2, bottom - 4), height, film.coat, pose)

    def _dancer(self, feet: tuple[float, float], height: float, coat: str, pose: tuple[float, float]) -> None:
        """Draw a standing figure: head, coat, two legs and two arms."""
        x, y = feet
        shoulder, hip, reach = y - 0.72 * height, y - 0.32 * height, 0.3 * height
        lean = 0.04 * height * (1 if pose[0] > pose[1] else -1)
        for side in (-1, 1):
            self._line((x + lean, hip), (x + side * 0.14 * height, y), "#2b2d42", 0.07 * height)
        for side, angle in zip((-1, 1), pose, strict=True):
            rise = reach * angle / 60
            hand = x + lean + side * (reach * reach - 0.5 * rise * rise) ** 0.5, shoulder - rise
            self._line((x + lean, shoulder), hand, "#ffd9b8", 0.07 * height)
        width = 0.2 * height
        points = (
            (x + lean, shoulder - 0.05 * height),
            (x - width, hip + 0.06 * height),
            (x + width, hip + 0.06 * height),
        )
        self._draw.polygon([self._scaled(point) for point in points], fill=coat)
        head, top = 0.11 * height, y - 0.86 * height
        area = self._scaled((x + lean - head, top - head, x + lean + head, top + head))
        self._draw.ellipse(area, fill="#ffd9b8")

    def _box(
        self,
        box: tuple[float, float, float, float],
        fill: str | None,
        outline: str | None = None,
        width: int = 0,
    ) -> None:
        self._draw.rectangle(self._scaled(box), fill=fill, outline=outline, width=width * FINE)

    def _line(self, start: tuple[float, float], end: tuple[float, float], colour: str, width: float) -> None:
        self._draw.line([self._scaled(start), self._scaled(end)], fill=colour, width=round(width * FINE))

    def _text(self, text: str, place: tuple[float, float], colour: str) -> None:
        x, y = place
        self._draw.text((FINE * x, FINE * y), text, colour, ImageFont.load_default(LABEL * FINE), anchor="mm")

    def _scaled(self, numbers: Sequence[float]) -> tuple[float, ...]:
        return tuple(FINE * number for number in numbers)


CLIP, RESULT = Strip(RED, STAGE), Strip(RED, BEACH)
TOP, BELOW, WIDE = (20, 16, 380, 106), (20, 194, 380, 284), (4, 166, 396, 290)
BOTH = ("look", LOOK), ("motion", MOTION)
EXPERTS = ("high noise", CHIP), ("low noise", CHIP)


def train(scheme: Scheme) -> None:
    """Draw a clip, the look and motion learned from it, and a new video."""
    _through(scheme, CLIP, BOTH, RESULT)


def train_experts(scheme: Scheme) -> None:
    """Draw a clip, the two models that learn it, and a new video."""
    _through(scheme, CLIP, EXPERTS, RESULT)


def use_experts(scheme: Scheme) -> None:
    """Draw a concept in both models, and a new video."""
    scheme.chips(40, [("one concept", MOTION)])
    scheme.arrow(150, 60, 88)
    scheme.arrow(250, 60, 88)
    scheme.chips(108, EXPERTS)
    scheme.arrow(150, 128, 156)
    scheme.arrow(250, 128, 156)
    scheme.strip((20, 166, 380, 270), RESULT)


def shared(scheme: Scheme) -> None:
    """Draw a concept file, the template that it goes into, and a new video."""
    scheme.chips(40, [("concept file", MOTION)])
    scheme.arrow(200, 60, 88)
    scheme.chips(108, [("text-to-video template", CHIP)])
    scheme.arrow(200, 128, 156)
    scheme.strip((20, 166, 380, 270), RESULT)


def pipeline(scheme: Scheme) -> None:
    """Draw a video, and the same video larger and with more frames."""
    scheme.strip((60, 14, 340, 84), RESULT)
    scheme.arrow(200, 90, 108)
    scheme.chips(126, [("2x frames", CHIP), ("2x size", CHIP)])
    scheme.arrow(200, 144, 162)
    scheme.strip(WIDE, Strip(RED, BEACH, frames=6))


def teach_lora(scheme: Scheme) -> None:
    """Draw a still look, another person's motion, and the look with this motion."""
    scheme.strip((20, 16, 110, 106), Strip(RED, STAGE, held=True, frames=1))
    scheme.plus(125, 61)
    scheme.strip((140, 16, 380, 106), Strip(BLUE, STAGE, frames=3))
    scheme.arrow(65, 112, 132)
    scheme.arrow(260, 112, 132)
    scheme.chips(150, [("look of a LoRA", LOOK), ("motion of a clip", MOTION)])
    scheme.arrow(200, 168, 188)
    scheme.strip(BELOW, RESULT)


def from_picture(scheme: Scheme) -> None:
    """Draw a clip and a picture, and a new video that begins with the picture."""
    scheme.strip((20, 16, 260, 106), Strip(RED, STAGE, frames=3))
    scheme.plus(275, 61)
    scheme.strip((290, 16, 380, 106), Strip(RED, BEACH, held=True, known=True, frames=1))
    scheme.arrow(140, 112, 132)
    scheme.arrow(335, 112, 132)
    scheme.chips(150, [*BOTH, ("first frame", CHIP)])
    scheme.arrow(200, 168, 188)
    scheme.strip(BELOW, Strip(RED, BEACH, known=True))


def _through(scheme: Scheme, before: Strip, chips: Sequence[tuple[str, str]], after: Strip) -> None:
    scheme.strip(TOP, before)
    scheme.arrow(200, 112, 132)
    scheme.chips(150, chips)
    scheme.arrow(200, 168, 188)
    scheme.strip(BELOW, after)


SCHEMES: dict[str, Callable[[Scheme], None]] = {
    wan.TRAIN: train,
    wan.EXPERTS: use_experts,
    wan.SHARED: shared,
    wan.PIPELINE: pipeline,
    wan.TRAIN_EXPERTS: train_experts,
    lora.NAME: teach_lora,
    image_to_video.NAME: from_picture,
}


def drawn(name: str) -> Image.Image:
    """The thumbnail of a workflow."""
    scheme = Scheme()
    SCHEMES[name](scheme)
    return scheme.finished()
