"""The functions with which a case declares its features: windows, fields of the request, and features
computed from others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Unpack

from driftline.declaration_check import ABOVE_0, Duration, names, seconds, shown
from driftline.features.declare.declaration import (
    HALF_LIVES,
    MOST_HALF_LIVES,
    Aggregate,
    By,
    Derived,
    E,
    Elapsed,
    Lookup,
    OnDemand,
    RequestField,
    Value,
    Window,
)
from driftline.features.declare.keys import FEATURE_KINDS
from driftline.features.declare.notes import LatestNotes, Notes, SteppedNotes, WindowNotes, note_of
from driftline.features.errors import FeatureDeclarationError


def _window(
    aggregate: Aggregate,
    event: type[E],
    value: Value[E] | None,
    by: By,
    over: Duration,
    given: LatestNotes | WindowNotes | SteppedNotes,
    argument: float | None = None,
) -> Window:
    """`given` also has the window's `max_keys`, `ttl` and `resolution`."""
    what = _called(aggregate, event)
    note = note_of(given, what, ("max_keys", "ttl", "resolution"))

    def span(name: str) -> float | None:
        value: Any = given.get(name)
        return None if value is None else seconds(value, f"{what}: {name}", FeatureDeclarationError, ABOVE_0)

    window = Window(
        aggregate,
        event,
        value,
        names(by, f"{what}: by", FeatureDeclarationError),
        seconds(over, f"{what}: over", FeatureDeclarationError, ABOVE_0),
        note,
        argument,
        given.get("max_keys"),
        span("ttl"),
        span("resolution"),
    )
    if window.empty is not None and window.note.confines:
        raise FeatureDeclarationError(
            f"{what}: it is {window.empty:g} where the store has no value, so that none can be missing for "
            'being out of its valid range: declare outside="keep" or outside="refuse"'
        )
    return window


def _called(aggregate: str, event: object) -> str:
    """A window's name in messages; raises FeatureDeclarationError for anything but an event class."""
    if not isinstance(event, type):
        raise FeatureDeclarationError(f"{aggregate}: expected an event class, not {shown(event)}")
    return f"{aggregate} of {event.__name__}"


def _check_whole(given: object, where: str) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise FeatureDeclarationError(f"{where} must be a whole number >= 1, not {shown(given)}")


def field(name: str, **note: Unpack[Notes]) -> RequestField:
    """The request's field `name`, a number, bool or text.

    Every feature takes the same optional keywords: `description`, `unit`, `owner`, `tags` (a dict of texts),
    `valid` (the least and the largest number that makes sense), `outside` ("missing", "keep" or "refuse":
    what happens to a value outside) and `monitor` (False: no drift monitors). Raises FeatureDeclarationError
    for a wrong argument.

    >>> from driftline.features.example import Paid, at_ten
    >>> at_ten(field("customers"))
    8
    """
    return RequestField(name, note_of(note, "field"))


def derive(function: Callable[[Any], Any], **note: Unpack[Notes]) -> Derived:
    """A pure function of the request, such as the hour of its `at`. Keywords are those of `field`.

    It must depend on the request alone, and returns a finite number, a text, a bool, or None for a missing
    value.

    >>> from driftline.features.example import Paid, at_ten
    >>> at_ten(derive(lambda request: request.at.hour))
    10
    """
    return Derived(function, note_of(note, "derive"))


def mean(event: type[E], value: Value[E], *, by: By, over: Duration, **note: Unpack[SteppedNotes]) -> Window:
    """Mean over the last `over` seconds; missing if there is no value.

    Parameters
    ----------
    event
        The type of events to take values from.
    value
        A field of the event, or a function of it. It must give a number, or None to skip the event.
    by
        The field or fields of the key: the window of a request has the events with the same values of them.
    over
        The length of the window in seconds of event time, or a timedelta. It excludes the request itself.
    note
        Optional keywords: those of `field`; `max_keys` bounds the number of keys in memory (those not seen
        for longest are evicted); `ttl` is how long the value is valid in the online store; `resolution`
        rounds event times down to steps of so many seconds, which saves memory in long windows.

    >>> from driftline.features.example import Paid, at_ten
    >>> at_ten(mean(Paid, "amount", by="shop", over=3600.0))
    30.0
    """
    return _window("mean", event, value, by, over, note)


