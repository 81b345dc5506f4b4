"""How a use case names its features: small immutable declarations, computed by
`driftline.features.state.feature_state`."""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Unpack

import msgspec

from driftline.declared import ABOVE_0, AT_LEAST_1, Duration, check, names, seconds, shown
from driftline.features.declare.keys import FEATURE_KINDS, kinds_of
from driftline.features.declare.notes import NOTHING_NOTED, LatestNotes, Note, Notes, WindowNotes, note_of
from driftline.features.errors import FeatureDeclarationError

SECOND = 1.0
MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
WEEK = 604800.0
HALF_LIVES = 20
MOST_HALF_LIVES = 1000
"""How far a decayed mean reaches back, and may."""

ClockKind = Literal["event", "wall"]
Aggregate = Literal[
    "mean", "count", "sum", "min", "max", "std", "latest", "rate", "first", "lag", "decayed", "distinct",
    "newest",
]  # fmt: skip
_OF_EVENTS = ("count", "rate", "newest")
"""Aggregates of the events themselves, without a value."""
_EMPTY: Mapping[str, float] = {"count": 0, "sum": 0.0, "rate": 0.0, "distinct": 0}
Operation = Literal["ratio", "difference", "elapsed", "function"]


def kind_in(hint: Any) -> type | None:
    """The one kind of value, beside None, that a type hint allows; None where there are several or others."""
    kinds = kinds_of(hint)
    return kinds[0] if len(kinds) == 1 and kinds[0] in FEATURE_KINDS else None


@dataclass(frozen=True, slots=True)
class RequestField:
    """A field of the request itself."""

    name: str
    note: Note = NOTHING_NOTED

    def __post_init__(self) -> None:
        check(self, FeatureDeclarationError)


@dataclass(frozen=True, slots=True)
class Derived:
    """A pure function of the request; None means missing."""

    function: Callable[[Any], Any]
    note: Note = NOTHING_NOTED

    def __post_init__(self) -> None:
        check(self, FeatureDeclarationError)


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
    note: Note = NOTHING_NOTED
    argument: float | None = None
    max_keys: Annotated[int, AT_LEAST_1] | None = None
    ttl: Annotated[float, ABOVE_0] | None = None

    def __post_init__(self) -> None:
        check(self, FeatureDeclarationError, self.aggregate)
        if self.value is None and self.aggregate not in _OF_EVENTS:
            raise FeatureDeclarationError(
                f"{self.aggregate} of {self.event.__name__}: value: expected the name of a field or a "
                "function of the event, not None"
            )

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
    note: Note = NOTHING_NOTED
    ttl: Annotated[float, ABOVE_0] | None = None

    def __post_init__(self) -> None:
        check(self, FeatureDeclarationError)


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Seconds from the newest event of a window to the request.

    They change as one looks on, so what is stored is the window's value: the time of that event.
    """

    window: Window
    note: Note = NOTHING_NOTED


@dataclass(frozen=True, slots=True)
class OnDemand:
    """A value computed from other features `of` the case when they are read; missing when one of them is.

    `function` is None for the operations that are declared by their name alone.
    """

    operation: Operation
    of: tuple[str, ...]
    function: Callable[..., Any] | None
    kind: type
    note: Note = NOTHING_NOTED

    def __post_init__(self) -> None:
        check(self, FeatureDeclarationError)


Feature = RequestField | Derived | Window | Lookup | Elapsed | OnDemand
By = str | tuple[str, ...]
E = TypeVar("E", bound=msgspec.Struct)
Value = str | Callable[[E], Any]


def _window(
    aggregate: Aggregate,
    event: type[E],
    value: Value[E] | None,
    by: By,
    over: Duration,
    given: LatestNotes | WindowNotes,
    argument: float | None = None,
) -> Window:
    """`given` has `max_keys` and `ttl` too, which are the window's."""
    what = _called(aggregate, event)
    note = note_of(given, what, ("max_keys", "ttl"))
    ttl: Any = given.get("ttl")
    window = Window(
        aggregate,
        event,
        value,
        names(by, f"{what}: by", FeatureDeclarationError),
        seconds(over, f"{what}: over", FeatureDeclarationError, ABOVE_0),
        note,
        argument,
        given.get("max_keys"),
        None if ttl is None else seconds(ttl, f"{what}: ttl", FeatureDeclarationError, ABOVE_0),
    )
    if window.empty is not None and window.note.confines:
        raise FeatureDeclarationError(
            f"{what}: it is {window.empty:g} where the store has no value, so that none can be missing for "
            'being out of its valid range: declare outside="keep" or outside="refuse"'
        )
    return window


