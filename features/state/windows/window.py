"""Event-time windows over one key: exact aggregates in any order of arrival.

Sums are integers in units of 2**-128, so they are exact: they do not depend on the order of additions, have
no rounding errors, and an expired value leaves no trace. A window keeps the running totals of its values in
event-time order. A sum is the difference of two of them, found by bisection, so reads change nothing. Means,
sums and standard deviations are the correctly rounded results over the values in (since, at].

A window has no length of its own: each read states its start, so that features of several lengths share a
window. Values may be added in any order. Reads may be of any time, with two limits: they start at or after
the bound of the last `retain`, and end at or after its watermark. Most reads end after all values of their
window: testing for this costs half of a bisection.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from math import sqrt
from typing import Any, TypeAlias

Totals: TypeAlias = "array[int] | list[int]"
"""Running totals: an array of machine words while all are whole numbers that fit, else a list of integers."""
SCALE_BITS = 128
SCALE = 2.0**SCALE_BITS
SQUARE_BITS = 2 * SCALE_BITS
WEIGHT_BITS = 52
no_numbers = array("d").__copy__
one_zero = array("q", (0,)).__copy__
"""Make what new windows begin with: to copy an array takes a quarter of the time that making one does, and a
third of that of a slice."""


class CountWindow:
    """Counts events."""

    __slots__ = ("ats",)

    def __init__(self) -> None:
        self.ats = no_numbers()

    def add(self, at: float, value: float) -> None:
        """Count one event; its value does not matter."""
        ats = self.ats
        if not ats or at >= ats[-1]:
            ats.append(at)
        else:
            ats.insert(bisect_right(ats, at), at)

    def retain(self, bound: float, watermark: float) -> bool:
        """Drop the events at or before `bound`. Returns whether any is left."""
        del self.ats[: bisect_right(self.ats, bound)]
        return bool(self.ats)

    def count(self, at: float, since: float) -> int:
        """Number of events in (since, at]."""
        ats = self.ats
        high = len(ats) if ats and ats[-1] <= at else bisect_right(ats, at)
        return high - bisect_right(ats, since)

    def newest(self, at: float, since: float) -> float | None:
        """The time of the newest event in (since, at]; None when there is none."""
        ats = self.ats
        index = bisect_right(ats, at)
        return ats[index - 1] if index and ats[index - 1] > since else None

    def elapsed(self, at: float, since: float) -> float | None:
        """Seconds from the newest event in (since, at] to `at`; None when there is none."""
        newest = self.newest(at, since)
        return None if newest is None else at - newest


class SumWindow:
    """Sums of values. `totals[i]` is the sum of the values before the i-th, plus a constant, in units of
    2**-bits."""

    __slots__ = ("ats", "bits", "totals")

    def __init__(self) -> None:
        self.ats = no_numbers()
        self.bits = 0
        self.totals: Totals = one_zero()

    def add(self, at: float, value: float) -> None:
        """Add one finite value at its event time."""
        scaled = int(value * SCALE) if self.bits else int(value)
        if scaled != value and not self.bits:
            self.bits = SCALE_BITS
            self.totals = [total << SCALE_BITS for total in self.totals]
            scaled = int(value * SCALE)
        ats, totals = self.ats, self.totals
        try:
            if not ats or at >= ats[-1]:
                totals.append(totals[-1] + scaled)
                ats.append(at)
            else:
                index = bisect_right(ats, at)
                add_to_totals(totals, index, scaled)
                ats.insert(index, at)
        except OverflowError:  # raised by the totals before anything has changed
            self.totals = list(totals)
            SumWindow.add(self, at, value)  # not self.add: a subclass's own additions follow this call

    def retain(self, bound: float, watermark: float) -> bool:
        """Drop the values at or before `bound`. Returns whether any is left."""
        past = bisect_right(self.ats, bound)
        del self.ats[:past], self.totals[:past]
        return bool(self.ats)

    def mean(self, at: float, since: float) -> float | None:
        """Mean of the values in (since, at]; None when there is none."""
        ats = self.ats
        high = len(ats) if ats and ats[-1] <= at else bisect_right(ats, at)
        low = bisect_right(ats, since)
        if low == high:
            return None
        return (self.totals[high] - self.totals[low]) / (high - low << self.bits)

    def sum(self, at: float, since: float) -> float:
        """Sum of the values in (since, at]."""
        ats, totals = self.ats, self.totals
        high = len(ats) if ats and ats[-1] <= at else bisect_right(ats, at)
        return (totals[high] - totals[bisect_right(ats, since)]) / (1 << self.bits)


class SquareWindow:
    """Sums of values and of their squares, as in `SumWindow`."""

    __slots__ = ("ats", "squares", "totals")

    def __init__(self) -> None:
        self.ats = no_numbers()
        self.totals = [0]
        self.squares = [0]

    def add(self, at: float, value: float) -> None:
        """Add one finite value at its event time."""
        scaled = int(value * SCALE)
        index = _insert_time(self.ats, at)
        add_to_totals(self.totals, index, scaled)
        add_to_totals(self.squares, index, scaled * scaled)

    def retain(self, bound: float, watermark: float) -> bool:
        """Drop the values at or before `bound`. Returns whether any is left."""
        past = bisect_right(self.ats, bound)
        del self.ats[:past], self.totals[:past], self.squares[:past]
        return bool(self.ats)

    def std(self, at: float, since: float) -> float | None:
        """Population standard deviation of the values in (since, at]; None when there is none. The variance
        is exact before rounding."""
        low, high = bisect_right(self.ats, since), bisect_right(self.ats, at)
        if low == high:
            return None
        count = high - low
        total = self.totals[high] - self.totals[low]
        squares = self.squares[high] - self.squares[low]
        return deviation(count, total, squares)


class LatestWindow:
    """Values in order of time, of which one is read by its position, such as the newest."""

    __slots__ = ("ats", "values")

    def __init__(self) -> None:
        self.ats = no_numbers()
        self.values = no_numbers()

    def add(self, at: float, value: float) -> None:
        """Add one finite value at its event time."""
        ats = self.ats
        if not ats or at >= ats[-1]:
            ats.append(at)
            self.values.append(value + 0.0)  # as `_real`
        else:
            self.values.insert(_insert_time(ats, at), _real(value))

    def retain(self, bound: float, watermark: float) -> bool:
        """Drop the values at or before `bound`. Returns whether any is left."""
        past = bisect_right(self.ats, bound)
        del self.ats[:past], self.values[:past]
        return bool(self.ats)

    def latest(self, at: float, since: float) -> float | None:
        """The newest value in (since, at]; of equal times, the one that arrived later. None when there is
        none."""
        ats = self.ats
        if ats and (newest := ats[-1]) <= at:
            return self.values[-1] if newest > since else None
        index = bisect_right(ats, at)
        if not index or ats[index - 1] <= since:
            return None
        return self.values[index - 1]

    def first(self, at: float, since: float) -> float | None:
        """The oldest value in (since, at]; of equal times, the one that arrived earlier. None when there is
        none."""
        index = bisect_right(self.ats, since)
        return self.values[index] if index < len(self.ats) and self.ats[index] <= at else None

    def lag(self, at: float, since: float, n: int) -> float | None:
        """The n-th newest value in (since, at], counted from 1; of equal times, the later arrival is newer.
        None when there are fewer."""
        index = bisect_right(self.ats, at) - n
        return self.values[index] if index >= 0 and self.ats[index] > since else None


class DecayedWindow:
    """Weighted sums of values, and sums of the weights. A weight doubles with every half-life of time.

    A weight 2**(at / half_life) is a whole number of 53 bits, shifted by the half-lives since the oldest
    value kept. Weights are rounded once, depending on `at` alone, and their sums are exact. The mean is the
    correctly rounded quotient of two such sums, so their common unit cancels. As in the other windows, it
    does not depend on the order of arrival, nor on when expired values are dropped.
    """

    __slots__ = ("ats", "base", "half_life", "totals", "weights")

    def __init__(self, half_life: float) -> None:
        self.half_life = half_life
        self.ats = no_numbers()
        self.base = 0
        self.weights = [0]
        self.totals = [0]

    def add(self, at: float, value: float) -> None:
        """Add one finite value at its event time."""
        halvings, rest = divmod(at, self.half_life)
        age = int(halvings)
        if not self.ats:
            self.base = age
        elif age < self.base:
            self._lower(age)
        weight = int(2.0 ** (WEIGHT_BITS + rest / self.half_life)) << (age - self.base)
        index = _insert_time(self.ats, at)
        add_to_totals(self.weights, index, weight)
        add_to_totals(self.totals, index, weight * int(value * SCALE))

    def retain(self, bound: float, watermark: float) -> bool:
        """Drop the values at or before `bound`. Returns whether any is left."""
        past = bisect_right(self.ats, bound)
        if past:
            del self.ats[:past], self.weights[:past], self.totals[:past]
            self._raise()
        return bool(self.ats)

    def mean(self, at: float, since: float) -> float | None:
        """Weighted mean of the values in (since, at]; None when there is none."""
        low, high = bisect_right(self.ats, since), bisect_right(self.ats, at)
        if low == high:
            return None
        total = self.totals[high] - self.totals[low]
        return total / ((self.weights[high] - self.weights[low]) << SCALE_BITS)

    def _lower(self, age: int) -> None:
        """Make weights relative to the half-life of a new value that is older than all others."""
        shift = self.base - age
        self.base = age
        self.weights = [weight << shift for weight in self.weights]
        self.totals = [total << shift for total in self.totals]

    def _raise(self) -> None:
        """Make weights relative to the oldest value that is left, so that the integers stay short."""
        if not self.ats:
            self.weights, self.totals = [0], [0]
            return
        age = int(self.ats[0] // self.half_life)
        shift, self.base = age - self.base, age
        first_weight, first_total = self.weights[0], self.totals[0]
        self.weights = [(weight - first_weight) >> shift for weight in self.weights]
        self.totals = [(total - first_total) >> shift for total in self.totals]


class DistinctWindow:
    """Counts distinct values, up to `most`.

    An occurrence behind the watermark is kept while a read may need it: until the same value occurs again, or
    `most` other values occur, behind the watermark. So a window keeps at most `most` occurrences behind the
    watermark, and all newer ones.
    """

    __slots__ = ("ats", "most", "values")

    def __init__(self, most: int) -> None:
        self.most = most
        self.ats = no_numbers()
        self.values: list[Any] = []

    def add(self, at: float, value: Any) -> None:
        """Add one value at its event time."""
        self.values.insert(_insert_time(self.ats, at), value)

    def retain(self, bound: float, watermark: float) -> bool:
        """Drop the occurrences that no read at or after the watermark needs. Returns whether any is left."""
        settled = bisect_right(self.ats, watermark)
        kept: list[int] = []
        later: set[Any] = set()
        for index in range(settled - 1, bisect_right(self.ats, bound) - 1, -1):
            if len(later) == self.most:
                break
            if self.values[index] not in later:
                later.add(self.values[index])
                kept.append(index)
        kept.reverse()
        self.ats[:settled] = array("d", (self.ats[index] for index in kept))
        self.values[:settled] = [self.values[index] for index in kept]
        return bool(self.ats)

    def distinct(self, at: float, since: float) -> int:
        """Number of distinct values in (since, at], at most `most`."""
        low, high = bisect_right(self.ats, since), bisect_right(self.ats, at)
        return min(len(set(self.values[low:high])), self.most)


class MaxWindow:
    """The largest of the values.

    `peaks` holds the values that are greater than all later ones, in event-time order, so they descend. The
    largest value after a time is the first peak after it. A value enters and leaves `peaks` once. Only a read
    before the time of the newest value searches the window itself.
    """

    __slots__ = ("ats", "peak_ats", "peaks", "values")

    def __init__(self) -> None:
        self.ats = no_numbers()
        self.values = no_numbers()
        self.peak_ats = no_numbers()
        self.peaks = no_numbers()

    def add(self, at: float, value: float) -> None:
        """Add one finite value at its event time."""
        real = _real(value)
        self.values.insert(_insert_time(self.ats, at), real)
        index = bisect_right(self.peak_ats, at)
        if index < len(self.peaks) and self.peaks[index] >= real:
            return
        first = index
        while first and self.peaks[first - 1] <= real:
            first -= 1
        self.peak_ats[first:index] = array("d", (at,))
        self.peaks[first:index] = array("d", (real,))

    def retain(self, bound: float, watermark: float) -> bool:
        """Drop the values at or before `bound`. Returns whether any is left."""
        past = bisect_right(self.ats, bound)
        del self.ats[:past], self.values[:past]
        past = bisect_right(self.peak_ats, bound)
        del self.peak_ats[:past], self.peaks[:past]
        return bool(self.ats)

    def max(self, at: float, since: float) -> float | None:
        """Largest of the values in (since, at]; None when there is none."""
        ats = self.ats
        if ats and ats[-1] > at:
            return max(
                self.values[bisect_right(ats, since) : bisect_right(ats, at)],
                default=None,
            )
        index = bisect_right(self.peak_ats, since)
        return self.peaks[index] if index < len(self.peaks) else None


class MinWindow(MaxWindow):
    """The smallest of the values, as the largest of the negated ones."""

    __slots__ = ()

    def add(self, at: float, value: float) -> None:
        """Add one finite value at its event time."""
        super().add(at, -value)

    def min(self, at: float, since: float) -> float | None:
        """Smallest of the values in (since, at]; None when there is none."""
        largest = self.max(at, since)
        return None if largest is None else _real(-largest)


EventWindow = (
    CountWindow
    | SumWindow
    | SquareWindow
    | LatestWindow
    | DecayedWindow
    | DistinctWindow
    | MaxWindow
    | MinWindow
)


def deviation(count: int, total: int, squares: int) -> float:
    """Population standard deviation of `count` values, from the sum of them and the sum of their squares,
    both as integers in the units of `SquareWindow`."""
    return sqrt((count * squares - total * total) / ((count * count) << SQUARE_BITS))


def _insert_time(ats: array[float], at: float) -> int:
    """Insert a time after those that are not later; returns its index."""
    if not ats or at >= ats[-1]:
        ats.append(at)
        return len(ats) - 1
    index = bisect_right(ats, at)
    ats.insert(index, at)
    return index


def add_to_totals(totals: Totals, index: int, scaled: int) -> None:
    """Insert a value at `index`: all totals after it grow by `scaled`. Raises OverflowError, with nothing
    changed, when a total does not fit the array."""
    grown = [total + scaled for total in totals[index:]]
    if isinstance(totals, list):
        totals[index + 1 :] = grown
    else:
        totals[index + 1 :] = array("q", grown)


def _real(value: float) -> float:
    """The value as a float, with 0.0 in place of -0.0, which would be written differently."""
    return value + 0.0
