"""Event-time windows over one key: exact aggregates whatever the order of arrival.

Numbers are kept as integers in units of 2**-128, so sums are exact: they do not depend on the
order of additions, never drift, and an expired value leaves no trace. Means, sums and standard
deviations are the correctly rounded results over the values in (t - over, t].
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from math import sqrt

SCALE_BITS = 128
SCALE = 2.0**SCALE_BITS
SQUARE_BITS = 2 * SCALE_BITS


class EventWindow:
    """The values of one key in event-time order.

    The sums cover the values in (cursor - over, newest]; they move forward with the reads.
    A read behind the cursor, or behind a value from its future, is answered by a scan.
    `squares` says whether sums of squares are kept too (for the standard deviation).
    """

    __slots__ = ("ats", "cursor", "first", "newest", "over", "squares", "total", "total_squares", "values")

    def __init__(self, over: float, squares: bool) -> None:
        self.over = over
        self.squares = squares
        self.ats: deque[float] = deque()
        self.values: deque[int] = deque()
        self.first = 0  # index of the first value that the sums cover
        self.newest = float("-inf")
        self.cursor = float("-inf")  # values at or before it have left the sums
        self.total = 0
        self.total_squares = 0

    def add(self, at: float, value: float) -> None:
        """Put one finite value at its event time."""
        scaled = int(value * SCALE)
        if at >= self.newest:
            self.newest = at
            self.ats.append(at)
            self.values.append(scaled)
        else:
            index = bisect_right(self.ats, at)
            self.ats.insert(index, at)
            self.values.insert(index, scaled)
        if at > self.cursor:
            self.total += scaled
            if self.squares:
                self.total_squares += scaled * scaled
        else:
            self.first += 1

    def retain(self, bound: float) -> bool:
        """Forget for good the values at or before `bound`; True while any is left."""
        ats = self.ats
        while ats and ats[0] <= bound:
            ats.popleft()
            scaled = self.values.popleft()
            if self.first:
                self.first -= 1
            else:
                self.total -= scaled
                if self.squares:
                    self.total_squares -= scaled * scaled
        if bound > self.cursor:
            self.cursor = bound
        return bool(ats)

    def sums(self, at: float) -> tuple[int, int, int]:
        """(count, sum, sum of squares) of the values in (at - over, at], in scaled units."""
        low = at - self.over
        if at < self.newest or low < self.cursor:
            return self._scan(low, at)
        ats = self.ats
        first = self.first
        size = len(ats)
        while first < size and ats[first] <= low:
            scaled = self.values[first]
            self.total -= scaled
            if self.squares:
                self.total_squares -= scaled * scaled
            first += 1
        self.first = first
        self.cursor = low
        return size - first, self.total, self.total_squares

    def _scan(self, low: float, at: float) -> tuple[int, int, int]:
        count = total = squares = 0
        for time, scaled in zip(self.ats, self.values, strict=True):
            if low < time <= at:
                count += 1
                total += scaled
                if self.squares:
                    squares += scaled * scaled
        return count, total, squares

    def extremes(self, at: float) -> tuple[float, float] | None:
        """(smallest, largest) of the values in (at - over, at]; None when there is none."""
        low = at - self.over
        inside = [v for t, v in zip(self.ats, self.values, strict=True) if low < t <= at]
        if not inside:
            return None
        return min(inside) / SCALE, max(inside) / SCALE

    def latest(self, at: float) -> float | None:
        """The newest value at or before `at` within the window; ties go to the later arrival."""
        index = len(self.ats) if at >= self.newest else bisect_right(self.ats, at)
        if not index or self.ats[index - 1] <= at - self.over:
            return None
        return self.values[index - 1] / SCALE


def mean_of(count: int, total: int) -> float:
    """The mean of a scaled sum, correctly rounded."""
    return total / (count << SCALE_BITS)


def std_of(count: int, total: int, squares: int) -> float:
    """The population standard deviation of scaled sums; the variance is exact before rounding."""
    return sqrt((count * squares - total * total) / ((count * count) << SQUARE_BITS))
