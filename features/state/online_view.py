"""The online rows of one view: the newest row of each key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from driftline.features.declare.declaration import View
from driftline.features.declare.keys import texts_of
from driftline.features.declare.ranges import Ranges
from driftline.features.state.event_time import MICROSECOND, NEVER
from driftline.features.state.windows.window import EventWindow
from driftline.features.state.windows.window_table import WindowTable

StampedRow = tuple[float, dict[str, Any]]
RowKey = tuple[str, tuple[str, ...]]


class WindowReading(NamedTuple):
    """How one windowed feature is read: for which key, from which windows, by which function and over how
    many seconds."""

    name: str
    place: int
    window_of: Callable[[Any], EventWindow | None]
    read: Callable[[Any, float, float], Any]
    over: float
    missing: float | None


@dataclass(slots=True)
class ViewState:
    """`stamps`: the stamp of each key's newest row. `touched`: the time of the next row of each key that had
    an event since rows were last put."""

    stamps: dict[Any, float] = field(default_factory=dict)
    touched: dict[Any, float] = field(default_factory=dict)


class OnlineView:
    """The online rows of one view. A row is computed when it is asked for, not at each event: only the last
    of a key's events since then decides.

    A row is as of its stamp, so a late event counts in it beside the newer ones. Only if the last event is
    far behind the newest one, which then must be wrong about the time, the row is as of the last event.
    """

    def __init__(self, view: View, readings: list[WindowReading], tables: Sequence[WindowTable] = ()) -> None:
        self.name = view.name
        self._readings = readings
        self._tables = tables
        self._ranges = Ranges({name: window.note for name, window in view.features.items()})
        self._behind = view.lateness + view.ttl
        self.state = ViewState()

    def touch(self, key: Any, at: float) -> None:
        """Note that the key had an event at `at` (seconds)."""
        # rows of equal times differ by a microsecond, so that the newer row always wins
        stamps = self.state.stamps
        newest = stamps.get(key, NEVER)
        stamps[key] = stamp = max(at, newest + MICROSECOND)
        self.state.touched[key] = stamp if newest - at <= self._behind else at

    def put_rows(self, rows: dict[RowKey, StampedRow]) -> None:
        """Add the rows of the touched keys to `rows`."""
        stamps, touched = self.state.stamps, self.state.touched
        for key, at in touched.items():
            rows[self.name, texts_of(key)] = (stamps[key], self.values(key, at))
        touched.clear()

    def every_row(self, watermark: float) -> Iterator[tuple[RowKey, StampedRow]]:
        """The row of each key that has a value which an event at the watermark (seconds) can see: with the
        values of the row that such an event would put, and the stamp of the key's newest event, so that the
        next one's row wins. What `retain` has dropped by now, of which key, changes nothing.
        """
        newest: dict[Any, float] = {}
        for table in self._tables:
            bound = watermark - table.over
            for key, window in table.windows():
                if (at := window.ats[-1]) > bound:
                    newest[key] = max(at, newest.get(key, NEVER))
        for key, at in newest.items():
            stamp = self.state.stamps.get(key, NEVER)
            if not _is_kept(stamp, watermark):
                stamp = at
            yield (self.name, texts_of(key)), (stamp, self.values(key, self._as_of(at, watermark)))

    def _as_of(self, newest: float, watermark: float) -> float:
        """The time of the row that an event at the watermark would put, of a key with this newest event."""
        is_believed = newest - watermark <= self._behind or watermark == NEVER
        return max(newest, watermark) if is_believed else watermark

    def values(self, key: Any, at: float) -> dict[str, Any]:
        """The features of a key as of `at`; missing ones are absent."""
        values = {}
        for name, _, window_of, read, over, missing in self._readings:
            window = window_of(key)
            value = missing if window is None else read(window, at, at - over)
            if value is not None:
                values[name] = value
        if self._ranges:
            self._ranges.silently(values)
        return values

    def retain(self, watermark: float) -> None:
        """Drop the stamps that no event at or after the watermark can equal."""
        state = self.state
        state.stamps = {
            key: stamp
            for key, stamp in state.stamps.items()
            if _is_kept(stamp, watermark) or key in state.touched
        }


def _is_kept(stamp: float, watermark: float) -> bool:
    """Whether the next row of a key, of an event at or after the watermark, could get this stamp too."""
    return stamp + MICROSECOND > watermark
