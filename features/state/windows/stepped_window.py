"""Windows whose times are rounded down to steps: a key stores one entry for each step instead of each event.

Callers round the times of additions and reads. The values of one step share an entry: running totals keep
only the step's last one, and windows of extremes keep only its largest value. Reads give what the ordinary
windows would give for the same rounded times.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

from driftline.features.state.windows.window import (
    CountWindow,
    DecayedWindow,
    MaxWindow,
    MinWindow,
    SquareWindow,
    SumWindow,
    Totals,
    add_to_totals,
    deviation,
    one_zero,
)


class SteppedCountWindow(CountWindow):
    """Counts events. `counts[i]` is the number of events before the i-th step."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        super().__init__()
        self.counts = one_zero()

    def add(self, at: float, value: float) -> None:
        """Count one event."""
        super().add(at, value)
        _count(self.counts, self.ats, at)
        _merge(self.ats, at, self.counts)

    def retain(self, bound: float, watermark: float) -> bool:
        """Drop the steps at or before `bound`. Returns whether any is left."""
        del self.counts[: bisect_right(self.ats, bound)]
        return super().retain(bound, watermark)

    def count(self, at: float, since: float) -> int:
        """Number of events in (since, at]."""
        return _counted(self.counts, self.ats, at, since)


class SteppedSumWindow(SumWindow):
    """Sums of values."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        super().__init__()
        self.counts = one_zero()

    def add(self, at: float, value: float) -> None:
        """Add one finite value to its step."""
        super().add(at, value)
        _count(self.counts, self.ats, at)
        _merge(self.ats, at, self.counts, self.totals)

    def retain(self, bound: float, watermark: float) -> bool:
        """Drop the steps at or before `bound`. Returns whether any is left."""
        del self.counts[: bisect_right(self.ats, bound)]
        return super().retain(bound, watermark)

    def mean(self, at: float, since: float) -> float | None:
        """Mean of the values in (since, at]; None when there is none."""
        count = _counted(self.counts, self.ats, at, since)
        low, high = bisect_right(self.ats, since), bisect_right(self.ats, at)
        return (self.totals[high] - self.totals[low]) / (count << self.bits) if count else None


class SteppedSquareWindow(SquareWindow):
    """Sums of values and of their squares."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        super().__init__()
        self.counts = one_zero()

    def add(self, at: float, value: float) -> None:
        """Add one finite value to its step."""
        super().add(at, value)
        _count(self.counts, self.ats, at)
        _merge(self.ats, at, self.counts, self.totals, self.squares)

    def retain(self, bound: float, watermark: float) -> bool:
        """Drop the steps at or before `bound`. Returns whether any is left."""
        del self.counts[: bisect_right(self.ats, bound)]
        return super().retain(bound, watermark)

    def std(self, at: float, since: float) -> float | None:
        """Population standard deviation of the values in (since, at]; None when there is none."""
        low, high = bisect_right(self.ats, since), bisect_right(self.ats, at)
        count = _counted(self.counts, self.ats, at, since)
        total, squares = self.totals[high] - self.totals[low], self.squares[high] - self.squares[low]
        return deviation(count, total, squares) if count else None


class SteppedDecayedWindow(DecayedWindow):
    """Sums of values whose weight doubles with every half-life, and of the weights."""

    __slots__ = ()

    def add(self, at: float, value: float) -> None:
        """Add one finite value to its step."""
        super().add(at, value)
        _merge(self.ats, at, self.weights, self.totals)


class SteppedMaxWindow(MaxWindow):
    """The largest value of each step."""

    __slots__ = ()

    def add(self, at: float, value: float) -> None:
        """Add one finite value to its step, if it is the largest one there."""
        index = bisect_right(self.ats, at)
        is_known = index > 0 and self.ats[index - 1] == at
        if is_known and self.values[index - 1] >= value:
            return
        super().add(at, value)
        if is_known:
            del self.ats[index - 1], self.values[index - 1]


class SteppedMinWindow(MinWindow, SteppedMaxWindow):
    """The smallest value of each step."""

    __slots__ = ()


def _count(counts: array[int], ats: array[float], at: float) -> None:
    """Count the event of time `at` that was just added."""
    add_to_totals(counts, bisect_right(ats, at) - 1, 1)


def _merge(ats: array[float], at: float, *totals: Totals) -> None:
    """Merge the entry just added with an earlier entry of the same time."""
    index = bisect_right(ats, at) - 1
    if index and ats[index - 1] == at:
        del ats[index]
        for column in totals:
            del column[index]


def _counted(counts: array[int], ats: array[float], at: float, since: float) -> int:
    return counts[bisect_right(ats, at)] - counts[bisect_right(ats, since)]