def _called(aggregate: str, event: object) -> str:
    """What a window is called in messages; raises FeatureDeclarationError for what is no event class."""
    if not isinstance(event, type):
        raise FeatureDeclarationError(f"{aggregate}: expected an event class, not {shown(event)}")
    return f"{aggregate} of {event.__name__}"


def _check_whole(given: object, where: str) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise FeatureDeclarationError(f"{where} must be a whole number >= 1, not {shown(given)}")


def field(name: str, **note: Unpack[Notes]) -> RequestField:
    """The request's field `name`. `note`: what `Note` has, and of windows `max_keys` and `ttl` too.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> at_ten(field("customers"))
    8
    """
    return RequestField(name, note_of(note, "field"))


def derive(function: Callable[[Any], Any], **note: Unpack[Notes]) -> Derived:
    """A pure function of the request, such as the hour of its `at`.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> at_ten(derive(lambda request: request.at.hour))
    10
    """
    return Derived(function, note_of(note, "derive"))


def mean(event: type[E], value: Value[E], *, by: By, over: Duration, **note: Unpack[WindowNotes]) -> Window:
    """Mean over the last `over` seconds; missing while there is none.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> at_ten(mean(Paid, "amount", by="shop", over=HOUR))
    30.0
    """
    return _window("mean", event, value, by, over, note)


def count(event: type[E], *, by: By, over: Duration, **note: Unpack[WindowNotes]) -> Window:
    """Number of events in the last `over` seconds; 0 when there is none.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> at_ten(count(Paid, by="shop", over=HOUR))
    3
    """
    return _window("count", event, None, by, over, note)


def sum(event: type[E], value: Value[E], *, by: By, over: Duration, **note: Unpack[WindowNotes]) -> Window:
    """Sum over the last `over` seconds; 0 when there is none.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> at_ten(sum(Paid, "amount", by="shop", over=HOUR))
    90.0
    """
    return _window("sum", event, value, by, over, note)


def min(event: type[E], value: Value[E], *, by: By, over: Duration, **note: Unpack[WindowNotes]) -> Window:
    """Smallest value of the last `over` seconds; missing while there is none.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> at_ten(min(Paid, "amount", by="shop", over=HOUR))
    10.0
    """
    return _window("min", event, value, by, over, note)


def max(event: type[E], value: Value[E], *, by: By, over: Duration, **note: Unpack[WindowNotes]) -> Window:
    """Largest value of the last `over` seconds; missing while there is none.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> at_ten(max(Paid, "amount", by="shop", over=HOUR))
    60.0
    """
    return _window("max", event, value, by, over, note)


def std(event: type[E], value: Value[E], *, by: By, over: Duration, **note: Unpack[WindowNotes]) -> Window:
    """Population standard deviation over the last `over` seconds; missing while there is none.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> round(at_ten(std(Paid, "amount", by="shop", over=HOUR)), 3)
    21.602
    """
    return _window("std", event, value, by, over, note)


def latest(event: type[E], value: Value[E], *, by: By, ttl: Duration, **note: Unpack[LatestNotes]) -> Window:
    """The newest value in event time, missing when older than `ttl` seconds.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> at_ten(latest(Paid, "amount", by="shop", ttl=HOUR))
    60.0
    """
    return _window("latest", event, value, by, ttl, note)


last = latest


def rate(event: type[E], *, by: By, over: Duration, **note: Unpack[WindowNotes]) -> Window:
    """Events per second over the last `over` seconds.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> round(at_ten(rate(Paid, by="shop", over=HOUR)) * HOUR)
    3
    """
    return _window("rate", event, None, by, over, note)


