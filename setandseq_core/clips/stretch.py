"""The part of a video that becomes a clip."""

import math
from dataclasses import dataclass

from ..errors import VideoError


@dataclass(kw_only=True, slots=True, frozen=True)
class Stretch:
    """The part of a video to use, in seconds.

    Raises:
        VideoError: the start is negative, or the length is not above 0.
    """

    start: float = 0.0
    """Start in seconds from the first frame."""
    length: float | None = None
    """Length in seconds; None for the rest of the video."""

    def __post_init__(self) -> None:
        if not 0 <= self.start < math.inf:
            raise VideoError(
                f"start is {self.start:g} s; it must be 0 or more.", hint="Count the seconds from the first frame."
            )
        if self.length is not None and not 0 < self.length < math.inf:
            raise VideoError(
                f"length is {self.length:g} s; it must be more than 0.",
                hint="Give the seconds that the clip may last, or no length for all that follows the start.",
            )

    @property
    def end(self) -> float:
        """End of the stretch, in seconds from the first frame."""
        return math.inf if self.length is None else self.start + self.length

    def within(self, outer: "Stretch") -> "Stretch":
        """This stretch, counted within `outer`, as a stretch of the whole video."""
        start = outer.start + self.start
        end = min(outer.end, outer.start + self.end)
        if start >= end:
            raise VideoError(
                f"start is {self.start:g} s, but the video is cut to {outer.length:g} s.", hint="Start earlier."
            )
        return Stretch(start=start, length=None if end == math.inf else end - start)


WHOLE = Stretch()
