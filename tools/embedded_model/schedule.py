"""How far a training has come: by its steps, or by the time it may take."""

import math
from time import monotonic


class Schedule:
    """Counts from 0 at the first step to 1 at the last one, or when the time is over, whichever is further."""

    def __init__(self, steps: int, minutes: float):
        """Start the clock.

        Args:
            steps: of the whole training.
            minutes: that this run may take; 0 is no limit.
        """
        self._steps = steps
        self._seconds = 60 * minutes
        self._start = monotonic()

    def share(self, step: int) -> float:
        """Share of the training that is done before this step."""
        by_time = (monotonic() - self._start) / self._seconds if self._seconds else 0.0
        return max(step / self._steps if self._steps else 1.0, by_time)


def falling(share: float, lowest: float = 0.0) -> float:
    """A factor that falls with the cosine from 1 at share 0 to 0 at share 1, or to the lowest one."""
    return max(0.5 + 0.5 * math.cos(math.pi * min(share, 1.0)), lowest)