def count(event: type[E], *, by: By, over: Duration, **note: Unpack[SteppedNotes]) -> Window:
    """Number of events in the last `over` seconds; 0 if there is none. Parameters: see `mean`.

    >>> from driftline.features.example import Paid, at_ten
    >>> at_ten(count(Paid, by="shop", over=3600.0))
    3
    """
    return _window("count", event, None, by, over, note)


def sum(event: type[E], value: Value[E], *, by: By, over: Duration, **note: Unpack[SteppedNotes]) -> Window:
    """Sum over the last `over` seconds; 0 if there is none. Parameters: see `mean`.

    >>> from driftline.features.example import Paid, at_ten
    >>> at_ten(sum(Paid, "amount", by="shop", over=3600.0))
    90.0
    """
    return _window("sum", event, value, by, over, note)


def min(event: type[E], value: Value[E], *, by: By, over: Duration, **note: Unpack[SteppedNotes]) -> Window:
    """Smallest value of the last `over` seconds; missing if there is no value. Parameters: see `mean`.

    >>> from driftline.features.example import Paid, at_ten
    >>> at_ten(min(Paid, "amount", by="shop", over=3600.0))
    10.0
    """
    return _window("min", event, value, by, over, note)


def max(event: type[E], value: Value[E], *, by: By, over: Duration, **note: Unpack[SteppedNotes]) -> Window:
    """Largest value of the last `over` seconds; missing if there is no value. Parameters: see `mean`.

    >>> from driftline.features.example import Paid, at_ten
    >>> at_ten(max(Paid, "amount", by="shop", over=3600.0))
    60.0
    """
    return _window("max", event, value, by, over, note)


def std(event: type[E], value: Value[E], *, by: By, over: Duration, **note: Unpack[SteppedNotes]) -> Window:
    """Population standard deviation over the last `over` seconds; missing if there is no value.

    Parameters: see `mean`.

    >>> from driftline.features.example import Paid, at_ten
    >>> round(at_ten(std(Paid, "amount", by="shop", over=3600.0)), 3)
    21.602
    """
    return _window("std", event, value, by, over, note)


def latest(event: type[E], value: Value[E], *, by: By, ttl: Duration, **note: Unpack[LatestNotes]) -> Window:
    """The newest value in event time; missing if it is older than `ttl` seconds. Parameters: see `mean`.

    `driftline.last` is another name of this function.

    >>> from driftline.features.example import Paid, at_ten
    >>> at_ten(latest(Paid, "amount", by="shop", ttl=3600.0))
    60.0
    """
    return _window("latest", event, value, by, ttl, note)


last = latest


def rate(event: type[E], *, by: By, over: Duration, **note: Unpack[SteppedNotes]) -> Window:
    """Events per second over the last `over` seconds. Parameters: see `mean`.

    >>> from driftline.features.example import Paid, at_ten
    >>> round(at_ten(rate(Paid, by="shop", over=3600.0)) * 3600.0)
    3
    """
    return _window("rate", event, None, by, over, note)


def first(event: type[E], value: Value[E], *, by: By, over: Duration, **note: Unpack[WindowNotes]) -> Window:
    """The oldest value of the last `over` seconds; of equal times, the one that arrived first.

    It is missing if there is no value. Parameters: see `mean`.

    >>> from driftline.features.example import Paid, at_ten
    >>> at_ten(first(Paid, "amount", by="shop", over=3600.0))
    10.0
    """
    return _window("first", event, value, by, over, note)


