"""A declared rhythm: what comes is compared with the same phase of the seasons before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from driftline.online_models.drift.monitors.calendar_features import QUARTER
from driftline.online_models.drift.monitors.windows import MEAN, SQUARE, Array

VARIANCE_REVIEW = 16
"""Blocks between two looks at the variance within all phases."""


class Season:
    """Means of monitors at each quarter of an hour of a season, in event time.

    A column is judged once it has run for one season. From then on a block counts by its distance from what
    the phases of its values were so far, d = (mean - expected) * sqrt(V / max(v, V)), with v the variance
    within these phases and V within all: shares of evenings vary in the evening only, which the quiet hours
    before would not tell. v grows by 1 + 1/k, as what is expected is from k seasons. A column that begins
    again needs another season.
    """

    __slots__ = (
        "_blocks", "_common", "_compared", "_judged", "_period", "_since", "_squares", "_sums", "_weights",
    )  # fmt: skip

    def __init__(self, period: float) -> None:
        self._period = period
        self._blocks = 0
        phases = int(period // QUARTER)
        # of each phase: sums of values and of their squares, in blocks, and how many blocks they are
        self._sums, self._squares, self._weights = np.zeros((3, phases, 0))
        self._common = np.zeros(0)  # variance within phases
        self._since = np.zeros(0)  # time of the first block; nan until it comes
        self._compared = np.zeros(0, dtype=bool)
        self._judged = np.zeros(0, dtype=bool)

    def insert(self, positions: Sequence[int], *, judged: bool = False) -> None:
        """New columns before these positions. Those `judged` at once have no rhythm until a restart."""
        where = list(positions)
        for name in ("_sums", "_squares", "_weights", "_common"):
            setattr(self, name, np.insert(getattr(self, name), where, 0.0, axis=-1))
        self._since = np.insert(self._since, where, np.nan)
        self._compared = np.insert(self._compared, where, False)
        self._judged = np.insert(self._judged, where, judged)

    def restart(self, column: int) -> None:
        """Forget what a column was like."""
        for of_phases in (self._sums, self._squares, self._weights):
            of_phases[:, column] = 0.0
        self._since[column] = np.nan
        self._compared[column] = self._judged[column] = False

    def judges(self, column: int) -> bool:
        """Whether it is known what the column is like at each phase, or that it has none."""
        return bool(self._judged[column])

    def compare(self, block: Array, times: Sequence[float]) -> list[int]:
        """Put the distance from the season into a block (4 x columns, see `MEAN`) of values of these times;
        the columns that are compared from here on."""
        now = float(np.median(times))
        self._since[np.isnan(self._since)] = now
        seasons = (now - self._since) / self._period
        ripe = ~self._judged & (seasons >= 1.0)
        self._compared |= ripe
        self._judged |= ripe
        if ripe.any() or self._blocks % VARIANCE_REVIEW == 0:
            self._common = self._variance()
        self._blocks += 1
        at = np.array(times) % self._period // QUARTER
        phases, counts = np.unique(at.astype(int), return_counts=True)
        shares = (counts / len(times))[:, None]
        means, squares = block[MEAN].copy(), block[SQUARE].copy()
        if self._compared.any():
            expected, variance = self._expected(phases, shares)
            variance = variance * (1.0 + 1.0 / np.maximum(seasons, 1.0))
            common = self._common
            noise = np.divide(
                common, np.maximum(variance, common), out=np.ones_like(common), where=common > 0.0
            )
            distance = (means - expected) * np.sqrt(noise)
            block[MEAN] = np.where(self._compared, distance, means)
            block[SQUARE] = np.where(self._compared, distance * distance + common, squares)
        self._sums[phases] += shares * means
        self._squares[phases] += shares * squares
        self._weights[phases] += shares
        return [int(column) for column in np.nonzero(ripe)[0]]

    def _expected(self, phases: Array, shares: Array) -> tuple[Array, Array]:
        """Mean and variance of values of these phases, by column; of phases without values, of all."""
        weights = self._weights[phases]
        met = weights > 0.0
        weights = np.where(met, weights, 1.0)
        every = self._sums.sum(0) / np.maximum(self._weights.sum(0), 1.0)
        means = self._sums[phases] / weights
        variances = self._squares[phases] / weights - means * means
        return (
            (np.where(met, means, every) * shares).sum(0),
            (np.where(met, variances, self._common) * shares).sum(0),
        )

    def _variance(self) -> Array:
        """Of values within a phase, by column."""
        weights = np.where(self._weights > 0.0, self._weights, 1.0)
        inner = (self._squares - self._sums * self._sums / weights).sum(0)
        common: Array = np.maximum(inner, 0.0) / np.maximum(self._weights.sum(0), 1.0)
        return common
