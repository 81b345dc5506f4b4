"""All feature state of one partition of the log: windows and references, read as of an event."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from types import NoneType
from typing import Any, NamedTuple, get_args, get_type_hints

from features.declaration import Derived, Feature, Lookup, RequestField, View, Window
from features.errors import FeatureDeclarationError, FeatureValueError
from features.window import (
    CountWindow,
    EventWindow,
    LatestWindow,
    MaxWindow,
    MinWindow,
    SquareWindow,
    SumWindow,
)

Row = tuple[float, dict[str, Any]]
RowKey = tuple[str, tuple[str, ...]]
MICROSECOND = 1e-6
NEVER = -1e18
COUNTED = -1
"""Place among an event's values of what it counts."""
_LARGEST = 1e15


def _fields(event: type) -> tuple[str, ...]:
    return tuple(getattr(event, "__struct_fields__", ()))


def _checked(name: str, value: Any) -> Any:
    """The value as plain None, text, bool or a finite number within ±1e15, if it is one of these."""
    kind = value.__class__
    if kind is float or kind is int:
        if -_LARGEST <= value <= _LARGEST:
            return value
    elif kind is bool or value is None:
        return value
    elif kind is str:
        if value.isascii() or _encodable(value):
            return value
    else:
        plain = _plain(value)
        if plain is not value:
            return _checked(name, plain)
    raise FeatureValueError(name, f"{_shown(value)} is not a finite number, text, bool or None")


def _called(name: str, function: Callable[[Any], Any], event: Any) -> Any:
    """What user code gives; what it raises becomes the cause of a FeatureValueError."""
    try:
        return function(event)
    except Exception as error:
        raise FeatureValueError(name, "its function raised") from error


def _is_number(hint: Any) -> bool:
    """Whether a field of this type holds a number, a bool or None and nothing else."""
    parts = [part for part in get_args(hint) if part is not NoneType]
    return all(map(_is_number, parts)) if parts else hint in (int, float, bool)


def _shown(value: Any) -> str:
    """The value for a message, the same whenever the log is folded again: no memory addresses."""
    return repr(value)[:100] if isinstance(value, (int, float, str)) else f"a {type(value).__name__}"


def _encodable(text: str) -> bool:
    """Whether the text can be written: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> Any:
    """A number, bool or text of numpy or of an enumeration as Python's own; others as they are."""
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        return item()
    for plain in (float, int, str):
        if isinstance(value, plain):
            return plain.__str__(value) if plain is str else plain(value)
    return value


def _number_of(name: str, function: Callable[[Any], Any], event: Any) -> Any:
    """What user code gives, if windows can add it up (or None)."""
    value = _called(name, function, event)
    if value.__class__ is float and -_LARGEST <= value <= _LARGEST:
        return value
    checked = _checked(name, value)
    if checked.__class__ is str:
        raise FeatureValueError(name, f"{value!r} is text, and windows hold numbers")
    return checked


class _Table(dict[Any, EventWindow]):
    """The windows of one declaration, by key. A key that is asked for with `[]` gets a window; one
    without values is forgotten.

    Each window is due to be looked at once in `over`: to follow every value would cost more than
    to add it. So a window holds what lies less than two `over` back, at most.
    """

    __slots__ = ("due", "kind", "over", "watermark")

    def __init__(self, kind: type[EventWindow], over: float) -> None:
        self.kind = kind
        self.over = over
        self.watermark = NEVER
        self.due: deque[tuple[float, Any]] = deque()

    def __missing__(self, key: Any) -> EventWindow:
        window = self[key] = self.kind(self.over)
        self.due.append((self.watermark, key))
        return window

    def retain(self, watermark: float) -> None:
        """Drop what no event at or after the watermark can see, where it is due."""
        self.watermark = watermark
        bound = watermark - self.over
        due = self.due
        for _ in range(len(due)):
            if due[0][0] > bound:
                break
            key = due.popleft()[1]
            if self[key].retain(bound):
                due.append((watermark, key))
            else:
                del self[key]

    def restore(self, found: _Table) -> None:
        """Take over another one's windows."""
        self.update(found)
        self.due, self.watermark = found.due, found.watermark


