"""The time of many trainings on many cards, on paper.

docs/scale.md says each formula; the names here are those of its list.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from setandseq_core.config import PAPER

RATE = 287e12
"""Operations a second of one card: 278 TFLOP in 0.97 s, a sequence step of Wan 1.3B on an H100 (benchmarks/results)."""
LAUNCH = 0.024
"""Seconds that Python needs to begin the work of a block and step: 0.72 s for the 30 of Wan 1.3B in the same run."""
CARDS_OF_A_MACHINE = 8
NETWORK = 12.5e9
"""Bytes a second between machines: 100 Gbit/s."""
INSIDE = 100e9
"""Bytes a second between cards of one machine."""
DISK = 2e9
"""Bytes a second that the shared disk gives to all machines together."""
Model = Mapping[str, Any]
"""The operations and bytes of one model, as `benchmarks.growth_models` counts them."""
CARDS = (1, 4, 16, 64)
WORTH_SAYING = 0.1
"""Share of the time from which a second part is named."""
CONCEPTS = (1, 10, 100, 1000)


@dataclass(kw_only=True, slots=True, frozen=True)
class Line:
    """A number of concepts on a number of cards."""

    cards: int
    concepts: int
    each: int
    """Cards that train one concept together."""
    seconds: float
    limits: Mapping[str, float]
    """Parts that the seconds add up to, each by what it waits for."""

    @property
    def largest(self) -> list[tuple[str, float]]:
        """The largest part, and the second where it matters, as fractions of the time."""
        shares = sorted(((share / self.seconds, name) for name, share in self.limits.items()), reverse=True)
        first, second = ((name, share) for share, name in shares[:2])
        return [first, second] if second[1] >= WORTH_SAYING else [first]


STEPS = {"set": PAPER.set_stage.steps, "sequence": PAPER.sequence_stage.steps}
BATCH = PAPER.sequence_stage.batch


def products(model: Model, each: int) -> float:
    """Seconds of all products of a concept on each of some cards that share its batches."""
    samples = math.ceil(BATCH / each)
    return sum(steps * samples * model[stage]["operations"] for stage, steps in STEPS.items()) / RATE


def waiting_for_python(model: Model, each: int) -> float:
    """Seconds that a card waits, because a step has fewer products than Python needs time to begin them."""
    least = LAUNCH * model["blocks"]
    samples = math.ceil(BATCH / each)
    took = {stage: samples * model[stage]["operations"] / RATE for stage in STEPS}
    return sum(steps * max(least - took[stage], 0.0) for stage, steps in STEPS.items())


def exchange(model: Model, each: int) -> float:
    """Seconds of adding up gradients, 4 bytes a trained number, over a ring of cards."""
    rate = INSIDE if each <= CARDS_OF_A_MACHINE else NETWORK
    numbers = sum(steps * model[stage]["trained"] for stage, steps in STEPS.items())
    return 2 * (each - 1) / each * 4 * numbers / rate


def sampled_clip(model: Model) -> float:
    """Seconds of making one clip, guided: two forwards a step."""
    return PAPER.sampling.steps * 2 * model["forward"] / RATE


def line(model: Model, cards: int, concepts: int) -> Line:
    """The faster of one card for each concept and of several."""
    several = max(min(cards // concepts, BATCH), 1)
    found = [_line(model, cards, concepts, each) for each in sorted({1, several})]
    return min(found, key=lambda one: one.seconds)


def _line(model: Model, cards: int, concepts: int, each: int) -> Line:
    rounds = math.ceil(concepts * each / cards)
    busy = products(model, each) * rounds
    full = min(products(model, 1) * concepts / cards, busy)
    clips = PAPER.prior.clips
    # All cards of `train-many` make them together, once, and each concept is tried. Launched commands do neither.
    sampled = math.ceil(clips / cards) + rounds if each == 1 else math.ceil(clips / each) * rounds
    limits = {
        "products": full,
        _reason(cards, concepts, each): busy - full,
        "Python": waiting_for_python(model, each) * rounds,
        "network": exchange(model, each) * rounds,
        "clips made": sampled * sampled_clip(model),
        "disk": model["weights"] * math.ceil(min(cards, concepts * each) / CARDS_OF_A_MACHINE) / DISK,
    }
    return Line(cards=cards, concepts=concepts, each=each, seconds=sum(limits.values()), limits=limits)


def _reason(cards: int, concepts: int, each: int) -> str:
    """Why cards have nothing to do."""
    if each == BATCH:
        return "batch"
    return "number of concepts" if concepts < cards else "last round"


def lines(model: Model) -> list[Line]:
    """All lines of the table."""
    return [line(model, cards, concepts) for concepts in CONCEPTS for cards in CARDS]
