"""Words that the embedded model was trained on, everyday words that mean the same, and words that come close."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import zip_longest

from .looks import OBJECT_COLOURS, SHAPES
from .scene import BACKGROUND_COLOURS, CAMERAS, MOTIONS, SIZES, TEXTURES

_THINGS = frozenset((*SHAPES, "creature"))
_OF_THINGS = frozenset((*SIZES, *OBJECT_COLOURS))
_OF_BACKGROUNDS = frozenset((*BACKGROUND_COLOURS, *TEXTURES))
DIRECTIONS = ("left", "right")
_MOVEMENTS = frozenset(" ".join((*MOTIONS, *CAMERAS)).split())
_TELLING = _THINGS | _OF_THINGS | _OF_BACKGROUNDS | _MOVEMENTS | {"background"}
KNOWN = _TELLING | {"a", "and", "on", "camera"}
"""Every word of the prompts that the embedded model was trained on."""

_EVERYDAY = {
    "a": "an the one another",
    "on": "against over upon",
    "and": "with plus",
    "": "is are its that which to",
    "background": "backdrop",
    "small": "little tiny mini",
    "large": "big huge giant enormous",
    "red": "scarlet crimson",
    "green": "lime emerald",
    "blue": "navy azure",
    "yellow": "gold golden",
    "purple": "violet lilac",
    "cyan": "turquoise teal aqua",
    "grey": "gray",
    "circle": "ball disc disk",
    "square": "block box cube quad rectangle",
    "triangle": "pyramid wedge",
    "ring": "hoop donut doughnut loop",
    "creature": "animal critter beast monster",
    "plain": "flat blank uniform solid",
    "striped": "stripy stripey stripes banded",
    "checkered": "chequered checked checkerboard chessboard",
    "dotted": "dotty spotted spotty polka-dot polka-dotted dots",
    "standing": "stands resting rests staying stays",
    "moving": "moves move going goes travelling traveling travels sliding slides gliding glides",
    "left": "leftward leftwards",
    "right": "rightward rightwards",
    "rising": "rises rise ascending ascends climbing climbs",
    "falling": "falls fall dropping drops sinking sinks descending descends",
    "bouncing": "bounces bounce jumping jumps jump hopping hops hop",
    "circling": "circles orbiting orbits",
    "zigzagging": "zigzags zigzag zig-zagging zig-zags",
    "spinning": "spins spin rotating rotates rotate turning turns twirling twirls whirling whirls",
    "pulsing": "pulses pulse pulsating pulsates throbbing throbs",
    "wandering": "wanders wander roaming roams drifting drifts",
    "panning": "pans pan",
    "zooming": "zooms zoom",
}
MEANINGS = {word: meaning for meaning, words in _EVERYDAY.items() for word in words.split()}
"""The known word that each everyday word stands for; "" for words that add nothing."""

_CLOSE = {
    "grey": "silver beige concrete foggy city street road",
    "brown": "wooden tan sandy dirt earth",
    "black": "dark night space",
    "pink": "rose magenta fuchsia salmon",
    "green": "grass grassy lawn meadow forest olive",
    "blue": "sky sea ocean water",
    "red": "orange maroon ruby",
    "yellow": "amber lemon",
    "white": "ivory snow snowy",
    "small": "short thin narrow",
    "large": "tall wide thick",
    "circle": "sphere oval ellipse dot sun moon planet coin balloon heart hexagon octagon pentagon",
    "square": "diamond tile brick die",
    "triangle": "arrow cone tent",
    "ring": "wheel tyre tire bracelet",
    "cross": "x",
    "star": "flower snowflake spark",
    "creature": "cat dog bird fish bee bug butterfly horse robot man woman person boy girl child dancer lantern thing "
    "object shape toy sprite",
    "plain": "empty simple smooth",
    "striped": "lined wavy zebra",
    "checkered": "tiled grid plaid",
    "dotted": "starry speckled bubbly",
    "standing": "sitting sits lying lies",
    "still": "motionless frozen unmoving static",
    "moving": "walking walks running runs driving drives crawling crawls",
    "rising": "flying flies up upward upwards floating floats",
    "falling": "down downward downwards",
    "bouncing": "leaping leaps skipping skips dribbling",
    "circling": "swinging swings revolving revolves",
    "zigzagging": "weaving weaves",
    "spinning": "rolling rolls tumbling tumbles dancing dances",
    "pulsing": "growing grows shrinking shrinks breathing breathes blinking blinks beating",
    "wandering": "wobbling wobbles shaking shakes swaying sways swimming swims waving waves",
}
NEAREST = {word: known for known, words in _CLOSE.items() for word in words.split()}
"""The known word that comes closest to a word that the model was never trained on."""
SHORTEST_SPELLING = 3
"""Minimum letters of a word that is compared by spelling; shorter ones resemble too many others ("at": "cat")."""


def meant(words: Iterable[str]) -> list[str]:
    """The words, with everyday words replaced by the known words they stand for; "to the left" becomes "left"."""
    known = [meaning for word in words if (meaning := MEANINGS.get(word, word))]
    pairs = zip_longest(known, known[1:])
    return [word for word, after in pairs if word != "a" or after not in DIRECTIONS]


@dataclass(kw_only=True, slots=True, frozen=True)
class WordNote:
    """A word of a prompt that the embedded model will not understand as meant."""

    word: str
    nearest: str = ""
    """The closest known word in meaning or spelling, if there is one; only for words that the model never saw."""
    only_of: str = ""
    """The only things that a known word describes, "backgrounds" or "sprites"."""


def sentences(notes: Sequence[WordNote]) -> list[str]:
    """The notes as sentences for people, at most three."""
    unseen = [
        f"{note.word} (nearest: {note.nearest})" if note.nearest else note.word for note in notes if not note.only_of
    ]
    said = [f"The embedded model was never trained on: {', '.join(unseen)}."] if unseen else []
    for things in ("backgrounds", "sprites"):
        if words := [note.word for note in notes if note.only_of == things]:
            said.append(f"The embedded model knows these words for {things} only: {', '.join(words)}.")
    return said


def word_notes(words: Iterable[str], learned: Iterable[str] = ()) -> list[WordNote]:
    """Words that the embedded model never saw, or knows only for other things. Each is named once, in order.

    Args:
        words: words of a prompt in lower case, split by `text.words`.
        learned: words that a concept has learned. Tokens in brackets always count as learned.
    """
    learned = {*learned}
    notes: dict[str, WordNote] = {}
    adjectives: list[tuple[str, str]] = []  # adjectives of the next noun: as written, and as a known word
    for word in words:
        known = MEANINGS.get(word, word)
        if known in _OF_THINGS | _OF_BACKGROUNDS:
            adjectives.append((word, known))
        elif known in _THINGS | {"background"}:
            fitting, others = (_OF_BACKGROUNDS, "sprites") if known == "background" else (_OF_THINGS, "backgrounds")
            wrong = [written for written, adjective in adjectives if adjective not in fitting]
            notes |= {written: WordNote(word=written, only_of=others) for written in wrong}
            adjectives = []
        elif known in KNOWN:
            adjectives = []
        elif known and word not in learned and "[" not in word:
            notes.setdefault(word, WordNote(word=word, nearest=_nearest(word)))
    return [*notes.values()]


def _nearest(word: str) -> str:
    """The known word closest to `word` in meaning, otherwise in spelling; "" if none is close."""
    if word in NEAREST:
        return NEAREST[word]
    if len(word) < SHORTEST_SPELLING:
        return ""
    telling = {known: known for known in sorted(_TELLING)}
    telling |= {everyday: meaning for everyday, meaning in (MEANINGS | NEAREST).items() if meaning in _TELLING}
    alike = get_close_matches(word, telling, n=1, cutoff=0.77)
    return telling[alike[0]] if alike else ""
