"""How events of one type update windows: keys and values are read once and added to each table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from driftline.features.declare.declaration import Window
from driftline.features.declare.keys import is_doubtful
from driftline.features.state.feature_value import check_keys, checked, number
from driftline.features.state.generated_function import INDENT, GeneratedFunction, attribute, attributes
from driftline.features.state.online_view import OnlineView
from driftline.features.state.request_row import write_result
from driftline.features.state.windows.window_table import BoundedTable, WindowTable

COUNTED = -1
"""The place of a window that only counts events: it needs no value."""
Take = Callable[[Any, float], None]
"""Adds an event's values at its time in seconds. Raises FeatureValueError, with nothing changed, when user
code fails or a value cannot be a key."""


class _Key:
    """The tables and views that an event updates under one key."""

    __slots__ = ("additions", "bounded", "views")

    def __init__(self) -> None:
        self.additions: list[tuple[WindowTable, int, str]] = []
        self.bounded: list[tuple[BoundedTable, int, str]] = []
        self.views: list[OnlineView] = []


class WindowFeed:
    """The tables and views that events of one type update, and the generated function that does it."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, ...], _Key] = {}
        self._is_doubtful = False  # whether the types of fields allow a value that cannot be a key
        self._places: dict[Any, int] = {}
        self._steps: dict[float, str] = {}
        self._read: list[tuple[str, str | Callable[[Any], Any], Callable[[str, Any], Any]]] = []

    def _key(self, by: tuple[str, ...]) -> _Key:
        return self._keys.setdefault(by, _Key())

    def _time(self, resolution: float | None) -> str:
        """The generated function's variable for an event's time at a resolution."""
        if resolution is None:
            return "at"
        return self._steps.setdefault(resolution, f"step{len(self._steps)}")

    def feed(self, table: WindowTable, feature: Window) -> None:
        """Add the events' values to the table."""
        value = feature.value
        # values that are counted may be text, values that are summed may not
        identity = (value, feature.aggregate == "distinct")
        place = COUNTED if value is None else self._places.get(identity)
        if place is None:
            assert value is not None
            place = self._places[identity] = len(self._read)
            name = f"{feature.aggregate} of {feature.event.__name__}"
            self._read.append((name, value, checked if identity[1] else number))
        time = self._time(feature.resolution)
        key = self._key(feature.by)
        self._is_doubtful |= any(is_doubtful(feature.event, name) for name in feature.by)
        if isinstance(table, BoundedTable):
            key.bounded.append((table, place, time))
        else:
            key.additions.append((table, place, time))

    def show(self, view: OnlineView, by: tuple[str, ...]) -> None:
        """Mark the rows of the view as changed at each event."""
        self._key(by).views.append(view)

    def take(self) -> Take:
        """The function that adds an event's values. It is generated once, when all is declared."""
        routine = GeneratedFunction("take", "event", "at")
        for place, (name, value, check) in enumerate(self._read):
            if isinstance(value, str):
                routine.line(f"v{place} = {attribute('event', value)}")
            else:
                write_result(routine, f"v{place}", name, value, "event", check)
        for resolution, time in self._steps.items():
            routine.line(f"{time} = at // {resolution!r} * {resolution!r}")
        for place, by in enumerate(self._keys):
            routine.line(f"k{place} = {attributes('event', by)}")
        if self._is_doubtful:
            keys = "".join(f"k{place}, " for place in range(len(self._keys)))
            routine.line(f"{routine.constant(check_keys)}({routine.constant(tuple(self._keys))}, ({keys}))")
        for place, (by, key) in enumerate(self._keys.items()):
            known = f"k{place} is not None" if len(by) == 1 else f"None not in k{place}"
            routine.block(f"if {known}:", _additions(routine, key, f"k{place}"))
        routine.line("return None")
        return routine.function()


def _additions(routine: GeneratedFunction, key: _Key, name: str) -> list[str]:
    """Source lines that add an event's values under a key."""
    views = [routine.constant(view.touch) for view in key.views]
    lines = []
    for table, place, time in key.additions:
        lines += _known(place, [f"{routine.constant(table)}[{name}].add({time}, {_value(place)})"])
    for bounded, place, time in key.bounded:
        put = f"gone = {routine.constant(bounded.put)}({name}, {time}, {_value(place)})"
        gone = [INDENT + f"{touch}(gone, at)" for touch in views]
        lines += _known(place, [put, "if gone is not None:", *gone] if views else [put])
    return [*lines, *(f"{touch}({name}, at)" for touch in views)]


def _value(place: int) -> str:
    return "1.0" if place == COUNTED else f"v{place}"


def _known(place: int, lines: list[str]) -> list[str]:
    """The lines, under a condition that the value is present."""
    if place == COUNTED:
        return lines
    return [f"if v{place} is not None:", *(INDENT + line for line in lines)]
