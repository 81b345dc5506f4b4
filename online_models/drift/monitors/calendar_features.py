"""Calendar features: their values follow from the time alone, so their changes are no drift.

A weekday is one value for a day and another the next; by its values alone that is a change each midnight. But
all requests of one moment have the same value, and it changes at full quarters of an hour, as local time does
everywhere. Such a stream is compared with itself a week ago: at the same phase it has the same value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from driftline.online_models.drift.monitors.windows import Array

QUARTER = 900
"""Seconds: clocks of all zones show full hours at full quarters."""
NEAR = 60
"""Seconds by which a value may change before or after the quarter begins."""
AN_HOUR = 4
"""Quarters."""
QUARTERS_OF_WEEK = 7 * 86_400 // QUARTER
SURE = 4
"""Changes in a row that equal those of a week ago: from then on, a value that differs from the one a week ago
is a break."""
HELD = 32
"""Neighbours within a quarter, all of equal value, from which on a stream keeps to quarters for all that is
known; and as many times as it changed at quarters: where requests are rare, every stream would."""
HELD_PER_CHANGE = 4
OFTEN = 1.5
"""Changes a day of what no week foretold in `LONG` that are not the calendar's: the weather of each hour."""
A_DAY = 86_400
FLICKER = 4
"""Changes around one quarter: clocks differ, so that old and new values come in turn."""
YOUNG = 2 * 86_400
"""Seconds that a number which moves with the clock may go where it never was: a day starts again."""
LONG = 8 * 86_400
"""Seconds. What was constant for longer, and changes for the first time, is no weekday."""
SMOOTH = 0.99
"""Share of a block's variance that a parabola in time explains where a number moves with the clock."""
ROUGH_BLOCKS = 4
"""Blocks of which as many may not be smooth, and an eighth of all: a clock starts again at midnight."""


class Departure(NamedTuple):
    """A stream that left the calendar: the share of `count` values that were as foretold, before and in the
    newest block."""

    stream: str
    before: tuple[float, int]
    after: tuple[float, int]


