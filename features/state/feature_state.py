"""All feature state of one partition of the log: windows and references, read as of an event."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from typing import Any, Literal, NamedTuple, Protocol, get_type_hints

from driftline.declared import suggestion
from driftline.errors import pass_interrupt
from driftline.features.declare.declaration import (
    Derived,
    Elapsed,
    Feature,
    Lookup,
    OnDemand,
    RequestField,
    View,
    Window,
)
from driftline.features.declare.keys import (
    holds_enum,
    is_doubtful,
    kinds_of,
    never_equal,
    no_one_text,
    not_a_feature,
    not_a_key,
    texts_of,
)
from driftline.features.declare.on_demand import check_inputs, evaluation, step
from driftline.features.declare.ranges import Ranges, RangesState
from driftline.features.errors import FeatureDeclarationError, FeatureValueError
from driftline.features.state.reference_tally import Tally
from driftline.features.state.references import References, ReferencesState
from driftline.features.state.window import (
    CountWindow,
    DecayedWindow,
    DistinctWindow,
    EventWindow,
    LatestWindow,
    MaxWindow,
    MinWindow,
    SquareWindow,
    SumWindow,
)

StampedRow = tuple[float, dict[str, Any]]
RowKey = tuple[str, tuple[str, ...]]
MICROSECOND = 1e-6
NEVER = -1e18
"""Before all event times, in seconds; finite, so that differences stay numbers."""
COUNTED = -1
"""Place among an event's values of what it counts."""
_LARGEST = 1e15
_NUMBERS = (int, float, bool)


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
    except BaseException as error:
        pass_interrupt(error)
        raise FeatureValueError(name, "its function raised") from error


def _holds(hint: Any, allowed: tuple[type, ...]) -> bool:
    """Whether a field of this type holds these kinds or None and nothing else."""
    kinds = kinds_of(hint)
    return bool(kinds) and not holds_enum(hint) and set(kinds) <= set(allowed)


def _field_of(name: str, event: type, field: str) -> Callable[[Any], Any]:
    """How a feature is read from a field: as it is, where its type says that it is a feature's value."""
    hint = get_type_hints(event)[field]
    if kinds_of(hint) and not (holds_enum(hint) or is_doubtful(event, field)):
        return attrgetter(field)
    return lambda said: _checked(name, getattr(said, field))


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
    if isinstance(value, Enum):
        return value.value
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        return item()
    for plain in (float, int, str):
        if isinstance(value, plain):
            return plain.__str__(value) if plain is str else plain(value)
    return value


def _value_of(name: str, function: Callable[[Any], Any], event: Any) -> Any:
    """What user code gives."""
    return _checked(name, _called(name, function, event))


def _number_of(name: str, function: Callable[[Any], Any], event: Any) -> Any:
    """What user code gives, if windows can add it up (or None)."""
    value = _called(name, function, event)
    if value.__class__ is float and -_LARGEST <= value <= _LARGEST:
        return value
    checked = _checked(name, value)
    if checked.__class__ is str:
        raise FeatureValueError(name, f"{value!r} is text, and windows hold numbers")
    return checked


def _check_keys(by: Iterable[tuple[str, ...]], keys: Sequence[Any]) -> None:
    """Raises FeatureValueError when one of an event's keys, each of the fields `by`, cannot be looked up."""
    try:
        hash(tuple(keys))
    except TypeError:
        for names, key in zip(by, keys, strict=True):
            if not _is_hashable(key):
                raise FeatureValueError(" and ".join(names), f"{_shown(key)} cannot be a key") from None
        raise


def _is_hashable(key: Any) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


class _Table(dict[Any, EventWindow]):
    """The windows of one declaration, by key. A key that is asked for with `[]` gets a window; one
    without values is forgotten.

    Each window is due to be looked at once in `over`: to follow every value would cost more than
    to add it. So a window holds what lies less than two `over` back, at most.
    """

    __slots__ = ("arguments", "due", "kind", "over", "watermark")

    def __init__(self, kind: type[EventWindow], over: float, arguments: tuple[Any, ...] = ()) -> None:
        self.kind: Callable[..., EventWindow] = kind
        self.over = over
        self.arguments = arguments
        self.watermark = NEVER
        self.due: deque[tuple[float, Any]] = deque()

    def __missing__(self, key: Any) -> EventWindow:
        window = self[key] = self.kind(self.over, *self.arguments)
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
            window = self.get(key)
            if window is None:
                continue  # it was evicted
            if window.retain(bound):
                due.append((watermark, key))
            else:
                del self[key]

    def restore(self, found: _Table) -> None:
        """Take over another one's windows, and all that it has beside them."""
        self.update(found)
        for kind in type(self).__mro__:
            for name in getattr(kind, "__slots__", ()):
                setattr(self, name, getattr(found, name))