class _Aggregate(NamedTuple):
    """The window that an aggregate needs, how it is read at a time, and its value for a key never seen."""

    window: type[EventWindow]
    read: Callable[[Any, float], Any]
    missing: float | None


_AGGREGATES = {
    "mean": _Aggregate(SumWindow, SumWindow.mean, None),
    "sum": _Aggregate(SumWindow, SumWindow.sum, 0.0),
    "count": _Aggregate(CountWindow, CountWindow.count, 0),
    "rate": _Aggregate(CountWindow, CountWindow.rate, 0.0),
    "std": _Aggregate(SquareWindow, SquareWindow.std, None),
    "latest": _Aggregate(LatestWindow, LatestWindow.latest, None),
    "min": _Aggregate(MinWindow, MinWindow.min, None),
    "max": _Aggregate(MaxWindow, MaxWindow.max, None),
}


class _Key:
    """One key that windows of one event type go by, and what an event does with it."""

    __slots__ = ("additions", "composite", "read", "views")

    def __init__(self, by: tuple[str, ...]) -> None:
        self.read: Callable[[Any], Any] = attrgetter(*by)
        self.composite = len(by) > 1
        self.additions: list[tuple[_Table, int]] = []
        self.views: list[_OnlineView] = []


class _Intake:
    """How one event type feeds windows: keys and values are read once, then added to the tables."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, ...], _Key] = {}
        self._places: dict[Any, int] = {}
        self._read: list[tuple[str, Any, bool]] = []

    def _key(self, by: tuple[str, ...]) -> _Key:
        return self._keys.setdefault(by, _Key(by))

    def feed(self, table: _Table, feature: Window) -> None:
        """From now on, the events' values go to the table."""
        value = feature.value
        place = COUNTED if value is None else self._places.get(value)
        if place is None:
            place = self._places[value] = len(self._read)
            name = f"{feature.aggregate} of {feature.event.__name__}"
            self._read.append((name, attrgetter(value) if isinstance(value, str) else value, callable(value)))
        self._key(feature.by).additions.append((table, place))

    def show(self, view: _OnlineView, by: tuple[str, ...]) -> None:
        """From now on, the events touch the view's rows."""
        self._key(by).views.append(view)

    def take(self, event: Any, at: float) -> None:
        """Add an event's values; raises FeatureValueError, with nothing changed, when user code fails."""
        values = [
            _number_of(name, read, event) if is_code else read(event) for name, read, is_code in self._read
        ]
        values.append(1.0)  # what an event counts
        for way in self._keys.values():
            key = way.read(event)
            if key is None or (way.composite and None in key):
                continue
            for table, place in way.additions:
                value = values[place]
                if value is not None:
                    table[key].add(at, value)
            for view in way.views:
                view.touch(key, at)


class _Reading(NamedTuple):
    """One windowed feature as it is read: of which key, from which windows, how."""

    name: str
    place: int
    window_of: Callable[[Any], EventWindow | None]
    read: Callable[[Any, float], Any]
    missing: float | None


def texts_of(key: Any) -> tuple[str, ...]:
    """The parts of a window's key as the feature store has them."""
    return tuple(str(part) for part in (key if isinstance(key, tuple) else (key,)))


def missing_value(feature: Window) -> float | None:
    """What a windowed feature is of a key never seen; None when it is missing then."""
    return _AGGREGATES[feature.aggregate].missing