class _Follower:
    """A stream that has not changed but at quarters so far."""

    __slots__ = (
        "changes", "expected", "flicker", "foretold", "held", "hour", "known", "last", "off_since", "quarter",
        "since", "sure", "time", "turn", "week", "well_known",
    )  # fmt: skip

    def __init__(self) -> None:
        self.last: Any = None
        self.time = 0.0
        self.since: float | None = None  # when the first value came
        self.quarter = -1
        self.week: dict[int, Any] = {}  # the value at each quarter of a week, when it came last
        self.hour: list[tuple[int, Any]] = []  # quarters and their values, of the hour before this quarter
        self.expected: Any = None
        self.changes = 0  # quarters around which it changed
        self.held = 0  # values that could have changed between quarters, and did not
        self.foretold = 0  # changes in a row that the week before had too
        self.sure = False  # they were enough
        self.off_since: int | None = None  # the quarter from which on no value was as a week ago
        self.known = 0  # values that were as a week ago
        self.turn = 0  # the quarter of the last change
        self.flicker = 0  # changes around it
        self.well_known = False  # it was constant for long before its first change

    @property
    def follows(self) -> bool:
        """Whether its changes are the calendar's, as far as is known."""
        return self.held >= HELD and self.held >= HELD_PER_CHANGE * self.changes and not self._broke_off

    @property
    def _broke_off(self) -> bool:
        return self.well_known and self.changes == 1

    @property
    def is_off(self) -> bool:
        """Whether it is not what it was a week ago for longer than an hour: so long, a week after summer time
        began, the hour that was left out is compared with another."""
        return self.sure and self.off_since is not None and self.quarter - self.off_since > AN_HOUR

    def update(self, times: Sequence[float], values: Sequence[Any]) -> tuple[bool, int, int]:
        """Fold a block: whether it changed between quarters; values that could be compared; that differ."""
        compared = differ = 0
        for time, value in zip(times, values, strict=True):
            if value is None or value != value:
                continue
            quarter = int(time // QUARTER)
            if quarter != self.quarter:
                self._enter(quarter)
            if self.since is None:
                self.since = time
            elif value != self.last:
                if self._is_between(time) or not self._changed(value, time):
                    return True, compared, differ
            else:
                self.held += self._is_between(time)
            self.last, self.time = value, time
            if self.expected is not None and NEAR <= time - quarter * QUARTER <= QUARTER - NEAR:
                compared += 1
                if value == self.expected or self._is_shifted(quarter, value):
                    self.off_since = None
                else:
                    differ += 1
                    self.off_since = quarter if self.off_since is None else self.off_since
        self.known += compared - differ
        return False, compared, differ

    def _enter(self, quarter: int) -> None:
        if self.quarter >= 0:
            self.hour.append((self.quarter % QUARTERS_OF_WEEK, self.last))
            if len(self.hour) > AN_HOUR:  # until then, what was an hour earlier a week ago can be asked
                phase, value = self.hour.pop(0)
                self.week[phase] = value
        self.quarter = quarter
        self.expected = self.week.get(quarter % QUARTERS_OF_WEEK)

    def _is_between(self, time: float) -> bool:
        """Whether no quarter begins from the value before to this one, nor near them."""
        first, last = (self.time, time) if self.time <= time else (time, self.time)
        return (first - NEAR) // QUARTER == (last + NEAR) // QUARTER

    def _changed(self, value: Any, time: float) -> bool:
        """Take a change at a quarter; whether there were not too many around it."""
        turn = round(time / QUARTER)
        assert self.since is not None
        self.well_known |= self.changes == 0 and time - self.since > LONG
        is_new = turn != self.turn
        self.flicker = 1 if is_new else self.flicker + 1
        self.turn = turn
        self.changes += is_new
        foretold = self._was_foretold(value)
        if foretold is not None:
            self.foretold = self.foretold + 1 if foretold else 0
            self.sure |= self.foretold >= SURE
        age = time - self.since
        return self.flicker <= FLICKER and (self.sure or age < LONG or self.changes <= OFTEN * age / A_DAY)

    def _was_foretold(self, value: Any) -> bool | None:
        """Whether a week ago (in the first week: a day ago) it changed at this quarter to this value too."""
        for ago in (0, 24 * AN_HOUR):
            phase = self.quarter - ago
            then = self.week.get(phase % QUARTERS_OF_WEEK)
            if then is not None:
                earlier = (self.week.get((phase - back) % QUARTERS_OF_WEEK) for back in range(1, AN_HOUR + 1))
                before = next((known for known in earlier if known is not None), then)
                return bool(value == then != before)
        return None

    def _is_shifted(self, quarter: int, value: Any) -> bool:
        """Whether it is the value of an hour earlier or later: summer time begins and ends."""
        return any(
            self.week.get((quarter + shift) % QUARTERS_OF_WEEK) == value for shift in (-AN_HOUR, AN_HOUR)
        )


class Calendar:
    """Detects which streams of one panel are calendar features, and when they no longer are."""

    __slots__ = ("_began", "_followers", "_met", "_now", "_smooth")

    def __init__(self) -> None:
        self._met: set[str] = set()
        self._followers: dict[str, _Follower] = {}
        self._smooth: dict[str, tuple[int, int]] = {}  # blocks that were smooth, and that were not
        self._began: float | None = None
        self._now = 0.0

    def explains(self, stream: str, aspect: str, is_leap: bool) -> bool:
        """Whether a change of the stream in this aspect follows from the time, as far as is known.

        One value from quarter to quarter is not frozen, but of what moves with the clock it is; that leaps at
        its start only.
        """
        if aspect == "missing":
            return False
        follower = self._followers.get(stream)
        if follower is not None:
            return follower.follows
        is_young = self._began is not None and self._now < self._began + YOUNG
        return stream in self._smooth and aspect != "frozen" and (is_young or not is_leap)

    def update(self, times: Sequence[float], columns: Mapping[str, Sequence[Any]]) -> list[Departure]:
        """Fold a block of every stream; those that left the calendar with it."""
        self._now = times[-1]
        self._began = times[0] if self._began is None else self._began
        for stream in columns:
            if stream not in self._met:
                self._met.add(stream)
                self._followers[stream] = _Follower()
        departures = []
        for stream, follower in list(self._followers.items()):
            known = follower.known
            between, compared, differ = follower.update(times, columns[stream])
            if not between and not follower.is_off:
                continue
            if follower.sure:
                share = 1.0 - differ / compared if compared else 0.0
                departures.append(Departure(stream, (1.0, known), (share, max(compared, 1))))
                self._followers[stream] = _Follower()
                continue
            del self._followers[stream]
            if _are_numbers(columns[stream]):
                self._smooth[stream] = (0, 0)
        if self._smooth:
            self._follow_smoothly(times, columns)
        return departures

    def _follow_smoothly(self, times: Sequence[float], columns: Mapping[str, Sequence[Any]]) -> None:
        names = list(self._smooth)
        values = np.array([columns[name] for name in names], dtype=float)
        for name, share in zip(names, _explained(np.array(times), values).tolist(), strict=True):
            smooth, rough = self._smooth[name]
            smooth, rough = (smooth + 1, rough) if share >= SMOOTH else (smooth, rough + 1)
            if rough > (ROUGH_BLOCKS + smooth) // 8 + (smooth >= ROUGH_BLOCKS):
                del self._smooth[name]
            else:
                self._smooth[name] = (smooth, rough)


def _explained(times: Array, values: Array) -> Array:
    """The share of each row's variance that a parabola in time explains; nan where there is none."""
    span = times.max() - times.min()
    t = (times - times.min()) / (span if span > 0.0 else 1.0) - 0.5
    basis, _ = np.linalg.qr(np.stack([np.ones_like(t), t, t * t], axis=1))
    centered = values - values.mean(axis=1, keepdims=True)
    rest = centered - (centered @ basis) @ basis.T
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: Array = 1.0 - (rest * rest).sum(1) / (centered * centered).sum(1)
    return shares


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
