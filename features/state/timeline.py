"""The feature history of a partition: for each key of each view, a row at every change.

A row is valid until the next row of its key. So a point-in-time join ("the newest row not after t") gives
what the fold would have read at t. A row changes with an event of its key, and when a value leaves a window:
at `at + over` there is no event in the log, and still the mean changes.

All rows and requests of a partition share one sequence of stamps: each stamp is max(own time, previous stamp
+ 1 microsecond). So a request's stamp separates what precedes it in the log from what follows, in every view,
however many events have the same time. A stamp is never before the request's own time, with one exception: a
request that is ahead of the partition's time (see `driftline.streams.fold.watermark`) is stamped with the
partition's time.

A join skips a row that is older than its view's ttl. So a row is also added when the partition reaches the
time of an event that was ahead, even if no value changes: a value in a window is then never newer than the
key's newest row.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple

from driftline.features.declare.declaration import View, Window
from driftline.features.declare.keys import texts_of
from driftline.features.state.event_time import MICROSECONDS, NEVER, Time
from driftline.features.state.feature_state import FeatureParts, FeatureState
from driftline.features.state.online_view import RowKey, StampedRow
from driftline.features.state.reference_tally import Tally
from driftline.features.state.windows.paged_table import PagedTables
from driftline.object_size import StateSize


class TimelineRow(NamedTuple):
    """The features of one key of a view, valid from `stamp` (microseconds since the epoch) on. Missing ones
    are absent from `values`."""

    view: str
    keys: tuple[str, ...]
    stamp: int
    values: dict[str, Any]


class TimelineRequest(NamedTuple):
    """A request in the timeline: it read the rows with stamps up to `stamp`. `x` are its features, `at` is
    its own time in microseconds."""

    request: Any
    stamp: int
    at: int
    x: dict[str, Any]


class _ViewLine:
    """The rows of one view: how they are read, and the last row of each key with its stamp."""

    def __init__(self, view: View, values: Callable[[Any, float], dict[str, Any]]) -> None:
        self.name = view.name
        self.key_of = attrgetter(*view.keys)
        self._composite = len(view.keys) > 1
        self.values = values
        self.names = tuple(view.features)
        unseen = {name: window.empty for name, window in view.features.items()}
        self.unseen = {name: value for name, value in unseen.items() if value is not None}
        self._lasts = round(view.ttl * MICROSECONDS)
        self._last: dict[Any, tuple[int, dict[str, Any]]] = {}

    def key(self, event: Any) -> Any:
        """The key; None when a part of it is missing."""
        key = self.key_of(event)
        return None if self._composite and None in key else key

    def found(self, key: Any, stamp: int) -> dict[str, Any]:
        """The values that a join finds at `stamp`. No row has a later stamp."""
        put, values = self._last.get(key, (stamp, self.unseen))
        return values if stamp - put <= self._lasts else self.unseen

    def note(self, key: Any, stamp: int, values: dict[str, Any]) -> None:
        """Store the key's newest row. A key whose row equals that of an unknown key is dropped."""
        if values == self.unseen:
            self._last.pop(key, None)
        else:
            self._last[key] = stamp, values