class _OnlineView:
    """The online rows of one view. A row is computed when it is asked for: of the many events of a
    key in between, the newest one decides."""

    def __init__(self, view: View, readings: list[_Reading]) -> None:
        self.name = view.name
        self._readings = readings
        self.stamps: dict[Any, float] = {}
        self._touched: dict[Any, float] = {}

    def touch(self, key: Any, at: float) -> None:
        """An event of the key came."""
        # equal times are told apart by a microsecond, so that the newer row always wins
        self.stamps[key] = max(at, self.stamps.get(key, NEVER) + MICROSECOND)
        self._touched[key] = at

    def put_rows(self, rows: dict[RowKey, Row]) -> None:
        """Put the rows of the keys touched, as of their newest event."""
        for key, at in self._touched.items():
            rows[self.name, texts_of(key)] = (self.stamps[key], self.values(key, at))
        self._touched.clear()

    def values(self, key: Any, at: float) -> dict[str, Any]:
        """The features of a key as of `at`; missing ones are absent."""
        values = {}
        for name, _, window_of, read, missing in self._readings:
            window = window_of(key)
            value = missing if window is None else read(window, at)
            if value is not None:
                values[name] = value
        return values

    def retain(self, watermark: float) -> None:
        """Forget the stamps that no event at or after the watermark can equal."""
        self.stamps = {key: stamp for key, stamp in self.stamps.items() if stamp + MICROSECOND > watermark}