def first(event: type[E], value: Value[E], *, by: By, over: Duration, **note: Unpack[WindowNotes]) -> Window:
    """The oldest value of the last `over` seconds, of equal times the earlier arrival's.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> at_ten(first(Paid, "amount", by="shop", over=HOUR))
    10.0
    """
    return _window("first", event, value, by, over, note)


def lag(
    event: type[E], value: Value[E], n: int, *, by: By, over: Duration, **note: Unpack[WindowNotes]
) -> Window:
    """The value `n` events ago in event time, 1 being the newest; missing when older than `over` seconds.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> at_ten(lag(Paid, "amount", 2, by="shop", over=HOUR))
    20.0
    """
    _check_whole(n, f"{_called('lag', event)}: n")
    return _window("lag", event, value, by, over, note, n)


def decayed(
    event: type[E],
    value: Value[E],
    *,
    by: By,
    half_life: Duration,
    over: Duration | None = None,
    **note: Unpack[WindowNotes],
) -> Window:
    """Mean in which a value counts half as much as one that is `half_life` seconds newer.

    Values older than `over` seconds do not count at all; without it that is 20 half-lives, whose values weigh
    a millionth. The mean does not change between events, as all weights fade alike.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> at_ten(decayed(Paid, "amount", by="shop", half_life=600.0))
    45.2
    """
    what = _called("decayed mean", event)
    half = seconds(half_life, f"{what}: half_life", FeatureDeclarationError, ABOVE_0)
    reach = HALF_LIVES * half
    if over is not None:
        reach = seconds(over, f"{what}: over", FeatureDeclarationError, ABOVE_0)
    if reach > MOST_HALF_LIVES * half:
        raise FeatureDeclarationError(
            f"{what}: what is {MOST_HALF_LIVES} half-lives old weighs nothing; "
            f"over must be less than {reach!r}"
        )
    return _window("decayed", event, value, by, reach, note, half)


def distinct(
    event: type[E], value: Value[E], *, by: By, over: Duration, most: int = 1000, **note: Unpack[WindowNotes]
) -> Window:
    """Number of different values (numbers, texts) in the last `over` seconds; 0 when there is none.

    Exact up to `most`; a larger number is given as `most`, so that the state is bounded.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> at_ten(distinct(Paid, "payer", by="shop", over=HOUR))
    2
    """
    _check_whole(most, f"{_called('distinct', event)}: most")
    return _window("distinct", event, value, by, over, note, most)


def since(event: type[E], *, by: By, over: Duration, **note: Unpack[WindowNotes]) -> Elapsed:
    """Seconds since the newest event; missing when that is `over` seconds ago or more.

    The feature store has the time of that event, under the feature's name and `_at`, in seconds since the
    epoch; the seconds since are an on-demand feature.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> at_ten(since(Paid, by="shop", over=HOUR))
    600.0
    """
    window = _window("newest", event, None, by, over, note)
    noted = window.note
    stored = dataclasses.replace(
        noted, unit="seconds since the epoch", monitor=False, valid=None, outside="missing"
    )
    return Elapsed(dataclasses.replace(window, note=stored), dataclasses.replace(noted, unit="seconds"))


def ratio(numerator: str, denominator: str, **note: Unpack[Notes]) -> OnDemand:
    """One feature divided by another; missing when that is 0, or the quotient beyond 1e15.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> last_hour, last_half = (sum(Paid, "amount", by="shop", over=over) for over in (HOUR, HOUR / 2))
    >>> round(at_ten(ratio("half", "hour"), half=last_half, hour=last_hour), 3)
    0.889
    """
    return OnDemand("ratio", (numerator, denominator), None, float, note_of(note, "ratio"))


def difference(minuend: str, subtrahend: str, **note: Unpack[Notes]) -> OnDemand:
    """One feature less another.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> last_hour, last_half = (mean(Paid, "amount", by="shop", over=over) for over in (HOUR, HOUR / 2))
    >>> at_ten(difference("half", "hour"), half=last_half, hour=last_hour)
    10.0
    """
    return OnDemand("difference", (minuend, subtrahend), None, float, note_of(note, "difference"))


