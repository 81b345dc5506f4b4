"""Monitors that tell when the mean of a stream of numbers has changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Level:
    """A mean over `count` values."""

    mean: float
    count: int


@dataclass(frozen=True, slots=True)
class Drift:
    """A change: the level before and after, and where in the log (offsets) the stream ran."""

    subject: str
    detector: str
    severity: Literal["warning", "drift", "recovered"]
    before: Level
    after: Level
    at: float
    first_offset: int
    offset: int


BLOCK = 16
"""Feature values averaged before ADWIN sees them: neighbouring values of a window are alike, which
ADWIN's bound assumes they are not, and fewer updates are cheaper."""
EVIDENCE = 256
"""Values after a change before it is told: fewer are a spell, not a level."""
WARM_UP = 200
"""Values of a feature from which its scale is taken, once: ADWIN's bound is for values of about 1."""
HUGE = 1e50
"""Values beyond it are not watched: their squares, and the squares of those, would not be finite."""


class Monitor:
    """ADWIN over one stream (Bifet and Gavalda 2007, Learning from time-changing data with adaptive
    windowing). `delta` bounds a false alarm at each check; values are divided by `scale` and averaged
    over `block` before ADWIN sees them.

    ADWIN drops the oldest part of its window at each check that finds a change, until what is left is
    alike. One change is told when that has settled: what was dropped is the level before, what is
    kept the level after. Levels are in the stream's own unit, counts are of values.
    """

    __slots__ = (
        "_adwin", "_block", "_clock", "_filled", "_first_offset", "_quiet", "_scale", "_size", "_total",
        "_width", "subject",
    )  # fmt: skip

    def __init__(
        self, subject: str, delta: float, offset: int, *, block: int = 1, scale: float = 1.0
    ) -> None:
        from river.drift import ADWIN

        self.subject = subject
        self._clock = max(1, 32 // block)
        self._adwin: Any = ADWIN(delta=delta, clock=self._clock)
        self._quiet = -1  # updates since the last detection; -1 when there is none to tell
        self._size = block
        self._scale = scale
        self._block = 0.0
        self._filled = 0
        self._width = 0
        self._total = 0.0
        self._first_offset = offset

    def update(self, value: float, at: float, offset: int) -> Drift | None:
        """Add one value; the change it reveals, if any. What is not finite or beyond `HUGE` is left out."""
        if not -HUGE < value < HUGE:
            return None
        self._block += value
        self._filled += 1
        if self._filled < self._size:
            return None
        total = self._block
        self._block = 0.0
        self._filled = 0
        return self.update_block(total, at, offset)

    def update_block(self, total: float, at: float, offset: int) -> Drift | None:
        """Add a block of values by their sum, which must be finite; the change it reveals, if any."""
        mean = total / (self._size * self._scale)
        self._width += 1
        self._total += mean
        adwin = self._adwin
        adwin.update(mean)
        if adwin.drift_detected:
            self._quiet = 0
            return None
        if self._quiet < 0:
            return None
        self._quiet += 1
        if self._quiet < self._clock or adwin.width * self._size < EVIDENCE:
            return None
        return self._settled(at, offset)

    def _settled(self, at: float, offset: int) -> Drift | None:
        self._quiet = -1
        adwin = self._adwin
        kept = int(adwin.width)
        after = float(adwin.estimation)
        dropped = self._width - kept
        if dropped <= 0:
            return None
        before = (self._total - after * kept) / dropped
        first = self._first_offset
        self._width, self._total, self._first_offset = kept, after * kept, offset
        better = self.subject == "loss" and after < before
        return Drift(
            self.subject,
            "adwin",
            "recovered" if better else "drift",
            Level(before * self._scale, dropped * self._size),
            Level(after * self._scale, kept * self._size),
            at,
            first,
            offset,
        )


def _unit(variance: float) -> float:
    """The scale of values with this variance; 1 where there is none, or too little to divide by."""
    scale: float = variance**0.5
    return scale if scale > 1.0 / HUGE else 1.0


class ScaledMonitor:
    """Monitor of a stream without a natural unit (a squared error): its scale is taken once, in the
    warm-up, whose values the monitor does not see."""

    __slots__ = ("_count", "_delta", "_mean", "_monitor", "_squares", "subject")

    def __init__(self, subject: str, delta: float) -> None:
        self.subject = subject
        self._delta = delta
        self._monitor: Monitor | None = None
        self._mean = 0.0
        self._squares = 0.0
        self._count = 0

    def update(self, value: float, at: float, offset: int) -> Drift | None:
        """Add one value; the change it reveals, if any. What is not finite or beyond `HUGE` is left out."""
        if self._monitor is not None:
            return self._monitor.update(value, at, offset)
        if not -HUGE < value < HUGE:
            return None
        distance = value - self._mean
        self._count += 1
        self._mean += distance / self._count
        self._squares += distance * (value - self._mean)
        if self._count == WARM_UP:
            self._monitor = Monitor(self.subject, self._delta, offset, scale=_unit(self._squares / WARM_UP))
        return None


class FeatureMonitor:
    """Monitors of one numeric feature: its value, and its squared distance from its running mean.

    Blocks are summed here: a request has a dozen features, and most values end no block.
    """

    __slots__ = (
        "_block", "_block_squares", "_count", "_delta", "_filled", "_mean", "_name", "_spread", "_squares",
        "_value",
    )  # fmt: skip

    def __init__(self, name: str, delta: float) -> None:
        self._name = name
        self._delta = delta
        self._value: Monitor | None = None
        self._spread: Monitor | None = None
        self._mean = 0.0
        self._squares = 0.0
        self._count = 0
        self._block = 0.0
        self._block_squares = 0.0
        self._filled = 0

    def _warm_up(self, distance: float, value: float, offset: int) -> None:
        self._squares += distance * (value - self._mean)
        if self._count == WARM_UP:
            scale = _unit(self._squares / WARM_UP)
            name, delta = self._name, self._delta
            self._value = Monitor(f"feature {name}: mean", delta, offset, block=BLOCK, scale=scale)
            self._spread = Monitor(f"feature {name}: spread", delta, offset, block=BLOCK, scale=scale * scale)

    def update(self, value: float, at: float, offset: int, found: list[Drift]) -> None:
        """Add one value; what it reveals is appended to `found`. NaN and what is `HUGE` is left out."""
        if not -HUGE < value < HUGE:
            return
        distance = value - self._mean
        self._count += 1
        self._mean += distance / self._count
        if self._value is None or self._spread is None:
            self._warm_up(distance, value, offset)
            return
        self._block += value
        self._block_squares += distance * distance
        self._filled += 1
        if self._filled < BLOCK:
            return
        drift = self._value.update_block(self._block, at, offset)
        spread = self._spread.update_block(self._block_squares, at, offset)
        self._block = self._block_squares = 0.0
        self._filled = 0
        if drift is not None:
            found.append(drift)
            self._mean, self._count = drift.after.mean, drift.after.count
        if spread is not None:
            found.append(spread)
