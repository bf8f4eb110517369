"""Growth as a sum of powers, and the point where one of them overtakes the rest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls


@dataclass(kw_only=True, slots=True, frozen=True)
class Growth:
    """y = constant + linear x + quadratic x^2."""

    constant: float
    linear: float
    quadratic: float

    def __call__(self, x: float) -> float:
        return self.constant + self.linear * x + self.quadratic * x**2

    @property
    def overtaking(self) -> float:
        """The x above which the quadratic part is more than the rest; infinite where there is none."""
        if not self.quadratic:
            return math.inf
        root = math.sqrt(self.linear**2 + 4 * self.quadratic * self.constant)
        return (self.linear + root) / (2 * self.quadratic)

    def error(self, x: Sequence[float], y: Sequence[float]) -> float:
        """The largest deviation from these points, as a fraction of y."""
        return max(abs(self(each) / found - 1) for each, found in zip(x, y, strict=True))


def fitted(x: Sequence[float], y: Sequence[float], powers: Sequence[int] = (0, 1, 2)) -> Growth:
    """The growth nearest to some points by the squares of relative deviations; no part of it is negative.

    Args:
        x: at least as many different values as powers.
        y: above 0.
        powers: the parts that there may be.
    """
    scale = max(x)  # parts of like size, or the solver loses the small ones
    columns = [[(each / scale) ** power / found for power in powers] for each, found in zip(x, y, strict=True)]
    found, _ = nnls(np.array(columns), np.ones(len(y)))
    parts = {power: float(value) / scale**power for power, value in zip(powers, found, strict=True)}
    return Growth(constant=parts.get(0, 0.0), linear=parts.get(1, 0.0), quadratic=parts.get(2, 0.0))