class FeatureState:
    """Feature values of one partition, fed by events and read by requests.

    A value read at `t` counts the events that came before the request in the log and whose own
    time lies in (t - over, t]. Of the `views`, the newest online row of each key is put when asked for.
    """

    def __init__(
        self,
        features: Mapping[str, Feature],
        ask: type,
        partition_key: str,
        views: Sequence[View] = (),
    ) -> None:
        self._tables: dict[tuple[Any, ...], _Table] = {}
        self._intakes: dict[type, _Intake] = {}
        self._references: dict[tuple[type, str], dict[Any, tuple[float, Any]]] = {}
        self._lookups: dict[type, list[tuple[dict[Any, tuple[float, Any]], Callable[[Any], Any]]]] = {}
        self._request_keys: dict[tuple[str, ...], int] = {}
        self._read_keys: list[Callable[[Any], Any]] = []
        self._windows: list[_Reading] = []
        self._plain: list[tuple[str, Callable[[Any], Any]]] = []
        self._derived: list[tuple[str, Callable[[Any], Any]]] = []
        self._found: list[
            tuple[str, dict[Any, tuple[float, Any]], Callable[[Any], Any], Callable[[Any], Any]]
        ]
        self._found = []
        self.order = tuple(features)
        for name, feature in features.items():
            self._declare(name, feature, ask, partition_key)
        self._views: list[_OnlineView] = []
        for view in views:
            self._show(view)

    def _table(self, feature: Window) -> _Table:
        kind = _AGGREGATES[feature.aggregate].window
        identity = (kind, feature.event, feature.value, feature.by, feature.over)
        table = self._tables.get(identity)
        if table is None:
            table = self._tables[identity] = _Table(kind, feature.over)
            self._intakes.setdefault(feature.event, _Intake()).feed(table, feature)
        return table

    def _reading(self, name: str, feature: Window, place: int) -> _Reading:
        aggregate = _AGGREGATES[feature.aggregate]
        return _Reading(name, place, self._table(feature).get, aggregate.read, aggregate.missing)

    def _request_key(self, by: tuple[str, ...]) -> int:
        """Where among the keys of a request the one of these fields stands."""
        place = self._request_keys.get(by)
        if place is None:
            place = self._request_keys[by] = len(self._read_keys)
            self._read_keys.append(attrgetter(*by))
        return place

    def _readings(self, view: View) -> list[_Reading]:
        return [self._reading(name, window, 0) for name, window in view.features.items()]

    def _show(self, view: View) -> None:
        """Keep online rows of the view."""
        online = _OnlineView(view, self._readings(view))
        self._views.append(online)
        for event in dict.fromkeys(window.event for window in view.features.values()):
            self._intakes[event].show(online, view.keys)

    def _declare(self, name: str, feature: Feature, ask: type, partition_key: str) -> None:
        def need(event: type, field: str) -> None:
            if field not in _fields(event):
                raise FeatureDeclarationError(f"feature {name!r}: {event.__name__} has no field {field!r}")

        if isinstance(feature, Window):
            if partition_key not in feature.by:
                raise FeatureDeclarationError(
                    f"feature {name!r}: its key {feature.by} lacks the partition key {partition_key!r}, "
                    "so its events would be spread over partitions; add it to `by`"
                )
            for key in feature.by:
                need(feature.event, key)
                need(ask, key)
            if isinstance(feature.value, str):
                need(feature.event, feature.value)
                if not _is_number(get_type_hints(feature.event)[feature.value]):
                    raise FeatureDeclarationError(
                        f"feature {name!r}: windows hold numbers, and {feature.event.__name__}."
                        f"{feature.value} is no int, float or bool"
                    )
            self._windows.append(self._reading(name, feature, self._request_key(feature.by)))
        elif isinstance(feature, Lookup):
            for field in (feature.by, feature.field):
                need(feature.event, field)
            need(ask, feature.by)
            found = self._references.get((feature.event, feature.by))
            if found is None:
                found = self._references[feature.event, feature.by] = {}
                self._lookups.setdefault(feature.event, []).append((found, attrgetter(feature.by)))
            self._found.append((name, found, attrgetter(feature.by), attrgetter(feature.field)))
        elif isinstance(feature, Derived):
            self._derived.append((name, feature.function))
        elif isinstance(feature, RequestField):
            need(ask, feature.name)
            self._plain.append((name, attrgetter(feature.name)))

    def update(self, event: Any, at: float) -> None:
        """Count an event; raises FeatureValueError, with nothing changed, when user code fails."""
        kind = type(event)
        intake = self._intakes.get(kind)
        if intake is not None:
            intake.take(event, at)
        lookups = self._lookups.get(kind)
        if lookups is not None:
            for found, key_of in lookups:
                key = key_of(event)
                known = found.get(key)
                if known is None or at >= known[0]:
                    found[key] = (at, event)

    def put_rows(self, rows: dict[RowKey, Row]) -> None:
        """Put the newest online row of every key touched since the last time, as of its newest event.

        Nothing but an event of the key, which touches it again, changes what such a row says; only
        `retain` may drop values that the row counts, so rows must be put before it.
        """
        for view in self._views:
            view.put_rows(rows)

    def reader(self, view: View) -> Callable[[Any, float], dict[str, Any]]:
        """A function that gives the row of a key of the view as of a time."""
        return _OnlineView(view, self._readings(view)).values

    def read(self, request: Any, at: float) -> dict[str, Any]:
        """The request's feature values; missing ones are absent. Raises FeatureValueError."""
        x: dict[str, Any] = {}
        for name, plain in self._plain:
            value = plain(request)
            if value is not None:
                x[name] = value
        for name, function in self._derived:
            value = _checked(name, _called(name, function, request))
            if value is not None:
                x[name] = value
        keys = [read(request) for read in self._read_keys]
        for name, place, window_of, read, missing in self._windows:
            window = window_of(keys[place])
            value = missing if window is None else read(window, at)
            if value is not None:
                x[name] = value
        for name, found, key_of, field_of in self._found:
            known = found.get(key_of(request))
            if known is not None:
                value = field_of(known[1])
                if value is not None:
                    x[name] = value
        return x

    def retain(self, watermark: float) -> None:
        """Forget what no event at or after the watermark (seconds) can see."""
        for table in self._tables.values():
            table.retain(watermark)
        for view in self._views:
            view.retain(watermark)

    def state(self) -> dict[str, Any]:
        """Windows and references in the order of declaration; nothing is copied."""
        return {
            "tables": list(self._tables.values()),
            "references": list(self._references.values()),
            "stamps": {view.name: view.stamps for view in self._views},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave, of the same declarations."""
        for table, found in zip(self._tables.values(), state["tables"], strict=True):
            table.restore(found)
        for reference, known in zip(self._references.values(), state["references"], strict=True):
            reference.update(known)
        for view in self._views:
            view.stamps.update(state["stamps"].get(view.name, {}))
