"""All feature state of one partition of the log: windows and references, read as of an event."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import NoneType
from typing import Any, get_args, get_type_hints

from features.declaration import Derived, Feature, Lookup, RequestField, View, Window
from features.errors import FeatureDeclarationError, FeatureValueError
from features.window import EventWindow, mean_of, std_of

Row = tuple[float, dict[str, Any]]
RowKey = tuple[str, tuple[str, ...]]
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


def _checked_number(name: str, value: Any) -> Any:
    """The value as `_checked` gives it, if windows can add it up (or None)."""
    checked = _checked(name, value)
    if checked.__class__ is str:
        raise FeatureValueError(name, f"{value!r} is text, and windows hold numbers")
    return checked


class _Table:
    """The windows of one declaration, by key; keys without values are forgotten."""

    __slots__ = ("adds", "over", "squares", "windows")

    def __init__(self, over: float) -> None:
        self.over = over
        self.squares = False
        self.windows: dict[Any, EventWindow] = {}
        self.adds: deque[tuple[float, Any]] = deque()

    def add(self, key: Any, at: float, value: float) -> None:
        window = self.windows.get(key)
        if window is None:
            window = self.windows[key] = EventWindow(self.over, self.squares)
        window.add(at, value)
        self.adds.append((at, key))

    def retain(self, watermark: float) -> None:
        """Drop what no event at or after the watermark can see."""
        bound = watermark - self.over
        adds = self.adds
        while adds and adds[0][0] <= bound:
            key = adds.popleft()[1]
            window = self.windows.get(key)
            if window is not None and not window.retain(bound):
                del self.windows[key]


@dataclass(frozen=True, slots=True)
class _Update:
    """How one event type feeds one table; `name` is for errors."""

    name: str
    table: _Table
    key: Callable[[Any], Any]
    value: Callable[[Any], Any] | None
    composite: bool
    is_function: bool


def _read_window(table: _Table, feature: Window) -> Callable[[Any, float], Any]:
    """A function (key, at) -> value of the feature, None when missing."""
    windows = table.windows
    aggregate = feature.aggregate
    over = feature.over

    def mean(key: Any, at: float) -> float | None:
        window = windows.get(key)
        if window is None:
            return None
        count, total, _ = window.sums(at)
        return mean_of(count, total) if count else None

    def total_(key: Any, at: float) -> float:
        window = windows.get(key)
        return mean_of(1, window.sums(at)[1]) if window is not None else 0.0

    def count_(key: Any, at: float) -> int:
        window = windows.get(key)
        return window.sums(at)[0] if window is not None else 0

    def rate(key: Any, at: float) -> float:
        return count_(key, at) / over

    def std(key: Any, at: float) -> float | None:
        window = windows.get(key)
        if window is None:
            return None
        count, total, squares = window.sums(at)
        return std_of(count, total, squares) if count else None

    def latest(key: Any, at: float) -> float | None:
        window = windows.get(key)
        return window.latest(at) if window is not None else None

    def extreme(side: int) -> Callable[[Any, float], float | None]:
        def read(key: Any, at: float) -> float | None:
            window = windows.get(key)
            found = window.extremes(at) if window is not None else None
            return found[side] if found is not None else None

        return read

    readers: dict[str, Callable[[Any, float], Any]] = {
        "mean": mean,
        "sum": total_,
        "count": count_,
        "rate": rate,
        "std": std,
        "latest": latest,
        "min": extreme(0),
        "max": extreme(1),
    }
    return readers[aggregate]


class FeatureState:
    """Feature values of one partition, fed by events and read by requests.

    A value read at `t` counts the events that came before the request in the log and whose own
    time lies in (t - over, t]. With `rows`, each change also yields the newest online row of its key.
    """

    def __init__(
        self,
        features: Mapping[str, Feature],
        ask: type,
        partition_key: str,
        views: Sequence[View] = (),
    ) -> None:
        self._tables: dict[tuple[Any, ...], _Table] = {}
        self._updates: dict[type, list[_Update]] = {}
        self._references: dict[tuple[type, str], dict[Any, tuple[float, Any]]] = {}
        self._lookups: dict[type, list[tuple[dict[Any, tuple[float, Any]], Callable[[Any], Any]]]] = {}
        self._windows: list[tuple[str, Callable[[Any, float], Any], Callable[[Any], Any]]] = []
        self._plain: list[tuple[str, Callable[[Any], Any]]] = []
        self._derived: list[tuple[str, Callable[[Any], Any]]] = []
        self._found: list[tuple[str, dict[Any, tuple[float, Any]], Callable[[Any], Any], str]] = []
        self.order = tuple(features)
        for name, feature in features.items():
            self._declare(name, feature, ask, partition_key)
        self._views: dict[type, list[tuple[View, Callable[[Any], Any], list[tuple[str, Any]]]]] = {}
        self._stamps: dict[RowKey, float] = {}
        for view in views:
            readers = [
                (name, _read_window(self._table(window), window)) for name, window in view.features.items()
            ]
            for event in dict.fromkeys(window.event for window in view.features.values()):
                self._views.setdefault(event, []).append((view, attrgetter(*view.keys), readers))

    def _table(self, feature: Window) -> _Table:
        value = feature.value
        identity = (feature.event, value, feature.by, feature.over)
        table = self._tables.get(identity)
        if table is None:
            table = self._tables[identity] = _Table(feature.over)
            getter = attrgetter(value) if isinstance(value, str) else value
            self._updates.setdefault(feature.event, []).append(
                _Update(
                    f"{feature.aggregate} of {feature.event.__name__}",
                    table,
                    attrgetter(*feature.by),
                    getter,
                    len(feature.by) > 1,
                    callable(value),
                )
            )
        return table

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
            table = self._table(feature)
            table.squares = table.squares or feature.aggregate == "std"
            self._windows.append((name, _read_window(table, feature), attrgetter(*feature.by)))
        elif isinstance(feature, Lookup):
            for field in (feature.by, feature.field):
                need(feature.event, field)
            need(ask, feature.by)
            found = self._references.get((feature.event, feature.by))
            if found is None:
                found = self._references[feature.event, feature.by] = {}
                self._lookups.setdefault(feature.event, []).append((found, attrgetter(feature.by)))
            self._found.append((name, found, attrgetter(feature.by), feature.field))
        elif isinstance(feature, Derived):
            self._derived.append((name, feature.function))
        elif isinstance(feature, RequestField):
            need(ask, feature.name)
            self._plain.append((name, attrgetter(feature.name)))

    def update(self, event: Any, at: float, rows: dict[RowKey, Row] | None = None) -> None:
        """Count an event; raises FeatureValueError, with nothing changed, when user code fails."""
        kind = type(event)
        updates = self._updates.get(kind)
        if updates is not None:
            additions = []
            for update in updates:
                key = update.key(event)
                if key is None or (update.composite and None in key):
                    continue
                if update.value is None:
                    value: Any = 1.0
                elif update.is_function:
                    value = _checked_number(update.name, _called(update.name, update.value, event))
                else:
                    value = update.value(event)
                if value is not None:
                    additions.append((update.table, key, value))
            for table, key, value in additions:
                table.add(key, at, value)
            if rows is not None:
                self._changed_rows(kind, event, at, rows)
        lookups = self._lookups.get(kind)
        if lookups is not None:
            for found, key_of in lookups:
                key = key_of(event)
                known = found.get(key)
                if known is None or at >= known[0]:
                    found[key] = (at, event)

    def _changed_rows(self, kind: type, event: Any, at: float, rows: dict[RowKey, Row]) -> None:
        for view, key_of, readers in self._views.get(kind, ()):
            key = key_of(event)
            names = key if isinstance(key, tuple) else (key,)
            if None in names:
                continue
            row_key = (view.name, tuple(str(part) for part in names))
            values = {}
            for name, read in readers:
                value = read(key, at)
                if value is not None:
                    values[name] = value
            # equal times are told apart by a microsecond, so that the newer row always wins
            stamp = max(at, self._stamps.get(row_key, -1e18) + 1e-6)
            self._stamps[row_key] = stamp
            rows[row_key] = (stamp, values)

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
        for name, read, key_of in self._windows:
            value = read(key_of(request), at)
            if value is not None:
                x[name] = value
        for name, found, key_of, field in self._found:
            known = found.get(key_of(request))
            if known is not None:
                value = getattr(known[1], field)
                if value is not None:
                    x[name] = value
        return x

    def retain(self, watermark: float) -> None:
        """Forget what no event at or after the watermark (seconds) can see."""
        for table in self._tables.values():
            table.retain(watermark)

    def state(self) -> dict[str, Any]:
        """Windows and references in the order of declaration; nothing is copied."""
        return {
            "tables": [(table.windows, table.adds) for table in self._tables.values()],
            "references": list(self._references.values()),
            "stamps": self._stamps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave, of the same declarations."""
        for table, (windows, adds) in zip(self._tables.values(), state["tables"], strict=True):
            table.windows.update(windows)
            table.adds.extend(adds)
        for found, known in zip(self._references.values(), state["references"], strict=True):
            found.update(known)
        self._stamps.update(state["stamps"])

    def keys_held(self) -> int:
        """Number of windows in memory, over all keys."""
        return sum(len(table.windows) for table in self._tables.values())