class _BoundedTable(_Table):
    """A table that follows each value, to keep what it holds within a bound.

    With `most_keys`, the key whose newest event is the oldest is evicted when a new one comes; of equal
    times the one whose text comes first. Expired keys are the oldest of all, so that what is read depends on
    the events alone. Windows that can forget more than what expired do so at every clean-up.
    """

    __slots__ = ("evicted", "line", "most_keys", "touched")

    def __init__(
        self, kind: type[EventWindow], over: float, arguments: tuple[Any, ...], most_keys: int | None
    ) -> None:
        super().__init__(kind, over, arguments)
        self.most_keys = most_keys
        self.line: list[tuple[float, str, Any]] = []
        self.touched: dict[Any, None] = {}
        self.evicted = 0

    def put(self, key: Any, at: float, value: Any) -> Any:
        """Add a value; returns the key that had to go for it, None when none had."""
        is_new = key not in self
        self[key].add(at, value)
        if self.kind is DistinctWindow:
            self.touched[key] = None
        if not is_new or self.most_keys is None:
            return None
        heapq.heappush(self.line, (at, repr(key), key))
        return self._evict() if len(self) > self.most_keys else None

    def _evict(self) -> Any:
        """Let the key go whose newest event is the oldest.

        The line holds a key as of some event of its; one that has a newer event goes back behind it.
        """
        line = self.line
        while True:
            at, text, key = line[0]
            window = self.get(key)
            if window is None:
                heapq.heappop(line)
            elif window.ats[-1] > at:
                heapq.heapreplace(line, (window.ats[-1], text, key))
            else:
                heapq.heappop(line)
                del self[key]
                self.evicted += 1
                return key

    def retain(self, watermark: float) -> None:
        """As of every table."""
        for key in self.touched:
            window = self.get(key)
            if window is not None and not window.retain(watermark - self.over):
                del self[key]
        self.touched.clear()
        super().retain(watermark)
        # keys that are gone are in both still
        if len(self.line) > 2 * len(self):
            self.line = [(self[key].ats[-1], repr(key), key) for key in self]
            heapq.heapify(self.line)
        if len(self.due) > 2 * len(self):
            kept: dict[Any, float] = {}
            for since, key in reversed(self.due):
                if key in self:
                    kept.setdefault(key, since)
            self.due = deque((since, key) for key, since in reversed(kept.items()))


class _Aggregate(NamedTuple):
    """The window that an aggregate needs, and how it is read at a time.

    `argument` says who needs the declaration's: the window, or the read.
    """

    window: type[EventWindow]
    read: Callable[..., Any]
    argument: Literal["", "window", "read"] = ""


_AGGREGATES = {
    "mean": _Aggregate(SumWindow, SumWindow.mean),
    "sum": _Aggregate(SumWindow, SumWindow.sum),
    "count": _Aggregate(CountWindow, CountWindow.count),
    "rate": _Aggregate(CountWindow, CountWindow.rate),
    "std": _Aggregate(SquareWindow, SquareWindow.std),
    "latest": _Aggregate(LatestWindow, LatestWindow.latest),
    "first": _Aggregate(LatestWindow, LatestWindow.first),
    "lag": _Aggregate(LatestWindow, LatestWindow.lag, "read"),
    "decayed": _Aggregate(DecayedWindow, DecayedWindow.mean, "window"),
    "distinct": _Aggregate(DistinctWindow, DistinctWindow.distinct, "window"),
    "newest": _Aggregate(CountWindow, CountWindow.newest),
    "min": _Aggregate(MinWindow, MinWindow.min),
    "max": _Aggregate(MaxWindow, MaxWindow.max),
}


class _Key:
    """One key that windows of one event type go by, and what an event does with it."""

    __slots__ = ("additions", "bounded", "composite", "read", "views")

    def __init__(self, by: tuple[str, ...]) -> None:
        self.read: Callable[[Any], Any] = attrgetter(*by)
        self.composite = len(by) > 1
        self.additions: list[tuple[_Table, int]] = []
        self.bounded: list[tuple[_BoundedTable, int]] = []
        self.views: list[_OnlineView] = []