class Timeline:
    """A partition's feature state that also collects its rows and requests, in `rows` and `requests`.

    The fold uses it in place of a `FeatureState`. The caller of the fold takes the rows and requests out
    between steps."""

    def __init__(self, features: FeatureState, views: Sequence[View]) -> None:
        self._features = features
        self._lines = [_ViewLine(view, features.reader(view)) for view in views]
        self._stored = [
            (line, features.reader(replace(view, features=stored)))
            for line, view in zip(self._lines, views, strict=True)
            if (stored := {name: w for name, w in view.features.items() if name not in features.order})
        ]
        self._feeds: dict[type, list[tuple[_ViewLine, tuple[Window, ...]]]] = {}
        for line, view in zip(self._lines, views, strict=True):
            for event in dict.fromkeys(window.event for window in view.features.values()):
                fed = [window for window in view.features.values() if window.event is event]
                edges = {(window.over, window.resolution): window for window in fed}
                self._feeds.setdefault(event, []).append((line, tuple(edges.values())))
        self._expiries: list[tuple[int, int, bool, _ViewLine, Any]] = []
        self._pushed = 0
        self._clock = round(NEVER * MICROSECONDS)
        self._stamp = 0
        self._asked: dict[str, Any] | None = None
        self._entered: tuple[Any, float] | None = None
        self._seen: dict[str, Any] = {}
        self.rows: list[TimelineRow] = []
        self.requests: list[TimelineRequest] = []

    def take(self) -> tuple[list[TimelineRow], list[TimelineRequest]]:
        """The rows and requests since the last call."""
        rows, self.rows = self.rows, []
        requests, self.requests = self.requests, []
        return rows, requests

    def names(self) -> tuple[str, ...]:
        """As `FeatureState.names`."""
        return self._features.names()

    def read(self, request: Any, at: float) -> dict[str, Any]:
        """As `FeatureState.read`. The request is added to the timeline by `come_to`."""
        self._asked = None
        return self._noted(request, at, self._features.read(request, at))

    def gather(self, request: Any, at: float) -> dict[str, Any]:
        """As `FeatureState.gather`: like `read`, in a stage that does not apply the ranges itself."""
        self._asked = None
        return self._noted(request, at, self._features.gather(request, at))

    def _noted(self, request: Any, at: float, x: dict[str, Any]) -> dict[str, Any]:
        self._asked = self._features.within_ranges(x)
        # the rows also have the values that are stored and that no model sees
        self._seen = dict(self._asked)
        for line, read in self._stored:
            if (key := line.key(request)) is not None:
                self._seen.update(read(key, at))
        return x

    def update(self, event: Any, at: float) -> None:
        """As `FeatureState.update`. The event is added to the timeline by `come_to`."""
        self._features.update(event, at)
        self._entered = (event, at)

    def come_to(self, time: Time) -> None:
        """The partition's time is now `time`, after the event that was given to `update`. It may go back,
        when a likely time was contradicted."""
        assert self._entered is not None, "time comes with an event"
        (event, at), self._entered = self._entered, None
        x, self._asked = self._asked, None
        now = round(time.likely * MICROSECONDS)
        self._advance(now)
        self._clock = now
        behind = self._put_request(event, round(at * MICROSECONDS), x) if x is not None else {}
        self._put_event(event, at, behind)

    def put_rows(self, rows: dict[RowKey, StampedRow]) -> None:
        """Add nothing: a timeline writes no online rows."""

    def every_row(self, watermark: float) -> Iterator[tuple[RowKey, StampedRow]]:
        """As `FeatureState.every_row`."""
        return self._features.every_row(watermark)

    def problems(self) -> list[str]:
        """As `FeatureState.problems`."""
        return self._features.problems()

    def evicted(self) -> int:
        """As `FeatureState.evicted`."""
        return self._features.evicted()

    def keys_held(self) -> dict[str, int]:
        """As `FeatureState.keys_held`."""
        return self._features.keys_held()

    def segments(self) -> list[str]:
        """As `FeatureState.segments`."""
        return self._features.segments()

    def packed_sizes(self) -> dict[str, float]:
        """As `FeatureState.packed_sizes`."""
        return self._features.packed_sizes()

    @property
    def paged(self) -> PagedTables:
        """As `FeatureState.paged`."""
        return self._features.paged

    def sizes(self) -> dict[str, StateSize]:
        """As `FeatureState.sizes`."""
        return self._features.sizes()

    def tallies(self) -> Mapping[tuple[type, str], Tally]:
        """As `FeatureState.tallies`."""
        return self._features.tallies()

    def retain(self, watermark: float) -> None:
        """As `FeatureState.retain`."""
        # rows at expiries are read before the windows drop their values
        self._advance(round(watermark * MICROSECONDS))
        self._features.retain(watermark)

    def state(self) -> FeatureParts:
        """As `FeatureState.state`."""
        return self._features.state()

    def restore(self, state: FeatureParts) -> None:
        """As `FeatureState.restore`."""
        self._features.restore(state)

    def _next_stamp(self, moment: int) -> int:
        self._stamp = max(moment, self._stamp + 1)
        return self._stamp

    def _advance(self, moment: int) -> None:
        """Move the time to `moment`, and add the rows of values that expired until then, each at its time."""
        expiries = self._expiries
        while expiries and expiries[0][0] <= moment:
            due = expiries[0][0]
            keys: dict[tuple[_ViewLine, Any], bool] = {}
            while expiries and expiries[0][0] == due:
                _, _, enters, line, key = heapq.heappop(expiries)
                keys[line, key] = enters or keys.get((line, key), False)
            if due > self._clock:  # else rows were put since, without the expired value
                self._clock = due
                self._put_due(keys)
        self._clock = max(moment, self._clock)

    def _put_due(self, keys: dict[tuple[_ViewLine, Any], bool]) -> None:
        """Add the changed rows of keys with an expired value, and the rows of keys with a value that enters a
        window now."""
        stamp = None
        for (line, key), enters in keys.items():
            values = line.values(key, self._clock / MICROSECONDS)
            if enters or values != line.found(key, self._clock):
                if stamp is None:
                    stamp = self._next_stamp(self._clock)
                self._put(line, key, stamp, values)

    def _put_request(self, request: Any, moment: int, x: dict[str, Any]) -> dict[tuple[_ViewLine, Any], None]:
        """Add the request, and a row for each key where it read other values than a join finds: the request's
        time differs from the partition's, or ties moved its stamp past the ttl of the newest row. Returns
        those keys: each needs its ordinary row again at once."""
        stamp = self._next_stamp(min(moment, self._clock))
        self.requests.append(TimelineRequest(request, stamp, moment, x))
        behind: dict[tuple[_ViewLine, Any], None] = {}
        for line in self._lines:
            key = line.key(request)
            read = {name: self._seen[name] for name in line.names if name in self._seen}
            if key is not None and read != line.found(key, stamp):
                self._put(line, key, stamp, read)
                behind[line, key] = None
        return behind

    def _put_event(self, event: Any, at: float, behind: dict[tuple[_ViewLine, Any], None]) -> None:
        """Add the rows that the event changed, and the ordinary rows of the keys in `behind`."""
        changed = behind
        for line, windows in self._feeds.get(type(event), ()):
            key = line.key(event)
            if key is None:
                continue
            changed[line, key] = None
            # an event ahead of the partition's time changes rows when that time is reached
            for due, enters in _changes(at, windows).items():
                if due > self._clock:
                    # the counter keeps the heap from comparing keys
                    self._pushed += 1
                    heapq.heappush(self._expiries, (due, self._pushed, enters, line, key))
        if changed:
            stamp = self._next_stamp(self._clock)
            for line, key in changed:
                self._put(line, key, stamp, line.values(key, self._clock / MICROSECONDS))

    def _put(self, line: _ViewLine, key: Any, stamp: int, values: dict[str, Any]) -> None:
        self.rows.append(TimelineRow(line.name, texts_of(key), stamp, values))
        line.note(key, stamp, values)


def _changes(at: float, windows: Sequence[Window]) -> dict[int, bool]:
    """The times in microseconds at which an event of time `at` changes a window's value, each with whether
    the event enters a window then."""
    changes = {}
    for window in windows:
        step = window.step(at)
        changes[round(step * MICROSECONDS)] = True
        changes.setdefault(expiry(step, window.over), False)
    return changes


def expiry(at: float, over: float) -> int:
    """The first microsecond t at which (t - over, t] no longer contains `at`, with the rounding of
    windows."""
    due = round((at + over) * MICROSECONDS)
    while due / MICROSECONDS - over >= at:
        due -= 1
    while due / MICROSECONDS - over < at:
        due += 1
    return due
