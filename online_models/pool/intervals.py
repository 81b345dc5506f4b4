"""Intervals around predicted numbers that hold the truth as often as promised, whatever the data."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from math import ceil
from typing import Any

WIDTH_ERRORS = 500
"""Errors of late from which the width is taken."""
FEWEST = 20
"""Labels before the first interval is given."""
STEP = 0.01
"""How far the error rate asked for moves with each label."""

_STATE = ("_asked", "_counts", "_order", "_sorted")


class Intervals:
    """Adaptive conformal inference (Gibbs and Candes 2021, Adaptive conformal inference under distribution
    shift) around what a pool serves; `coverage` is the share of labels that intervals are to hold.

    An interval reaches as far as the quantile 1 - a of the last `WIDTH_ERRORS` absolute errors. After each
    label a += STEP * (1 - coverage - missed), where `missed` is 1 if an interval made *now* would not hold
    the error. The one that was published is older by as many labels as are on their way, and its misses have
    been corrected for since: by those, a would swing as far as labels are late. Where a falls below 0, for
    which the method asks for the whole line, the interval reaches as far as the largest error, and once more
    at a = -STEP, below which a does not fall.

    So, whatever the errors and however late the labels:

    - an interval is never wider than four times the largest of the last `WIDTH_ERRORS` errors (it reaches
      twice as far to either side), and as wide as that only while one is larger than all of them;
    - of T labels, the share that intervals made as their errors came would hold differs from `coverage` by at
      most (1 + 2 STEP) / (STEP * T), and by the share of errors that exceed all of the last `WIDTH_ERRORS`;
    - of intervals as they were published, it differs by so much more as there are errors that lie between the
      published reach and the one when the label came: few where errors are steady, and where their scale
      jumps at most as many as labels are on their way then.
    """

    def __init__(self, coverage: float) -> None:
        self.coverage = coverage
        self._asked = 1.0 - coverage
        self._order: deque[float] = deque()
        self._sorted: list[float] = []
        self._counts: dict[str, list[float]] = {}  # by serving member: labels, those held, sum of widths

    def reach(self) -> float | None:
        """Half the width of an interval now; None while too few errors are known."""
        errors = self._sorted
        if len(errors) < FEWEST:
            return None
        if self._asked <= 0.0:
            return errors[-1] * (1.0 - self._asked / STEP)
        place = ceil((1.0 - self._asked) * (len(errors) + 1)) - 1
        return errors[min(max(place, 0), len(errors) - 1)]

    def learn(self, error: float, reported: float | None, serving: str) -> None:
        """Take in an absolute error of an answer of `serving`, whose interval reached as far as
        `reported`."""
        now = self.reach()
        if now is not None:
            asked = self._asked + STEP * ((1.0 - self.coverage) - (error > now))
            self._asked = max(asked, -STEP)
        if reported is not None:
            counts = self._counts.setdefault(serving, [0.0, 0.0, 0.0])
            counts[0] += 1.0
            counts[1] += error <= reported
            counts[2] += 2.0 * reported
        self._order.append(error)
        insort(self._sorted, error)
        if len(self._order) > WIDTH_ERRORS:
            oldest = self._order.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]

    def counts(self, serving: str) -> list[float]:
        """(labels, those held, sum of widths) of the intervals given while this member served."""
        return self._counts.get(serving, [0.0, 0.0, 0.0])

    @property
    def held(self) -> float | None:
        """The share of labels held so far, whichever member served; None before the first."""
        labels = sum([counts[0] for counts in self._counts.values()])
        return sum([counts[1] for counts in self._counts.values()]) / labels if labels else None

    def state(self) -> dict[str, Any]:
        """All that later intervals depend on; nothing is copied."""
        return {name: getattr(self, name) for name in _STATE}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        for name in _STATE:
            setattr(self, name, state[name])