class _WindowFeed:
    """How one event type feeds windows: keys and values are read once, then added to the tables."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, ...], _Key] = {}
        self._is_doubtful = False  # whether a key may be none, for all that its type says
        self._places: dict[Any, int] = {}
        self._read: list[tuple[str, Any, Callable[[str, Any, Any], Any] | None]] = []

    def _key(self, by: tuple[str, ...]) -> _Key:
        return self._keys.setdefault(by, _Key(by))

    def feed(self, table: _Table, feature: Window) -> None:
        """From now on, the events' values go to the table."""
        value = feature.value
        # what is counted may be text, what is added up may not
        identity = (value, feature.aggregate == "distinct")
        place = COUNTED if value is None else self._places.get(identity)
        if place is None:
            place = self._places[identity] = len(self._read)
            name = f"{feature.aggregate} of {feature.event.__name__}"
            checked = None if isinstance(value, str) else _value_of if identity[1] else _number_of
            self._read.append((name, attrgetter(value) if isinstance(value, str) else value, checked))
        key = self._key(feature.by)
        self._is_doubtful |= any(is_doubtful(feature.event, name) for name in feature.by)
        if isinstance(table, _BoundedTable):
            key.bounded.append((table, place))
        else:
            key.additions.append((table, place))

    def show(self, view: _OnlineView, by: tuple[str, ...]) -> None:
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
            _check_keys(self._keys, [way.read(event) for way in self._keys.values()])
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


class _Reading(NamedTuple):
    """One windowed feature as it is read: of which key, from which windows, how."""

    name: str
    place: int
    window_of: Callable[[Any], EventWindow | None]
    read: Callable[[Any, float], Any]
    missing: float | None


def _arguments(feature: Window) -> tuple[Any, ...]:
    """What a window of the feature is made with, beside its length."""
    return (feature.argument,) if _AGGREGATES[feature.aggregate].argument == "window" else ()


def _read(feature: Window) -> Callable[[Any, float], Any]:
    """How a windowed feature is read from its window at a time."""
    aggregate, argument = _AGGREGATES[feature.aggregate], feature.argument
    if aggregate.argument != "read":
        return aggregate.read
    read = aggregate.read
    return lambda window, at: read(window, at, argument)


@dataclass(slots=True)
class ViewState:
    """The stamp of each key's newest row, and the event times of keys touched since rows were put."""

    stamps: dict[Any, float] = field(default_factory=dict)
    touched: dict[Any, float] = field(default_factory=dict)


@dataclass(slots=True)
class FeatureParts:
    """The state of a partition's features: of windows and references in the order of declaration, of the
    views by name, and of the valid ranges."""

    tables: list[_Table]
    references: list[ReferencesState]
    views: dict[str, ViewState]
    ranges: RangesState


class Time(Protocol):
    """How far event time has come."""

    @property
    def likely(self) -> float:
        """Where it is likely to be, in seconds."""
        ...


