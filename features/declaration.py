"""How a use case names its features: small immutable declarations, computed by `features.state`."""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args

from features.errors import FeatureDeclarationError

KINDS = (float, int, bool, str)
"""What a feature's values may be."""
SECOND = 1.0
MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
HALF_LIVES = 20
MOST_HALF_LIVES = 1000
"""How far a decayed mean reaches back, and may."""

Clock = Literal["event", "wall"]
Aggregate = Literal[
    "mean", "count", "sum", "min", "max", "std", "latest", "rate", "first", "lag", "decayed", "distinct",
    "newest",
]  # fmt: skip
_EMPTY: Mapping[str, float] = {"count": 0, "sum": 0.0, "rate": 0.0, "distinct": 0}
Outside = Literal["missing", "keep", "refuse"]
Operation = Literal["ratio", "difference", "elapsed", "function"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What people should know of a feature; `monitor` says whether drift monitors watch it.

    `valid` is the smallest and the largest number that makes sense, None for no bound. A value outside is
    told as a dead letter of stage "range", when the one before was not; `outside` says what becomes of it:
    it is "missing", it is kept ("keep"), or the request is refused ("refuse"). What is 0 over no event
    cannot be missing.
    """

    description: str = ""
    unit: str = ""
    monitor: bool = True
    owner: str = ""
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    valid: tuple[float | None, float | None] | None = None
    outside: Outside = "missing"

    @property
    def bounds(self) -> tuple[float, float]:
        """The valid range, infinite where it has no bound."""
        low, high = self.valid or (None, None)
        return float("-inf") if low is None else low, float("inf") if high is None else high

    @property
    def confines(self) -> bool:
        """Whether values out of the range are missing."""
        return self.valid is not None and self.outside == "missing"

    def __post_init__(self) -> None:
        if self.outside not in get_args(Outside):
            raise FeatureDeclarationError(
                f"outside is one of {', '.join(get_args(Outside))}, not {self.outside!r}"
            )
        if self.valid is not None:
            low, high = self.valid
            if low is not None and high is not None and not low <= high:
                raise FeatureDeclarationError(f"a valid range goes from low to high, not {self.valid!r}")


def kind_in(hint: Any) -> type | None:
    """The one kind of value, beside None, that a type hint allows; None where there are several or others."""
    kinds = [part for part in get_args(hint) if part is not NoneType] or [hint]
    return kinds[0] if len(kinds) == 1 and kinds[0] in KINDS else None


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
    None are left out. `argument` is what the aggregate needs beside: which value a lag is, the half-life of
    a decayed mean in seconds, the largest distinct count. With `max_keys`, a partition holds the keys whose
    newest events are the newest; a key that had to go is one never seen. `ttl` is how many seconds an online
    value counts, `over` unless it is declared.
    """

    aggregate: Aggregate
    event: type
    value: str | Callable[[Any], Any] | None
    by: tuple[str, ...]
    over: float
    note: Note = Note()
    argument: float | None = None
    max_keys: int | None = None
    ttl: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers (Feast's Int64); all others are Float64."""
        return self.aggregate in ("count", "distinct")

    @property
    def empty(self) -> float | None:
        """The value over no event at all; None when it is missing then."""
        return _EMPTY.get(self.aggregate)

    @property
    def lifetime(self) -> float:
        """Seconds for which an online value counts."""
        return self.over if self.ttl is None else self.ttl


@dataclass(frozen=True, slots=True)
class Lookup:
    """A field of the newest reference whose `by` field equals the request's, missing when that is older
    than `ttl` seconds."""

    event: type
    field: str
    by: str
    note: Note = Note()
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Seconds from the newest event of a window to the request.

    They change as one looks on, so what is stored is the window's value: the time of that event.
    """

    window: Window
    note: Note = Note()


@dataclass(frozen=True, slots=True)
class OnDemand:
    """A value computed from other features `of` the case when they are read; missing when one of them is.

    `function` is None for the operations that are declared by their name alone.
    """

    operation: Operation
    of: tuple[str, ...]
    function: Callable[..., Any] | None
    kind: type
    note: Note = Note()


Feature = RequestField | Derived | Window | Lookup | Elapsed | OnDemand
By = str | tuple[str, ...]
Value = str | Callable[[Any], Any]


def _window(
    aggregate: Aggregate,
    event: type,
    value: Value | None,
    by: By,
    over: float,
    note: dict[str, Any],
    argument: float | None = None,
) -> Window:
    """`note` has `max_keys` and `ttl` too, which are the window's."""
    what = f"{aggregate} of {event.__name__}"
    bounds = {name: note.pop(name, None) for name in ("max_keys", "ttl")}
    for name, number in (("over", over), *bounds.items()):
        if number is not None and not number > 0:
            raise FeatureDeclarationError(f"{what}: {name} must be > 0, not {number!r}")
    keys = (by,) if isinstance(by, str) else tuple(by)
    window = Window(aggregate, event, value, keys, float(over), Note(**note), argument, **bounds)
    if window.empty is not None and window.note.confines:
        raise FeatureDeclarationError(
            f"{what}: it is {window.empty:g} where the store has no value, so that none can be missing for "
            'being out of its valid range: declare outside="keep" or outside="refuse"'
        )
    return window


def field(name: str, **note: Any) -> RequestField:
    """The request's field `name`. `note`: what `Note` has, and of windows `max_keys` and `ttl` too."""
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


def first(event: type, value: Value, *, by: By, over: float, **note: Any) -> Window:
    """The oldest value of the last `over` seconds, of equal times the earlier arrival's."""
    return _window("first", event, value, by, over, note)


def lag(event: type, value: Value, n: int, *, by: By, over: float, **note: Any) -> Window:
    """The value `n` events ago in event time, 1 being the newest; missing when older than `over` seconds."""
    if n < 1:
        raise FeatureDeclarationError(f"lag of {event.__name__}: n must be >= 1, not {n!r}")
    return _window("lag", event, value, by, over, note, n)


def decayed(
    event: type, value: Value, *, by: By, half_life: float, over: float | None = None, **note: Any
) -> Window:
    """Mean in which a value counts half as much as one that is `half_life` seconds newer.

    Values older than `over` seconds do not count at all; without it that is 20 half-lives, whose values weigh
    a millionth. The mean does not change between events, as all weights fade alike.
    """
    if not half_life > 0:
        raise FeatureDeclarationError(
            f"decayed mean of {event.__name__}: half_life must be > 0 seconds, not {half_life!r}"
        )
    reach = HALF_LIVES * half_life if over is None else over
    if reach > MOST_HALF_LIVES * half_life:
        raise FeatureDeclarationError(
            f"decayed mean of {event.__name__}: what is {MOST_HALF_LIVES} half-lives old weighs nothing; "
            f"over must be less than {reach!r}"
        )
    return _window("decayed", event, value, by, reach, note, float(half_life))


def distinct(event: type, value: Value, *, by: By, over: float, most: int = 1000, **note: Any) -> Window:
    """Number of different values (numbers, texts) in the last `over` seconds; 0 when there is none.

    Exact up to `most`; a larger number is told as `most`, so that what is kept is bounded.
    """
    if most < 1:
        raise FeatureDeclarationError(f"distinct of {event.__name__}: most must be >= 1, not {most!r}")
    return _window("distinct", event, value, by, over, note, most)


def since(event: type, *, by: By, over: float, **note: Any) -> Elapsed:
    """Seconds since the newest event; missing when that is `over` seconds ago or more.

    The feature store has the time of that event, under the feature's name and `_at`, in seconds since the
    epoch; the seconds since are an on-demand feature.
    """
    window = _window("newest", event, None, by, over, note)
    noted = window.note
    stored = dataclasses.replace(
        noted, unit="seconds since the epoch", monitor=False, valid=None, outside="missing"
    )
    return Elapsed(dataclasses.replace(window, note=stored), dataclasses.replace(noted, unit="seconds"))


def ratio(numerator: str, denominator: str, **note: Any) -> OnDemand:
    """One feature divided by another; missing when that is 0, or the quotient beyond 1e15."""
    return OnDemand("ratio", (numerator, denominator), None, float, Note(**note))


def difference(minuend: str, subtrahend: str, **note: Any) -> OnDemand:
    """One feature less another."""
    return OnDemand("difference", (minuend, subtrahend), None, float, Note(**note))


def on_demand(
    function: Callable[..., Any], *, of: str | tuple[str, ...], kind: type = float, **note: Any
) -> OnDemand:
    """A pure function of other features, in the order of `of`, computed when they are read.

    It is called when none of them is missing, and gives None or a `kind` (float, int, bool, str). Feast runs
    it in other processes, from its own code: what it imports, it imports within.
    """
    if kind not in KINDS:
        raise FeatureDeclarationError(f"on-demand features are float, int, bool or str, not {kind!r}")
    names = (of,) if isinstance(of, str) else tuple(of)
    return OnDemand("function", names, function, kind, Note(**note))


def lookup(event: type, field: str, *, by: str, ttl: float | None = None, **note: Any) -> Lookup:
    """The field of a reference event, found by the request's field `by`; missing when that is of more than
    `ttl` seconds ago."""
    return Lookup(event, field, by, Note(**note), ttl)


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
        """Seconds after which a row says nothing any more: the longest window, or a longer ttl."""
        return builtins.max(builtins.max(w.over, w.lifetime) for w in self.features.values())


def fields_computed_with(features: Mapping[str, Feature], ask: type) -> dict[type, set[str]]:
    """The fields of each event type whose values enter features as they are."""
    found: dict[type, set[str]] = {}
    for feature in features.values():
        window = feature.window if isinstance(feature, Elapsed) else feature
        if isinstance(window, RequestField):
            found.setdefault(ask, set()).add(window.name)
        elif isinstance(window, Lookup):
            found.setdefault(window.event, set()).add(window.field)
        elif isinstance(window, Window) and isinstance(window.value, str):
            found.setdefault(window.event, set()).add(window.value)
    return found


def stored_name(elapsed: str) -> str:
    """The name under which the feature store has what an `Elapsed` of that name is computed from."""
    return f"{elapsed}_at"


def views(case: str, features: Mapping[str, Feature], clock: Clock = "wall") -> list[View]:
    """The feature views of a case, one a key, in the order of declaration."""
    grouped: dict[tuple[str, ...], dict[str, Window]] = {}
    for name, feature in features.items():
        if isinstance(feature, Window):
            grouped.setdefault(feature.by, {})[name] = feature
        elif isinstance(feature, Elapsed):
            grouped.setdefault(feature.window.by, {})[stored_name(name)] = feature.window
    return [View(f"{case}_by_{'_'.join(keys)}", keys, group, clock) for keys, group in grouped.items()]
