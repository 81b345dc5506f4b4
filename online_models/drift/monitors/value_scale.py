"""Values of any unit and any tail, as numbers within (-1, 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

HUGE = 1e50
"""Values beyond it count as missing: their squares, and the squares of those, would not be finite."""
_SMALL = 1e-40


class Scale(NamedTuple):
    """How a stream is squashed: u = (v - center) / width, then u / (1 + |u|), less its mean `offset`;
    `square` is the mean of the squares. A value of a heavy tail thus weighs little more than any other."""

    center: float
    width: float
    offset: float
    square: float

    @classmethod
    def of(cls, sample: Sequence[float]) -> Scale:
        """Center and width (1.5 interquartile ranges: 2 standard deviations of a normal) of a sample.

        Where half of the sample is one value, the mean distance from it; where all is, the value itself.
        """
        ordered = sorted(sample)
        n = len(ordered)
        center = ordered[n // 2]
        width = 1.5 * (ordered[(3 * n) // 4] - ordered[n // 4])
        if width <= _SMALL:
            width = 2.0 * sum(abs(value - center) for value in ordered) / n
        if width <= _SMALL:
            width = abs(center) if abs(center) > _SMALL else 1.0
        squashed = [(u := (value - center) / width) / (1.0 + abs(u)) for value in ordered]
        return cls(center, width, sum(squashed) / n, sum(q * q for q in squashed) / n)
