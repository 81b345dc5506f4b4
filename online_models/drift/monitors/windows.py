"""Compares the means of windows with the usual variation of means of windows of that length."""

from __future__ import annotations

from collections.abc import Sequence
from math import log1p
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

BLOCK = 64
"""Events averaged before anything is tested: neighbours are alike, and fewer tests are cheaper."""
LEVELS = 7
"""Windows are of 1, 2, 4 .. 2**(LEVELS - 1) blocks."""
HISTORY_REVIEW = 4
"""Blocks between two looks at the history: its figures change slowly, and cost most."""
LEAST = 12.0
"""Windows of history, as many as independent ones would be, before a window is tested."""

Array = npt.NDArray[Any]

MEAN, SQUARE, TOTAL, WEIGHT = range(4)
"""Rows of a block: mean and mean square of the monitored values, sum and weight in the stream's unit."""


class Exceedance(NamedTuple):
    """A window whose mean is too far from those before it; `evidence` is about -ln of its chance.

    `before` and `after` are (total, weight) of the history without the window, and of the window.
    """

    column: int
    level: int
    evidence: float
    rises: bool
    before: tuple[float, float]
    after: tuple[float, float]


class Windows:
    """Change detectors, one a column, over blocks of `BLOCK` values within about [-1, 1].

    At every block the windows that end with it are tested: of 2**k blocks wherever they tile the stream,
    and halfway between. With d the distance of a window's mean from the mean of the windows of that length
    before it, s2 their variance (never less than independent values would have), v the values' own variance
    and m the windows of history, q = d**2 / (s2 * (1 + 1/m + 2 d / 3 v)). The last term is Bernstein's
    correction for bounded values (twice, since v is an estimate): sums of rare events have long tails. The
    evidence m/2 * ln(1 + q / (m-1)) is that of Student's t: how far a variance from few windows can be
    trusted. m counts as many as independent windows would be, n * (1-r) / (1+r) with r their correlation from
    one to the next: so a slow stream is judged by long windows only, once it has run for long enough.

    All work is a few array operations a block, whatever the number of columns.
    """

    __slots__ = (
        "_born", "_count", "_last", "_linear", "_mean", "_newborn", "_now", "_pending", "_product",
        "_square", "_squares", "_sum", "_totals", "_worth",
    )  # fmt: skip

    def __init__(self) -> None:
        self._now = 0
        self._born = np.zeros(0)
        self._newborn = 0  # the newest of them
        self._totals = np.zeros((4, 0))
        self._pending = np.zeros((0, 3, 0))  # the newest window of each level: half of the next
        empty = np.zeros((0, 0))
        # of the windows of each level: number, last mean, sums of means, squares, products of neighbours
        self._count, self._last, self._sum, self._squares, self._product = (empty,) * 5
        self._mean, self._worth, self._square, self._linear = (empty,) * 4  # what follows from them

    @property
    def columns(self) -> int:
        """How many streams are watched."""
        return len(self._born)

    @property
    def now(self) -> int:
        """Blocks so far."""
        return self._now

    @property
    def sums(self) -> Array:
        """Sums of the blocks so far (4 x columns), of a restarted column since then; not a copy."""
        return self._totals

    def insert(self, positions: Sequence[int]) -> None:
        """New columns before these positions, without history."""
        where = list(positions)
        self._born = np.insert(self._born, where, float(self._now))
        self._newborn = self._now
        for name in ("_totals", "_pending", *_HISTORY):
            setattr(self, name, np.insert(getattr(self, name), where, 0.0, axis=-1))
        self._square = np.insert(self._square, where, np.inf, axis=-1)

    def suppose(self, column: int, rate: float, like: int) -> None:
        """Give a new column the history of a rate that was that long what it is, as long as another's."""
        levels = len(self._count)
        windows = self._count[:levels, like]
        chance = rate * (1.0 - rate) / (BLOCK * _SIZES[:levels, 0])
        self._born[column] = self._born[like]
        self._count[:, column] = windows
        self._last[:, column] = rate
        self._sum[:, column] = windows * rate
        self._squares[:, column] = windows * (rate * rate + chance)
        self._product[:, column] = windows * rate * rate
        blocks = self._now - self._born[like]
        self._totals[:, column] = (blocks * rate, blocks * rate, blocks * BLOCK * rate, blocks * BLOCK)

    def restart(self, column: int) -> None:
        """Forget the history of a column: what comes from here on is what later windows are compared with."""
        self._born[column] = self._now
        self._newborn = self._now
        self._totals[:, column] = 0.0
        for name in _HISTORY:
            getattr(self, name)[:, column] = 0.0
        self._square[:, column] = np.inf

    def _grow(self) -> None:
        columns = self.columns
        self._pending = np.concatenate([self._pending, np.zeros((1, 3, columns))])
        for name in _HISTORY:
            setattr(self, name, np.concatenate([getattr(self, name), np.zeros((1, columns))]))
        self._square = np.concatenate([self._square, np.full((1, columns), np.inf)])

    def update(self, block: Array, least: float) -> list[Exceedance]:
        """Add a block (4 x columns, see `MEAN`); the exceedances with `least` evidence, one a column."""
        self._now += 1
        aligned = min(
            (self._now & -self._now).bit_length(), LEVELS
        )  # levels whose window tiles the stream here
        if aligned > len(self._mean):
            self._grow()
        windows = self._ending_here(block, aligned)
        levels = len(windows)
        means = windows[:, 0] * _SHARES[:levels]
        distance = np.abs(means - self._mean[:levels])
        self._totals += block
        bound = distance / (self._square[:levels] + self._linear[:levels] * distance)
        bound *= distance
        exceedances = (
            self._exceedances(bound, least, means, windows) if bound.size and bound.max() > least else []
        )
        self._remember(means[:aligned])
        if self._now % HISTORY_REVIEW == 0:
            self._review()
        return exceedances

    def newest(self, block: Array, column: int, evidence: float) -> Exceedance:
        """The block added last, as an exceedance of that evidence."""
        total, weight = block[TOTAL:, column].tolist()
        before = self._before(column, total, weight)
        rises = total * before[1] > before[0] * weight
        return Exceedance(column, 0, evidence, rises, before, (total, weight))

    def _before(self, column: int, total: float, weight: float) -> tuple[float, float]:
        """(total, weight) of the column's history without a window of so much."""
        all_total, all_weight = self._totals[TOTAL:, column].tolist()
        return all_total - total, all_weight - weight

    def _ending_here(self, block: Array, aligned: int) -> Array:
        """Sums of the windows that end with this block, by level (levels x 3 x columns)."""
        levels = min(aligned + 1, len(self._mean))
        windows = np.empty((levels, 3, block.shape[1]))
        windows[0, 0] = block[MEAN]
        windows[0, 1:] = block[TOTAL:]
        for level in range(1, levels):
            np.add(self._pending[level - 1], windows[level - 1], out=windows[level])
        self._pending[:aligned] = windows[:aligned]
        return windows

    def _exceedances(self, bound: Array, least: float, means: Array, windows: Array) -> list[Exceedance]:
        best: dict[int, Exceedance] = {}
        for level, column in zip(*(where.tolist() for where in np.nonzero(bound > least)), strict=True):
            worth = float(self._worth[level, column])
            evidence = worth / 2 * log1p(2 * float(bound[level, column]) / worth)
            if evidence < least or (column in best and best[column].evidence >= evidence):
                continue
            total, weight = windows[level, 1:, column].tolist()
            best[column] = Exceedance(
                column, level, evidence,
                bool(means[level, column] > self._mean[level, column]),
                self._before(column, total, weight),
                (total, weight),
            )  # fmt: skip
        return list(best.values())

    def _remember(self, means: Array) -> None:
        """Windows that tile the stream become history where none of their blocks is older than the column."""
        levels = len(means)
        if self._now - 2.0 ** (levels - 1) >= self._newborn:
            self._count[:levels] += 1.0
        else:
            inside = self._now - _SIZES[:levels] >= self._born
            self._count[:levels] += inside
            means = means * inside
        self._sum[:levels] += means
        self._squares[:levels] += means * means
        self._product[:levels] += self._last[:levels] * means
        self._last[:levels] = means

    def _review(self) -> None:
        """Summarise the history, with which the next windows are compared."""
        age = np.maximum(self._now - self._born, 1.0)
        average = self._totals[MEAN] / age
        own = np.maximum(self._totals[SQUARE] / age - average * average, 1.0 / (BLOCK * age + 2.0))
        n = np.maximum(self._count, 2.0)
        mean = self._sum / n
        scatter = np.maximum(self._squares - n * mean * mean, 0.0)
        variance = np.maximum(scatter / (n - 1.0), own / (BLOCK * _SIZES[: len(n)]))
        r = likeness(self._product, mean, scatter, n)
        worth = np.where(self._count < 2.0, 0.0, n * (1.0 - r) / (1.0 + r))
        enough = np.maximum(worth, LEAST)
        share = 2.0 * (enough - 1.0) / enough
        self._mean = mean
        self._worth = worth
        self._square = np.where(worth < LEAST, np.inf, variance * (1.0 + 1.0 / enough) * share)
        self._linear = variance / (1.5 * own) * share


def likeness(product: Array, mean: Array, scatter: Array, n: Array, doubt: float = 0.0) -> Array:
    """How like one window is to the next, in [0, .98]: the correlation of `n` windows, from the sum of the
    products of neighbours; with some `doubt`, in standard errors, whether it is not more."""
    r = (product - n * mean * mean) / (scatter + _TINY)
    r = r + (1.0 + 4.0 * r) / n + doubt * n**-0.5  # an estimate falls short
    clipped: Array = np.minimum(np.maximum(r, 0.0), _MOST_ALIKE)
    return clipped


_HISTORY = ("_count", "_last", "_sum", "_squares", "_product", "_mean", "_worth", "_linear")
_SIZES = 2.0 ** np.arange(LEVELS)[:, None]
_SHARES = 1.0 / _SIZES
_TINY = 1e-300
_MOST_ALIKE = 0.98
