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


BLOCK = 32
"""Values averaged before ADWIN sees them: it only checks every so many, neighbouring values of a
window are alike (which ADWIN's bound assumes they are not), and 32 times fewer updates are cheap."""


class Monitor:
    """ADWIN over the means of blocks of one stream (Bifet and Gavalda 2007, Learning from
    time-changing data with adaptive windowing). `delta` bounds a false alarm at each check.

    On a detection ADWIN keeps the window after the change; what it dropped is the level before.
    Counts are of values, in whole blocks.
    """

    __slots__ = ("_adwin", "_block", "_filled", "_first_offset", "_total", "_width", "subject")

    def __init__(self, subject: str, delta: float, offset: int) -> None:
        from river.drift import ADWIN

        self.subject = subject
        self._adwin: Any = ADWIN(delta=delta, clock=1)
        self._block = 0.0
        self._filled = 0
        self._width = 0
        self._total = 0.0
        self._first_offset = offset

    def update(self, value: float, at: float, offset: int) -> Drift | None:
        """Add one finite value; the change it reveals, if any."""
        self._block += value
        self._filled += 1
        if self._filled < BLOCK:
            return None
        mean = self._block / BLOCK
        self._block = 0.0
        self._filled = 0
        self._width += 1
        self._total += mean
        adwin = self._adwin
        adwin.update(mean)
        if not adwin.drift_detected:
            return None
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
            Level(before, dropped * BLOCK),
            Level(after, kept * BLOCK),
            at,
            first,
            offset,
        )


class FeatureMonitor:
    """Monitors of one numeric feature: its value, and its squared distance from its running mean."""

    __slots__ = ("_count", "_mean", "_spread", "_value")

    def __init__(self, name: str, delta: float, offset: int) -> None:
        self._value = Monitor(f"feature {name}: mean", delta, offset)
        self._spread = Monitor(f"feature {name}: spread", delta, offset)
        self._mean = 0.0
        self._count = 0

    def update(self, value: float, at: float, offset: int, found: list[Drift]) -> None:
        """Add one value; what it reveals is appended to `found`."""
        distance = value - self._mean if self._count else 0.0
        drift = self._value.update(value, at, offset)
        spread = self._spread.update(distance * distance, at, offset)
        if drift is not None:
            found.append(drift)
            self._mean, self._count = drift.after.mean, drift.after.count
        else:
            self._count += 1
            self._mean += (value - self._mean) / self._count
        if spread is not None:
            found.append(spread)