class _OnlineView:
    """The online rows of one view. A row is computed when it is asked for: of the many events of a
    key in between, the newest one decides."""

    def __init__(self, view: View, readings: list[_Reading], tables: Sequence[_Table] = ()) -> None:
        self.name = view.name
        self._readings = readings
        self._tables = tables
        self._ranges = Ranges({name: window.note for name, window in view.features.items()})
        self.state = ViewState()

    def touch(self, key: Any, at: float) -> None:
        """An event of the key came."""
        # equal times are told apart by a microsecond, so that the newer row always wins
        stamps = self.state.stamps
        stamps[key] = max(at, stamps.get(key, NEVER) + MICROSECOND)
        self.state.touched[key] = at

    def put_rows(self, rows: dict[RowKey, StampedRow]) -> None:
        """Put the rows of the keys touched, as of their newest event."""
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
        for name, _, window_of, read, missing in self._readings:
            window = window_of(key)
            value = missing if window is None else read(window, at)
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
        self._ask = ask
        self._tables: dict[tuple[Any, ...], _Table] = {}
        self._feeds: dict[type, _WindowFeed] = {}
        self._references: dict[tuple[type, str], References] = {}
        self._lookups: dict[type, list[tuple[References, Callable[[Any], Any]]]] = {}
        self._request_keys: dict[tuple[str, ...], int] = {}
        self._read_keys: list[Callable[[Any], Any]] = []
        self._windows: list[_Reading] = []
        self._plain: list[tuple[str, Callable[[Any], Any]]] = []
        self._derived: list[tuple[str, Callable[[Any], Any]]] = []
        self._found: list[tuple[str, References, Callable[[Any], Any], Callable[[Any], Any], float]] = []
        self.order = tuple(features)
        for name, feature in features.items():
            self._declare(name, feature, ask, partition_key)
            check_inputs(name, features, ask)
        # what has elapsed is read from its window, as that has the time of every event
        steps = tuple(step(name, f) for name, f in features.items() if isinstance(f, OnDemand))
        self._computed = evaluation(steps, {}) if steps else None
        self._ranges = Ranges({name: feature.note for name, feature in features.items()})
        self._is_ranged = bool(self._ranges)
        self._views: list[_OnlineView] = []
        for view in views:
            self._show(view)

    def _table(self, feature: Window) -> _Table:
        kind = _AGGREGATES[feature.aggregate].window
        arguments = _arguments(feature)
        identity = (
            kind, feature.event, feature.value, feature.by, feature.over, arguments, feature.max_keys,
        )  # fmt: skip
        table = self._tables.get(identity)
        if table is None:
            if feature.max_keys is None and kind is not DistinctWindow:
                table = _Table(kind, feature.over, arguments)
            else:
                table = _BoundedTable(kind, feature.over, arguments, feature.max_keys)
            self._tables[identity] = table
            self._feeds.setdefault(feature.event, _WindowFeed()).feed(table, feature)
        return table

    def _reading(self, name: str, feature: Window, place: int) -> _Reading:
        return _Reading(name, place, self._table(feature).get, _read(feature), feature.empty)

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
        tables = {id(table): table for table in map(self._table, view.features.values())}
        online = _OnlineView(view, self._readings(view), tuple(tables.values()))
        self._views.append(online)
        for event in dict.fromkeys(window.event for window in view.features.values()):
            self._feeds[event].show(online, view.keys)

    def _declare(self, name: str, feature: Feature, ask: type, partition_key: str) -> None:
        def need(event: type, field: str) -> None:
            if field not in _fields(event):
                raise FeatureDeclarationError(
                    f"feature {name!r}: {event.__name__} has no field {field!r}"
                    + suggestion(field, _fields(event))
                )

        def need_value(event: type, field: str) -> None:
            need(event, field)
            if (reason := not_a_feature(event, field)) is not None:
                raise FeatureDeclarationError(f"feature {name!r}: {reason}")

        def need_key(event: type, field: str) -> None:
            need(event, field)
            if (reason := not_a_key(event, field)) is not None:
                raise FeatureDeclarationError(f"feature {name!r}: {reason}")

        def need_text(event: type, field: str) -> None:
            need_key(event, field)
            if (reason := no_one_text(event, field)) is not None:
                raise FeatureDeclarationError(f"feature {name!r}: {reason}")

        def need_equal(event: type, field: str) -> None:
            if (reason := never_equal(event, ask, field)) is not None:
                raise FeatureDeclarationError(f"feature {name!r}: {reason}")

        window = feature.window if isinstance(feature, Elapsed) else feature
        if isinstance(window, Window):
            if partition_key not in window.by:
                raise FeatureDeclarationError(
                    f"feature {name!r}: its key {window.by} lacks the partition key {partition_key!r}, "
                    "so its events would be spread over partitions; add it to `by`"
                )
            for key in window.by:
                need_text(window.event, key)
                need_text(ask, key)
                need_equal(window.event, key)
            if isinstance(window.value, str):
                need(window.event, window.value)
                counts = window.aggregate == "distinct"
                kinds = (*_NUMBERS, str) if counts else _NUMBERS
                if not _holds(get_type_hints(window.event)[window.value], kinds):
                    raise FeatureDeclarationError(
                        f"feature {name!r}: windows hold numbers{' and texts' if counts else ''}, and "
                        f"{window.event.__name__}.{window.value} is no "
                        f"{'int, float, bool or str' if counts else 'int, float or bool'}"
                    )
            reading = self._reading(name, window, self._request_key(window.by))
            if isinstance(feature, Elapsed):
                reading = reading._replace(read=CountWindow.elapsed)
            self._windows.append(reading)
        elif isinstance(feature, Lookup):
            need_value(feature.event, feature.field)
            need_key(feature.event, feature.by)
            need_key(ask, feature.by)
            need_equal(feature.event, feature.by)
            ttl = float("inf") if feature.ttl is None else feature.ttl
            found = self._references.get((feature.event, feature.by))
            if found is None:
                found = self._references[feature.event, feature.by] = References(ttl)
                self._lookups.setdefault(feature.event, []).append((found, attrgetter(feature.by)))
            found.keep_for(ttl)
            self._found.append(
                (name, found, attrgetter(feature.by), _field_of(name, feature.event, feature.field), ttl)
            )
        elif isinstance(feature, Derived):
            self._derived.append((name, feature.function))
        elif isinstance(feature, RequestField):
            need_value(ask, feature.name)
            self._plain.append((name, _field_of(name, ask, feature.name)))

    def update(self, event: Any, at: float) -> None:
        """Count an event; raises FeatureValueError, with nothing changed, when user code fails or a key is
        none."""
        kind = type(event)
        lookups = self._lookups.get(kind)
        if lookups is not None:
            keys = [key_of(event) for _, key_of in lookups]
            _check_keys(((name,) for event_type, name in self._references if event_type is kind), keys)
        intake = self._feeds.get(kind)
        if intake is not None:
            intake.take(event, at)
        if self._is_ranged and kind is self._ask:
            self._ranges.settle()
        if lookups is not None:
            for (found, _), key in zip(lookups, keys, strict=True):
                found.put(key, at, event)

    def tallies(self) -> Mapping[tuple[type, str], Tally]:
        """Tallies of the references known, by event type and the field that they are looked up by."""
        return {place: found.tally for place, found in self._references.items()}

    def come_to(self, time: Time) -> None:
        """The partition's time is `time` now. What is read is of its own time: nothing changes."""

    def put_rows(self, rows: dict[RowKey, StampedRow]) -> None:
        """Put the newest online row of every key touched since the last time, as of its newest event.

        Nothing but an event of the key, which touches it again, changes what such a row says; only
        `retain` may drop values that the row counts, so rows must be put before it.
        """
        for view in self._views:
            view.put_rows(rows)

    def every_row(self) -> Iterator[tuple[RowKey, StampedRow]]:
        """The newest online row of every key that is within a window of its view, whether touched or not."""
        for view in self._views:
            yield from view.every_row()

    def reader(self, view: View) -> Callable[[Any, float], dict[str, Any]]:
        """A function that gives the row of a key of the view as of a time."""
        return _OnlineView(view, self._readings(view)).values

    def read(self, request: Any, at: float) -> dict[str, Any]:
        """The request's feature values; missing ones are absent. Raises FeatureValueError."""
        x: dict[str, Any] = {}
        if self._is_ranged:
            self._ranges.begin()
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
        for name, found, key_of, field_of, ttl in self._found:
            known = found.find(key_of(request), at)
            if known is not None and at - known[0] <= ttl:
                value = field_of(known[1])
                if value is not None:
                    x[name] = value
        if self._is_ranged:
            self._ranges.confine(x)
        if self._computed is not None:
            computed = self._computed(x, self._problem)
            self._ranges.note_inside(computed)
            x.update(computed)
        return x

    def _problem(self, name: str, value: Any, error: BaseException | None) -> None:
        if error is not None:
            raise FeatureValueError(name, "its function raised") from error
        self._ranges.tell(name, value)

    def problems(self) -> list[str]:
        """What there is to tell of the values of the last request: those that came to be out of their valid
        range. It is told once."""
        told, self._ranges.told = self._ranges.told, []
        return told

    def evicted(self) -> int:
        """How many keys had to go for others so far."""
        return sum(table.evicted for table in self._tables.values() if isinstance(table, _BoundedTable))

    def retain(self, watermark: float) -> None:
        """Forget what no event at or after the watermark (seconds) can see."""
        for table in self._tables.values():
            table.retain(watermark)
        for references in self._references.values():
            references.retain(watermark)
        for view in self._views:
            view.retain(watermark)

    def state(self) -> FeatureParts:
        """All that was fed; nothing is copied."""
        return FeatureParts(
            list(self._tables.values()),
            [references.state for references in self._references.values()],
            {view.name: view.state for view in self._views},
            self._ranges.state(),
        )

    def restore(self, state: FeatureParts) -> None:
        """Take over what `state` gave, of the same declarations."""
        for table, found in zip(self._tables.values(), state.tables, strict=True):
            table.restore(found)
        for reference, known in zip(self._references.values(), state.references, strict=True):
            reference.restore(known)
        for view in self._views:
            if view.name in state.views:
                view.state = state.views[view.name]
        self._ranges.restore(state.ranges)