def on_demand(
    function: Callable[..., Any], *, of: str | tuple[str, ...], kind: type = float, **note: Unpack[Notes]
) -> OnDemand:
    """A pure function of other features, in the order of `of`, computed when they are read.

    It is called when none of them is missing, and gives None or a `kind` (float, int, bool, str). Feast runs
    it in other processes, from its own code: its imports are inside of it.

    >>> from driftline.features.state.payments import Paid, at_ten
    >>> hour = mean(Paid, "amount", by="shop", over=HOUR)
    >>> at_ten(on_demand(lambda mean: mean > 25, of="hour", kind=bool), hour=hour)
    True
    """
    if not callable(function):
        raise FeatureDeclarationError(f"on_demand: expected a function, not {shown(function)}")
    if kind not in FEATURE_KINDS:
        raise FeatureDeclarationError(f"on-demand features are float, int, bool or str, not {shown(kind)}")
    inputs = names(of, "on_demand: of", FeatureDeclarationError)
    return OnDemand("function", inputs, function, kind, note_of(note, "on_demand"))


def lookup(event: type, field: str, *, by: str, ttl: Duration | None = None, **note: Unpack[Notes]) -> Lookup:
    """The field of a reference event, found by the request's field `by`; missing when that is of more than
    `ttl` seconds ago.

    A reference event, such as a product, is found by a field of the request:

    >>> import driftline as dl
    >>> class Product(dl.Reference, tag="product"):
    ...     product: str
    ...     weight: float
    >>> lookup(Product, "weight", by="product").field
    'weight'
    """
    if not isinstance(event, type):
        raise FeatureDeclarationError(f"lookup: expected a reference class, not {shown(event)}")
    what = f"lookup of {event.__name__}"
    lasts = None if ttl is None else seconds(ttl, f"{what}: ttl", FeatureDeclarationError, ABOVE_0)
    return Lookup(event, field, by, note_of(note, what), lasts)


@dataclass(frozen=True, slots=True)
class View:
    """The online features of one entity: those windows that share their key fields.

    `clock` says whose time its rows are of: "wall" when they age as one looks on, "event" when they
    come from history, so that the wall clock says nothing about them.
    """

    name: str
    keys: tuple[str, ...]
    features: Mapping[str, Window]
    clock: ClockKind = "wall"

    @property
    def ttl(self) -> float:
        """Seconds after which a row says nothing any more: the longest window, or a longer ttl."""
        return builtins.max(builtins.max(w.over, w.lifetime) for w in self.features.values())


def fields_computed_with(features: Mapping[str, Feature], ask: type) -> dict[type, set[str]]:
    """The fields of each event type whose values enter features as they are."""
    fields: dict[type, set[str]] = {}
    for feature in features.values():
        window = feature.window if isinstance(feature, Elapsed) else feature
        if isinstance(window, RequestField):
            fields.setdefault(ask, set()).add(window.name)
        elif isinstance(window, Lookup):
            fields.setdefault(window.event, set()).add(window.field)
        elif isinstance(window, Window) and isinstance(window.value, str):
            fields.setdefault(window.event, set()).add(window.value)
    return fields


def stored_name(elapsed: str) -> str:
    """The name under which the feature store has what an `Elapsed` of that name is computed from."""
    return f"{elapsed}_at"


def views(case: str, features: Mapping[str, Feature], clock: ClockKind = "wall") -> list[View]:
    """The feature views of a case, one a key, in the order of declaration."""
    grouped: dict[tuple[str, ...], dict[str, Window]] = {}
    for name, feature in features.items():
        if isinstance(feature, Window):
            grouped.setdefault(feature.by, {})[name] = feature
        elif isinstance(feature, Elapsed):
            grouped.setdefault(feature.window.by, {})[stored_name(name)] = feature.window
    return [View(f"{case}_by_{'_'.join(keys)}", keys, group, clock) for keys, group in grouped.items()]
