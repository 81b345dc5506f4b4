"""How a use case names its features: small immutable declarations, computed by `features.state`."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from features.errors import FeatureDeclarationError

SECOND = 1.0
MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0

Clock = Literal["event", "wall"]
Aggregate = Literal["mean", "count", "sum", "min", "max", "std", "latest", "rate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What people should know of a feature; `monitor` says whether drift monitors watch it."""

    description: str = ""
    unit: str = ""
    monitor: bool = True


@dataclass(frozen=True, slots=True)
class RequestField:
    """A field of the request itself."""

    name: str
    note: Note = Note()


@dataclass(frozen=True, slots=True)
class Derived:
    """A pure function of the request; None means missing."""

    function: Callable[[Any], Any]
    note: Note = Note()


@dataclass(frozen=True, slots=True)
class Window:
    """An aggregate of `value` over the events of one type and key in (t - over, t], in event time.

    `value` is a field name, a function of the event, or None for counts. Events whose value is
    None are left out.
    """

    aggregate: Aggregate
    event: type
    value: str | Callable[[Any], Any] | None
    by: tuple[str, ...]
    over: float
    note: Note = Note()

    @property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers (Feast's Int64); all others are Float64."""
        return self.aggregate == "count"


@dataclass(frozen=True, slots=True)
class Lookup:
    """A field of the newest reference whose `by` field equals the request's."""

    event: type
    field: str
    by: str
    note: Note = Note()


Feature = RequestField | Derived | Window | Lookup
By = str | tuple[str, ...]
Value = str | Callable[[Any], Any]


def _window(
    aggregate: Aggregate, event: type, value: Value | None, by: By, over: float, note: dict[str, Any]
) -> Window:
    if not over > 0:
        raise FeatureDeclarationError(
            f"{aggregate} of {event.__name__}: over must be > 0 seconds, not {over!r}"
        )
    keys = (by,) if isinstance(by, str) else tuple(by)
    return Window(aggregate, event, value, keys, float(over), Note(**note))


def field(name: str, **note: Any) -> RequestField:
    """The request's field `name`. `note`: description, unit, monitor."""
    return RequestField(name, Note(**note))


def derive(function: Callable[[Any], Any], **note: Any) -> Derived:
    """A pure function of the request, such as the hour of its `at`."""
    return Derived(function, Note(**note))


def mean(event: type, value: Value, *, by: By, over: float, **note: Any) -> Window:
    """Mean over the last `over` seconds; missing while there is none."""
    return _window("mean", event, value, by, over, note)


def count(event: type, *, by: By, over: float, **note: Any) -> Window:
    """Number of events in the last `over` seconds; 0 when there is none."""
    return _window("count", event, None, by, over, note)


def sum(event: type, value: Value, *, by: By, over: float, **note: Any) -> Window:
    """Sum over the last `over` seconds; 0 when there is none."""
    return _window("sum", event, value, by, over, note)


def min(event: type, value: Value, *, by: By, over: float, **note: Any) -> Window:
    """Smallest value of the last `over` seconds; missing while there is none."""
    return _window("min", event, value, by, over, note)


def max(event: type, value: Value, *, by: By, over: float, **note: Any) -> Window:
    """Largest value of the last `over` seconds; missing while there is none."""
    return _window("max", event, value, by, over, note)


def std(event: type, value: Value, *, by: By, over: float, **note: Any) -> Window:
    """Population standard deviation over the last `over` seconds; missing while there is none."""
    return _window("std", event, value, by, over, note)


def latest(event: type, value: Value, *, by: By, ttl: float, **note: Any) -> Window:
    """The newest value in event time, missing when older than `ttl` seconds."""
    return _window("latest", event, value, by, ttl, note)


last = latest


def rate(event: type, *, by: By, over: float, **note: Any) -> Window:
    """Events per second over the last `over` seconds."""
    return _window("rate", event, None, by, over, note)


def lookup(event: type, field: str, *, by: str, **note: Any) -> Lookup:
    """The field of a reference event, found by the request's field `by`."""
    return Lookup(event, field, by, Note(**note))


@dataclass(frozen=True, slots=True)
class View:
    """The online features of one entity: those windows that share their key fields.

    `clock` says whose time its rows are of: "wall" when they age as one looks on, "event" when they
    come from history, so that the wall clock says nothing about them.
    """

    name: str
    keys: tuple[str, ...]
    features: Mapping[str, Window]
    clock: Clock = "wall"

    @property
    def ttl(self) -> float:
        """Seconds after which a row says nothing any more: the longest window."""
        return builtins.max(window.over for window in self.features.values())


def views(case: str, features: Mapping[str, Feature], clock: Clock = "wall") -> list[View]:
    """The feature views of a case, one a key, in the order of declaration."""
    grouped: dict[tuple[str, ...], dict[str, Window]] = {}
    for name, feature in features.items():
        if isinstance(feature, Window):
            grouped.setdefault(feature.by, {})[name] = feature
    return [View(f"{case}_by_{'_'.join(keys)}", keys, group, clock) for keys, group in grouped.items()]