def lag(
    event: type[E], value: Value[E], n: int, *, by: By, over: Duration, **note: Unpack[WindowNotes]
) -> Window:
    """The n-th newest value in event time; missing if it is older than `over` seconds.

    `n` counts from 1, the newest value. Other parameters: see `mean`.

    >>> from driftline.features.example import Paid, at_ten
    >>> at_ten(lag(Paid, "amount", 2, by="shop", over=3600.0))
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
    **note: Unpack[SteppedNotes],
) -> Window:
    """Weighted mean: a value weighs half as much as one that is `half_life` seconds newer. Missing without
    values.

    Values older than `over` seconds do not count; the default is 20 half-lives, where weights are a
    millionth. The mean does not change between events, as all weights decrease by the same factor.
    Parameters: see `mean`.

    >>> from driftline.features.example import Paid, at_ten
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
    """Number of different values (numbers or texts) in the last `over` seconds; 0 if there is none.

    It is exact up to `most`. A larger number is given as `most`, which bounds the memory. Parameters: see
    `mean`.

    >>> from driftline.features.example import Paid, at_ten
    >>> at_ten(distinct(Paid, "payer", by="shop", over=3600.0))
    2
    """
    _check_whole(most, f"{_called('distinct', event)}: most")
    return _window("distinct", event, value, by, over, note, most)


def since(event: type[E], *, by: By, over: Duration, **note: Unpack[WindowNotes]) -> Elapsed:
    """Seconds since the newest event; missing if it is `over` seconds old or older. Parameters: see `mean`.

    The feature store has the time of that event in seconds since the epoch, as a feature with this one's name
    and `_at`. The seconds since then are an on-demand feature in Feast.

    >>> from driftline.features.example import Paid, at_ten
    >>> at_ten(since(Paid, by="shop", over=3600.0))
    600.0
    """
    window = _window("newest", event, None, by, over, note)
    noted = window.note
    stored = dataclasses.replace(
        noted, unit="seconds since the epoch", monitor=False, valid=None, outside="missing"
    )
    return Elapsed(dataclasses.replace(window, note=stored), dataclasses.replace(noted, unit="seconds"))


def ratio(numerator: str, denominator: str, **note: Unpack[Notes]) -> OnDemand:
    """One feature divided by another. Missing if the denominator is 0 or the quotient is beyond 1e15.

    Both are names of features. Keywords are those of `field`.

    >>> from driftline.features.example import Paid, at_ten
    >>> last_hour, last_half = (sum(Paid, "amount", by="shop", over=over) for over in (3600.0, 1800.0))
    >>> round(at_ten(ratio("half", "hour"), half=last_half, hour=last_hour), 3)
    0.889
    """
    return OnDemand("ratio", (numerator, denominator), None, float, note_of(note, "ratio"))


def difference(minuend: str, subtrahend: str, **note: Unpack[Notes]) -> OnDemand:
    """One feature minus another. Missing if one of them is missing.

    Both are names of features. Keywords are those of `field`.

    >>> from driftline.features.example import Paid, at_ten
    >>> last_hour, last_half = (mean(Paid, "amount", by="shop", over=over) for over in (3600.0, 1800.0))
    >>> at_ten(difference("half", "hour"), half=last_half, hour=last_hour)
    10.0
    """
    return OnDemand("difference", (minuend, subtrahend), None, float, note_of(note, "difference"))


def on_demand(
    function: Callable[..., Any], *, of: str | tuple[str, ...], kind: type = float, **note: Unpack[Notes]
) -> OnDemand:
    """A pure function of other features, computed when they are read.

    `of` has the names of the features, in the order of the function's parameters. It is called only if none
    of them is missing, and returns a `kind` (float, int, bool or str) or None. Feast runs it in other
    processes, without its module, so put its imports inside it. Keywords are those of `field`.

    >>> from driftline.features.example import Paid, at_ten
    >>> hour = mean(Paid, "amount", by="shop", over=3600.0)
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
    """A field of the newest `Reference` event with the same value of the field `by` as the request.

    It is missing if there is none, or if it is older than `ttl` seconds. Keywords are those of `field`. A
    product's weight, for a request that has a field `product`:

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
