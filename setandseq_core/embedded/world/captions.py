"""Parse prompts into captions, by the grammar of `scene.Caption`."""

import re
from itertools import zip_longest

from .looks import OBJECT_COLOURS, SHAPES
from .scene import BACKGROUND_COLOURS, CAMERAS, MOTIONS, SIZES, TEXTURES, Caption, SpriteWords
from .vocabulary import meant

UNNAMED_COLOUR, UNNAMED_MOTION = "white", "wandering"
"""Values of a caption whose prompt names no colour for a creature, or no motion."""


def _any_of(words: "dict[str, object] | tuple[str, ...]") -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_LOOK = rf"a (?:{_any_of(tuple(SIZES))}) (?:creature|(?:{_any_of(tuple(OBJECT_COLOURS))}) (?:{_any_of(tuple(SHAPES))}))"
_MOTION = _any_of(tuple(MOTIONS))
_SPRITE = rf"{_LOOK}(?: (?:{_MOTION}))?"
_PLACE = rf"on a (?P<background>{_any_of(tuple(BACKGROUND_COLOURS))}) (?P<texture>{_any_of(TEXTURES)}) background"
_PROMPT = re.compile(
    rf"(?P<sprites>{_SPRITE}(?: and {_SPRITE})?) {_PLACE}"
    rf"(?:, (?P<motions>(?:{_MOTION})(?: and (?:{_MOTION}))?))?(?:, camera (?P<camera>{_any_of(CAMERAS)}))?"
)


def parse_caption(prompt: str) -> Caption | None:
    """The caption of a prompt without tokens, in any of `Caption`'s three forms; None for any other prompt.

    Everyday words count as the known words they stand for. A motion that is not named becomes "wandering", and a
    creature's colour becomes "white"; no probe looks for these two.
    """
    said = " ".join(meant(re.findall(r"[\w'-]+|[^\w\s]", prompt.lower())))
    found = _PROMPT.fullmatch(said.replace(" ,", ",").rstrip(" ,."))
    if found is None:
        return None
    sprites = found["sprites"].split(" and ")
    motions = found["motions"].split(" and ") if found["motions"] else []
    if len(motions) > len(sprites):
        return None
    return Caption(
        sprites=tuple(_sprite(words, motion) for words, motion in zip_longest(sprites, motions, fillvalue="")),
        background=found["background"],
        texture=found["texture"],
        camera=found["camera"] or "still",
    )


def _sprite(words: str, motion: str) -> SpriteWords:
    said = re.fullmatch(rf"(?P<look>{_LOOK})(?: (?P<motion>{_MOTION}))?", words)
    assert said is not None  # the whole prompt was matched
    size, *colour, shape = said["look"].removeprefix("a ").split(" ")
    return SpriteWords(
        size=size,
        colour=(colour or [UNNAMED_COLOUR])[0],
        shape=shape,
        motion=said["motion"] or motion or UNNAMED_MOTION,
    )
