"""Levels between which a stream goes back and forth."""

from __future__ import annotations

from dataclasses import dataclass

from driftline.online_models.drift.monitors.alarm import Alarm

ALARMS_TO_KNOW = 3
"""Alarms of one monitor after which a level within those seen is no news."""
LEVEL_MARGIN = 0.25
"""Share of their range by which a level may be beyond them: they are means of few values."""
FORGET = 1_600
"""Blocks without an exceedance after which they are forgotten: 102,400 values."""


@dataclass(slots=True)
class _Seen:
    low: float
    high: float
    alarms: int
    newest: int


class Regimes:
    """The levels that monitors have reported.

    After an alarm a monitor starts again, so a stream whose level changes for hours or days, such as the
    share of evenings among customers of several time zones, would alarm at every change. A level that was
    reported several times is not reported again. Missing values are reported each time.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, str], _Seen] = {}

    def add(self, alarm: Alarm) -> None:
        """Add an alarm that was reported."""
        if alarm.aspect not in ("mean", "spread", "frozen", "categories"):
            return
        key = alarm.stream, alarm.aspect, alarm.category
        low, high = sorted((alarm.before.mean, alarm.after.mean))
        seen = self._seen.get(key)
        if seen is None:
            self._seen[key] = _Seen(low, high, 1, 0)
        else:
            seen.low, seen.high, seen.alarms = min(seen.low, low), max(seen.high, high), seen.alarms + 1

    def knows(self, alarm: Alarm, now: int) -> bool:
        """Whether the alarm, at block `now`, is of a level that is known well enough."""
        seen = self._seen.get((alarm.stream, alarm.aspect, alarm.category))
        if seen is None:
            return False
        if seen.newest and now - seen.newest > FORGET:
            del self._seen[(alarm.stream, alarm.aspect, alarm.category)]
            return False
        seen.newest = now
        margin = LEVEL_MARGIN * (seen.high - seen.low)
        return seen.alarms >= ALARMS_TO_KNOW and seen.low - margin <= alarm.after.mean <= seen.high + margin
