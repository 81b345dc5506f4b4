"""Label delays: labels of one class that come later than before, and labels that are missing."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from math import exp, log
from typing import Any

import numpy as np

from driftline.online_models.drift.drift_report import Side
from driftline.online_models.drift.monitors.alarm import Alarm
from driftline.online_models.drift.monitors.panel import Panel
from driftline.online_models.drift.monitors.windows import BLOCK

INSTANT = 1e-3
"""Seconds: a label that comes sooner has come at once."""
AT_ONCE = log(INSTANT)
MEMORY = 1.0 / 32.0
"""Weight of a label in the level that others are compared with."""
LABELS = "labels"
DELAY_OF = "delay of "
SETTLED = 8.0
"""Mean delays after the start, from which on labels with long delays have come too."""
NEWEST = (4, 8, 16, 32, 64)
"""Blocks of requests in which labels may be missing."""
COHORTS = 1_024
"""Blocks of requests whose labels are counted."""
DELAYS_SAMPLED = 512
"""Delays from which the expected number of labels is computed."""
ODDS = 4.0
"""Standard deviations that make a shortfall."""


class ClassDelays:
    """How long labels of each class take, against those of the commonest class.

    When all labels come later that is the labels' way; when those of one class do, a model that learns them
    as they come sees too few of it. Logarithms are compared, so delays that change alike for all change
    nothing. Blocks are of `BLOCK` labels of one class.
    """

    __slots__ = ("_began", "_commonest", "_counts", "_level", "_most", "_panels", "_seen", "_values")

    def __init__(self, most: int) -> None:
        self._most = most
        self._began: float | None = None  # when the first label was asked for
        self._seen: dict[Any, tuple[int, float]] = {}  # labels and sum of delays, of classes that settle yet
        self._commonest: Any = None  # of the first `DELAYS_SAMPLED` labels
        self._counts: Counter[Any] = Counter()
        self._level = 0.0  # of its newest labels
        self._values: dict[Any, list[float]] = {}
        self._panels: dict[Any, Panel] = {}

    @property
    def monitors(self) -> int:
        """How many there are."""
        return sum(panel.monitors for panel in self._panels.values())

    def update(self, labels: Sequence[Any], delays: Sequence[float], at: float, least: float) -> list[Alarm]:
        """Take labels that came up to `at`, and their delays; the alarms of `least` evidence or more."""
        logs = [log(delay) if delay > INSTANT else AT_ONCE for delay in delays]
        if self._began is None:
            self._began, self._level = at - max(delays), logs[0]
        if self._commonest is None:
            self._counts.update(labels)
            if self._counts.total() < DELAYS_SAMPLED:
                return []
            self._commonest, _ = max(self._counts.items(), key=lambda item: (item[1], str(item[0])))
        commonest = self._commonest
        common = [value for label, value in zip(labels, logs, strict=True) if label == commonest]
        if common:
            new = 1.0 - (1.0 - MEMORY) ** len(common)
            self._level += new * (sum(common) / len(common) - self._level)
        alarms: list[Alarm] = []
        for label, value, delay in zip(labels, logs, delays, strict=True):
            if label != commonest and (
                label in self._values or self._settles(label, delay, at - self._began)
            ):
                alarms += self._add(label, value - self._level, least)
        return alarms

    def _add(self, label: Any, value: float, least: float) -> list[Alarm]:
        values = self._values[label]
        values.append(value)
        if len(values) < BLOCK:
            return []
        self._values[label] = []
        return [
            _as_ratios(alarm) for alarm in self._panel(label).update({f"{DELAY_OF}{label}": values}, least)
        ]

    def _settles(self, label: Any, delay: float, elapsed: float) -> bool:
        """Whether labels of this class are watched from here on: at first only quick ones can be there."""
        if label not in self._seen and len(self._seen) == self._most:
            return False
        count, total = self._seen.get(label, (0, 0.0))
        self._seen[label] = count + 1, total + delay
        if count < BLOCK or elapsed < SETTLED * (total / count):
            return False
        self._values[label] = []
        return True

    def restart(self, alarm: Alarm) -> None:
        """Compare later delays with those from here on."""
        for label, panel in self._panels.items():
            if alarm.stream == f"{DELAY_OF}{label}":
                panel.restart(alarm)

    def _panel(self, label: Any) -> Panel:
        return self._panels.setdefault(label, Panel(False, 0, frozenset()))


def _as_ratios(alarm: Alarm) -> Alarm:
    """Levels as how many times as long as the commonest class's labels take, not as logarithms."""
    before, after = (Side(exp(side.mean), side.count) for side in (alarm.before, alarm.after))
    return alarm._replace(before=before, after=after)


class Backlog:
    """How many labels of the newest requests are there, and how many should be by their age.

    A class whose labels are late looks, among the labels that came, like one that is rarer. But its requests
    have no label then, while where a class is rarer others have taken its place.
    """

    __slots__ = ("_asked_at", "_delays", "_first", "_found", "_recent")

    def __init__(self) -> None:
        self._first: list[
            int
        ] = []  # of each block of requests: its first offset, its time, its labels so far
        self._asked_at: list[float] = []
        self._found: list[int] = []
        self._recent: list[float] = []
        self._delays: list[list[float]] = []  # samples, sorted; the older one is from before a recent change

    def asked(self, first_offset: int, at: float) -> None:
        """A block of requests: its first offset, and its time in the middle."""
        self._first.append(first_offset)
        self._asked_at.append(at)
        self._found.append(0)
        for values in (self._first, self._asked_at, self._found):
            del values[:-COHORTS]

    def answered(self, offsets: Sequence[int], delays: Sequence[float]) -> None:
        """Labels of requests at these offsets."""
        for offset in offsets:
            block = bisect_right(self._first, offset) - 1
            if block >= 0:
                self._found[block] += 1
        self._recent.extend(delays)
        if len(self._recent) >= DELAYS_SAMPLED:
            self._delays = [*self._delays[-1:], sorted(self._recent)]
            self._recent = []

    def shortfall(self, now: float) -> Alarm | None:
        """An alarm where labels of the newest requests are missing by now."""
        asked = len(self._asked_at)
        if len(self._delays) < 2:
            return None
        usual = np.array(self._delays[0])
        ages = now - np.array(self._asked_at)
        arrived = np.array(self._found, dtype=float)
        complete = ages > 2.0 * usual[-1]
        complete[-NEWEST[0] :] = False
        if complete.sum() < NEWEST[0]:
            return None
        share = min(float(arrived[complete].mean()) / BLOCK, 1.0)
        due = np.searchsorted(usual, ages) / len(usual) * share
        chance = BLOCK * due * (1.0 - due) + BLOCK * due / DELAYS_SAMPLED
        best: Alarm | None = None
        for newest in NEWEST:
            if 2 * newest > asked:
                break
            expected, there = BLOCK * float(due[-newest:].sum()), float(arrived[-newest:].sum())
            variance = float(chance[-newest:].sum()) + 1.0
            odds = (expected - there) ** 2 / (2.0 * variance)
            if there < expected and odds > max(ODDS**2 / 2.0, best.evidence if best is not None else 0.0):
                requests = newest * BLOCK
                before, after = Side(expected / requests, requests), Side(there / requests, requests)
                best = Alarm(LABELS, "delay", "", odds, before, after, newest, None, -1)
        return best
