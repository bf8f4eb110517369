"""The words that the embedded model was trained on, and everyday words that mean the same."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from .looks import OBJECT_COLOURS, SHAPES
from .scene import BACKGROUND_COLOURS, CAMERAS, MOTIONS, SIZES, TEXTURES

_THINGS = frozenset((*SHAPES, "creature"))
_OF_THINGS = frozenset((*SIZES, *OBJECT_COLOURS))
_OF_BACKGROUNDS = frozenset((*BACKGROUND_COLOURS, *TEXTURES))
_MOVEMENTS = frozenset(" ".join((*MOTIONS, *CAMERAS)).split())
KNOWN = _THINGS | _OF_THINGS | _OF_BACKGROUNDS | _MOVEMENTS | {"a", "and", "on", "background", "camera"}
"""Every word of the prompts that the embedded model was trained on."""

_EVERYDAY = {
    "a": "an the one another",
    "on": "against over upon",
    "and": "with plus",
    "": "is are its",
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
    "dotted": "dotty spotted polka-dot polka-dotted dots",
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
MEANINGS: Mapping[str, str] = {word: meaning for meaning, words in _EVERYDAY.items() for word in words.split()}
"""The known word that an everyday word stands for; empty for words that add nothing."""


@dataclass(kw_only=True, slots=True, frozen=True)
class WordNote:
    """A word of a prompt that will not do what it says."""

    word: str
    nearest: str = ""
    """For a word that the model was never trained on: the known one it resembles, if any."""
    only_of: str = ""
    """For a known word: the only things it describes, "backgrounds" or "sprites"."""


def sentences(notes: Sequence[WordNote]) -> list[str]:
    """The notes for people, at most three sentences."""
    unseen = [
        f"{note.word} (nearest: {note.nearest})" if note.nearest else note.word for note in notes if not note.only_of
    ]
    said = [f"The embedded model was never trained on: {', '.join(unseen)}."] if unseen else []
    for things in ("backgrounds", "sprites"):
        if words := [note.word for note in notes if note.only_of == things]:
            said.append(f"The embedded model knows these words for {things} only: {', '.join(words)}.")
    return said


def word_notes(words: Iterable[str], learned: Iterable[str] = ()) -> list[WordNote]:
    """Words that the embedded model was never trained on, or knows of other things only; each once, in order.

    Args:
        words: of a prompt, in lower case, as `text.words` splits it.
        learned: words that a concept gives a meaning. Tokens in brackets always count as learned.
    """
    learned = {*learned}
    notes: dict[str, WordNote] = {}
    adjectives: list[tuple[str, str]] = []  # of the next noun: as written, and the known word
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
    """The known word that looks most like `word`, or that the everyday word most like it stands for."""
    candidates = sorted(_THINGS | _OF_THINGS | _OF_BACKGROUNDS | _MOVEMENTS)
    candidates += [everyday for everyday, meaning in MEANINGS.items() if meaning in candidates]
    close = get_close_matches(word, candidates, n=1, cutoff=0.77)
    return MEANINGS.get(close[0], close[0]) if close else ""
