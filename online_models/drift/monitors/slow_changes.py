"""Small and gradual changes: long windows are compared with everything before them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from driftline.online_models.drift.monitors.windows import (
    BLOCK,
    LEAST,
    MEAN,
    SQUARE,
    TOTAL,
    WEIGHT,
    Array,
    Exceedance,
    likeness,
)  # fmt: skip

DOUBT = 0.4
"""Standard errors by which strides may be more alike than they seem: there are few of them."""
STRIDE = 16
"""Blocks that are averaged before anything is tested."""
PATIENT = 40.0
"""Strides of history for what may follow the hour or the weekday: 41,000 values."""
WINDOW_STRIDES = (4, 8, 16, 32)
"""Strides of a window: of 4,096 to 32,768 values."""


class SlowWindows:
    """Change detectors, one a column, beside those of `Windows`, for windows of up to half a history.

    `Windows` compares with windows of one length, whose history holds the change itself: of a change that
    takes as long as the history it learns that the stream varies. Here a window is compared with the
    strides before it alone. With d the distance of the means, s2 the variance of a stride and r its
    correlation from one to the next, both of the n strides before, and w the strides of the window,
    q = d**2 / (s2 * (1+r) / (1-r) * (1/w + 1/n) * (1 + 2 d / 3 v)); the rest is as in `Windows`.

    It is for rates, labels and losses, which have a level. A number may follow a trend for good.
    """

    __slots__ = ("_age", "_before", "_last", "_least", "_product", "_recent", "_squares", "_sum", "_totals")

    def __init__(self) -> None:
        self._before = np.zeros((4, 0))  # sums of blocks at the end of the newest stride
        self._age = np.zeros(0)  # whole strides; -1 until the next one begins
        self._least = np.zeros(0)  # strides of history before a window is tested
        self._totals = np.zeros((4, 0))
        self._sum, self._squares, self._product, self._last = (np.zeros(0),) * 4
        self._recent = np.zeros((0, 3, 0))  # mean, total and weight of the newest strides

    @property
    def columns(self) -> int:
        """How many streams are watched."""
        return len(self._age)

    def insert(self, position: int, patience: Sequence[float]) -> None:
        """New columns before this position, without history; each needs one of so many strides."""
        where = [position] * len(patience)
        for name in ("_before", "_totals", "_sum", "_squares", "_product", "_last", "_recent"):
            setattr(self, name, np.insert(getattr(self, name), where, 0.0, axis=-1))
        self._age = np.insert(self._age, where, -1.0)
        self._least = np.insert(self._least, where, patience)

    def restart(self, column: int) -> None:
        """Forget the history of a column."""
        self._age[column] = -1.0
        self._totals[:, column] = 0.0
        for sums in (self._sum, self._squares, self._product, self._last):
            sums[column] = 0.0

    def update(self, sums: Array, least: float) -> list[Exceedance]:
        """End a stride, where `sums` are of all blocks so far (4 x columns, see `MEAN`), those of restarted
        columns since then; the exceedances with `least` evidence, one a column."""
        self._remember(sums - self._before)
        self._before = sums
        return self._tested(least)

    def _remember(self, stride: Array) -> None:
        self._age += 1.0
        whole = self._age > 0.0
        mean = stride[MEAN] * (1.0 / STRIDE) * whole
        self._totals += stride * whole
        self._sum += mean
        self._squares += mean * mean
        self._product += self._last * mean
        self._last = mean
        newest = np.stack([mean, stride[TOTAL], stride[WEIGHT]])[None]
        self._recent = np.concatenate([self._recent[-WINDOW_STRIDES[-1] :], newest])

    def _tested(self, least: float) -> list[Exceedance]:
        best: dict[int, Exceedance] = {}
        recent = self._recent[:, MEAN]
        age = np.maximum(self._age, 1.0)
        average = self._totals[MEAN] / (age * STRIDE)
        own = self._totals[SQUARE] / (age * STRIDE) - average * average
        own = np.maximum(own, 1.0 / (BLOCK * STRIDE * age + 2.0))
        for size in WINDOW_STRIDES:
            n = self._age - size
            if not self.columns or n.max() < LEAST:
                break
            window = recent[-size:]
            n = np.maximum(n, 2.0)
            total = window.sum(0)
            mean = (self._sum - total) / n
            scatter = np.maximum(self._squares - (window * window).sum(0) - n * mean * mean, 0.0)
            # products are of neighbours: of those that the window has, the first is with a stride before it
            inside = (window * np.concatenate([recent[-size - 1 : -size], window[:-1]])).sum(0)
            r = likeness(self._product - inside, mean, scatter, n, DOUBT)
            inflation = (1.0 + r) / (1.0 - r)
            worth = np.where(self._age - size < self._least, 0.0, n / inflation)
            enough = np.maximum(worth, LEAST)
            variance = np.maximum(scatter / (n - 1.0), own / (BLOCK * STRIDE))
            distance = np.abs(total / size - mean)
            spread = variance * inflation * (1.0 / size + 1.0 / n) * (1.0 + distance / (1.5 * own))
            evidence = enough / 2.0 * np.log1p(distance * distance / (spread * (enough - 1.0)))
            for column in np.nonzero((evidence > least) & (worth >= LEAST))[0].tolist():
                measured = float(evidence[column])
                if column in best and best[column].evidence >= measured:
                    continue
                inner = self._recent[-size:, 1:, column].sum(0).tolist()
                every = self._totals[TOTAL:, column].tolist()
                best[column] = Exceedance(
                    column, (size * STRIDE).bit_length() - 1, measured,
                    bool(total[column] / size > mean[column]),
                    (every[0] - inner[0], every[1] - inner[1]), (inner[0], inner[1]),
                )  # fmt: skip
        return list(best.values())
