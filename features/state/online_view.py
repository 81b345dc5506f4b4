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
    """One windowed feature as it is read: of which key, from which windows, how and over how many seconds."""

    name: str
    place: int
    window_of: Callable[[Any], EventWindow | None]
    read: Callable[[Any, float, float], Any]
    over: float
    missing: float | None


@dataclass(slots=True)
class ViewState:
    """The stamp of each key's newest row, and of keys touched since rows were put the time as of which their
    next row is."""

    stamps: dict[Any, float] = field(default_factory=dict)
    touched: dict[Any, float] = field(default_factory=dict)


class OnlineView:
    """The online rows of one view. A row is computed when it is asked for: of the many events of a
    key in between, the last one decides.

    A row is as of its stamp: a late event enters it beside those that are newer. It is as of the last event
    itself where that is so far behind that the newest one has to be ahead of all time.
    """

    def __init__(self, view: View, readings: list[WindowReading], tables: Sequence[WindowTable] = ()) -> None:
        self.name = view.name
        self._readings = readings
        self._tables = tables
        self._ranges = Ranges({name: window.note for name, window in view.features.items()})
        self._behind = view.lateness + view.ttl
        self.state = ViewState()

    def touch(self, key: Any, at: float) -> None:
        """An event of the key came."""
        # equal times are told apart by a microsecond, so that the newer row always wins
        stamps = self.state.stamps
        newest = stamps.get(key, NEVER)
        stamps[key] = stamp = max(at, newest + MICROSECOND)
        self.state.touched[key] = stamp if newest - at <= self._behind else at

    def put_rows(self, rows: dict[RowKey, StampedRow]) -> None:
        """Put the rows of the keys touched."""
        stamps, touched = self.state.stamps, self.state.touched
        for key, at in touched.items():
            rows[self.name, texts_of(key)] = (stamps[key], self.values(key, at))
        touched.clear()

    def every_row(self) -> Iterator[tuple[RowKey, StampedRow]]:
        """The row of each key that has something in a window."""
        newest: dict[Any, float] = {}
        for table in self._tables:
            for key, window in table.items():
                newest[key] = max(window.ats[-1], newest.get(key, NEVER))
        for key, at in newest.items():
            yield (self.name, texts_of(key)), (self.state.stamps.get(key, at), self.values(key, at))

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
        """Forget the stamps that no event at or after the watermark can equal."""
        state = self.state
        state.stamps = {
            key: stamp
            for key, stamp in state.stamps.items()
            if stamp + MICROSECOND > watermark or key in state.touched
        }
