"""How the events of one type feed windows: keys and values are read once, then added to the tables."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from driftline.features.declare.declaration import Window
from driftline.features.declare.keys import is_doubtful
from driftline.features.state.feature_value import check_keys, number_of, value_of
from driftline.features.state.online_view import OnlineView
from driftline.features.state.window_table import BoundedTable, WindowTable

COUNTED = -1
"""Place among an event's values of what it counts."""


class _Key:
    """One key that windows of one event type go by, and what an event does with it."""

    __slots__ = ("additions", "bounded", "composite", "read", "views")

    def __init__(self, by: tuple[str, ...]) -> None:
        self.read: Callable[[Any], Any] = attrgetter(*by)
        self.composite = len(by) > 1
        self.additions: list[tuple[WindowTable, int]] = []
        self.bounded: list[tuple[BoundedTable, int]] = []
        self.views: list[OnlineView] = []


class WindowFeed:
    """How one event type feeds windows: keys and values are read once, then added to the tables."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, ...], _Key] = {}
        self._is_doubtful = False  # whether a key may be none, for all that its type says
        self._places: dict[Any, int] = {}
        self._read: list[tuple[str, Any, Callable[[str, Any, Any], Any] | None]] = []

    def _key(self, by: tuple[str, ...]) -> _Key:
        return self._keys.setdefault(by, _Key(by))

    def feed(self, table: WindowTable, feature: Window) -> None:
        """From now on, the events' values go to the table."""
        value = feature.value
        # what is counted may be text, what is added up may not
        identity = (value, feature.aggregate == "distinct")
        place = COUNTED if value is None else self._places.get(identity)
        if place is None:
            place = self._places[identity] = len(self._read)
            name = f"{feature.aggregate} of {feature.event.__name__}"
            checked = None if isinstance(value, str) else value_of if identity[1] else number_of
            self._read.append((name, attrgetter(value) if isinstance(value, str) else value, checked))
        key = self._key(feature.by)
        self._is_doubtful |= any(is_doubtful(feature.event, name) for name in feature.by)
        if isinstance(table, BoundedTable):
            key.bounded.append((table, place))
        else:
            key.additions.append((table, place))

    def show(self, view: OnlineView, by: tuple[str, ...]) -> None:
        """From now on, the events touch the view's rows."""
        self._key(by).views.append(view)

    def take(self, event: Any, at: float) -> None:
        """Add an event's values; raises FeatureValueError, with nothing changed, when user code fails or a
        key is none."""
        values = [
            read(event) if checked is None else checked(name, read, event)
            for name, read, checked in self._read
        ]
        values.append(1.0)  # what an event counts
        if self._is_doubtful:
            check_keys(self._keys, [way.read(event) for way in self._keys.values()])
        for way in self._keys.values():
            key = way.read(event)
            if key is None or (way.composite and None in key):
                continue
            for table, place in way.additions:
                value = values[place]
                if value is not None:
                    table[key].add(at, value)
            for bounded, place in way.bounded:
                value = values[place]
                if value is not None and (evicted := bounded.put(key, at, value)) is not None:
                    for view in way.views:
                        view.touch(evicted, at)
            for view in way.views:
                view.touch(key, at)
