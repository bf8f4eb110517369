"""The progress of a training, by its steps or by its time limit."""

import math
from time import monotonic


class Schedule:
    """Progress from 0 at the first step to 1 at the last step or at the time limit, whichever comes first."""

    def __init__(self, steps: int, minutes: float):
        """Start the clock.

        Args:
            steps: number of steps of the whole training.
            minutes: time limit of this run; 0 for no limit.
        """
        self._steps = steps
        self._seconds = 60 * minutes
        self._start = monotonic()

    def share(self, step: int) -> float:
        """Share of the training that is done before this step."""
        by_time = (monotonic() - self._start) / self._seconds if self._seconds else 0.0
        return max(step / self._steps if self._steps else 1.0, by_time)


def falling(share: float, lowest: float = 0.0) -> float:
    """A factor that falls as a cosine from 1 at share 0 to 0 at share 1, but never below `lowest`."""
    return max(0.5 + 0.5 * math.cos(math.pi * min(share, 1.0)), lowest)
