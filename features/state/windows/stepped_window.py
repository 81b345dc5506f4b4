"""Windows whose times are rounded down to steps: a key keeps the totals of each step instead of its events.

They are given rounded times, for what is added and for what is read. Values of one step are one entry: of
running totals the boundaries between events of the same time go, and of values the largest is left. What is
read is what the other windows would say of the same rounded times.
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
)


class SteppedCountWindow(CountWindow):
    """How many events there were. `counts[i]` is the number of all before the i-th step."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        super().__init__()
        self.counts = array("q", (0,))

    def add(self, at: float, value: float) -> None:
        """Count one event."""
        super().add(at, value)
        _count(self.counts, self.ats, at)
        _merge(self.ats, at, self.counts)

    def retain(self, bound: float, watermark: float) -> bool:
        """Forget for good the steps at or before `bound`; True while any is left."""
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
        self.counts = array("q", (0,))

    def add(self, at: float, value: float) -> None:
        """Add one finite value to its step."""
        super().add(at, value)
        _count(self.counts, self.ats, at)
        _merge(self.ats, at, self.counts, self.totals)

    def retain(self, bound: float, watermark: float) -> bool:
        """Forget for good the steps at or before `bound`; True while any is left."""
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
        self.counts = array("q", (0,))

    def add(self, at: float, value: float) -> None:
        """Add one finite value to its step."""
        super().add(at, value)
        _count(self.counts, self.ats, at)
        _merge(self.ats, at, self.counts, self.totals, self.squares)

    def retain(self, bound: float, watermark: float) -> bool:
        """Forget for good the steps at or before `bound`; True while any is left."""
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
        """Put one finite value in its step, where it is the largest."""
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
    """Count the event that was put last among those of its time."""
    add_to_totals(counts, bisect_right(ats, at) - 1, 1)


def _merge(ats: array[float], at: float, *totals: Totals) -> None:
    """Make one entry of what was put last and what its time had before."""
    index = bisect_right(ats, at) - 1
    if index and ats[index - 1] == at:
        del ats[index]
        for column in totals:
            del column[index]


def _counted(counts: array[int], ats: array[float], at: float, since: float) -> int:
    return counts[bisect_right(ats, at)] - counts[bisect_right(ats, since)]
