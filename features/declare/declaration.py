"""How a use case names its features: small immutable declarations, computed by
`driftline.features.state.feature_state`."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from driftline.declaration_check import ABOVE_0, AT_LEAST_1, check
from driftline.features.declare.keys import FEATURE_KINDS, kinds_of
from driftline.features.declare.notes import NOTHING_NOTED, Note
from driftline.features.errors import FeatureDeclarationError

SECOND = 1.0
MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
WEEK = 604800.0
HALF_LIVES = 20
MOST_HALF_LIVES = 1000
"""Half-lives that a decayed mean reaches back by default, and at most."""

ClockKind = Literal["event", "wall"]
Aggregate = Literal[
    "mean", "count", "sum", "min", "max", "std", "latest", "rate", "first", "lag", "decayed", "distinct",
    "newest",
]  # fmt: skip
_OF_EVENTS = ("count", "rate", "newest")
"""Aggregates of the events themselves, without a value."""
_IN_STEPS = ("count", "rate", "sum", "mean", "std", "min", "max", "decayed")
"""Aggregates that can be computed from those of parts of the window."""
_EMPTY: Mapping[str, float] = {"count": 0, "sum": 0.0, "rate": 0.0, "distinct": 0}
Operation = Literal["ratio", "difference", "elapsed", "function"]


def kind_in(hint: Any) -> type | None:
    """The only kind of value, apart from None, that a type hint allows; None if there are several or
    others."""
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

    `value` is a field name, a function of the event, or None for counts. Events whose value is None are left
    out. `argument` is the aggregate's own parameter: which value a lag is, the half-life of a decayed mean in
    seconds, the largest distinct count. With `max_keys`, a partition holds the keys with the newest events; a
    key that was dropped counts as never seen. `ttl` is for how many seconds an online value is valid, `over`
    unless it is declared. With a `resolution`, all times are rounded down to whole steps of so many seconds
    since the epoch: those of the events, and `t`. So the window holds the step of `t` and those before it,
    `over` long together, and a key keeps the totals of its steps instead of its events.
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
    resolution: Annotated[float, ABOVE_0] | None = None

    def __post_init__(self) -> None:
        check(self, FeatureDeclarationError, self.aggregate)
        if self.resolution is not None:
            self._check_steps(self.resolution)
        if self.value is None and self.aggregate not in _OF_EVENTS:
            raise FeatureDeclarationError(
                f"{self.aggregate} of {self.event.__name__}: value: expected the name of a field or a "
                "function of the event, not None"
            )

    def _check_steps(self, resolution: float) -> None:
        what = f"{self.aggregate} of {self.event.__name__}: resolution"
        if self.aggregate not in _IN_STEPS:
            raise FeatureDeclarationError(
                f"{what}: it cannot be computed from totals of steps, as {', '.join(_IN_STEPS)} can"
            )
        if resolution % 1 or self.over % resolution:
            raise FeatureDeclarationError(
                f"{what}: expected whole seconds of which `over` ({self.over:.15g} s) is a multiple, "
                f"not {resolution:.15g} s"
            )

    def step(self, at: float) -> float:
        """A time (seconds) as the window counts it: where its step begins, if there are steps."""
        return at if self.resolution is None else at // self.resolution * self.resolution

    @property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers (Feast's Int64); all others are Float64."""
        return self.aggregate in ("count", "distinct")

    @property
    def empty(self) -> float | None:
        """The value over no event at all; None if it is missing then."""
        return _EMPTY.get(self.aggregate)

    @property
    def lifetime(self) -> float:
        """Seconds for which an online value is valid."""
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

    They change with every moment, so the stored value is the window's: the time of that event.
    """

    window: Window
    note: Note = NOTHING_NOTED


@dataclass(frozen=True, slots=True)
class OnDemand:
    """A value computed from other features `of` the case when they are read; missing when one of them is.

    `function` is None for the operations that have a name of their own.
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


@dataclass(frozen=True, slots=True)
class View:
    """The online features of one entity: those windows that share their key fields.

    `clock` says how its rows age: by the wall clock ("wall"), or, if they come from history, not at all
    ("event"). Events may be `lateness` seconds late.
    """

    name: str
    keys: tuple[str, ...]
    features: Mapping[str, Window]
    clock: ClockKind = "wall"
    lateness: float = 0.0

    @property
    def ttl(self) -> float:
        """Seconds after which a row is no longer valid: the longest window, or a longer ttl."""
        return builtins.max(builtins.max(w.over, w.lifetime) for w in self.features.values())


def fields_computed_with(features: Mapping[str, Feature], ask: type) -> dict[type, set[str]]:
    """The fields of each event type whose values enter features unchanged."""
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
    """The name of the stored value from which an `Elapsed` of that name is computed."""
    return f"{elapsed}_at"


def views(
    case: str, features: Mapping[str, Feature], clock: ClockKind = "wall", lateness: float = 0.0
) -> list[View]:
    """The feature views of a case, one a key, in the order of declaration."""
    grouped: dict[tuple[str, ...], dict[str, Window]] = {}
    for name, feature in features.items():
        if isinstance(feature, Window):
            grouped.setdefault(feature.by, {})[name] = feature
        elif isinstance(feature, Elapsed):
            grouped.setdefault(feature.window.by, {})[stored_name(name)] = feature.window
    return [
        View(f"{case}_by_{'_'.join(keys)}", keys, group, clock, lateness) for keys, group in grouped.items()
    ]
