"""What one feature value of one request rests on: the events behind it, and the value they give.

Computed in the plainest way, from all the events and with fractions, apart from the windows that serve:
so that the two can be held against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import sqrt
from operator import attrgetter
from typing import Any, NamedTuple

from features.declaration import Derived, Feature, Lookup, RequestField, Window


class Behind(NamedTuple):
    """One event behind a value: its offset in the log, id, event time in seconds, and what it gave."""

    offset: int
    id: str
    at: float
    value: Any


class Evidence(NamedTuple):
    """A feature's declaration in words, its value (None: missing), and the events behind it."""

    declared: str
    value: Any
    behind: Sequence[Behind]


def _mean(values: Sequence[Fraction]) -> float | None:
    return float(sum(values) / len(values)) if values else None


def _std(values: Sequence[Fraction]) -> float | None:
    if not values:
        return None
    mean = sum(values) / len(values)
    return sqrt(float(sum((value - mean) ** 2 for value in values) / len(values)))


_AGGREGATES: Mapping[str, Callable[[Sequence[Fraction]], float | None]] = {
    "mean": _mean,
    "sum": lambda values: float(sum(values)),
    "count": lambda values: len(values),
    "min": lambda values: float(min(values)) if values else None,
    "max": lambda values: float(max(values)) if values else None,
    "std": _std,
}


class _WindowEvidence:
    """Keeps the events of the request's key in (at - over, at] of event time."""

    def __init__(self, feature: Window, request: Any, at: float) -> None:
        self._feature = feature
        self._key_of = attrgetter(*feature.by)
        self._key = self._key_of(request)
        self._has_key = not (None in self._key if isinstance(self._key, tuple) else self._key is None)
        self._at = at
        value = feature.value
        self._value_of = attrgetter(value) if isinstance(value, str) else value
        self._behind: list[Behind] = []

    def offer(self, offset: int, event: Any, at: float) -> None:
        if not self._at - self._feature.over < at <= self._at:
            return
        if not self._has_key or self._key_of(event) != self._key:
            return
        value = 1 if self._value_of is None else self._value_of(event)
        if value is not None:
            self._behind.append(Behind(offset, event.id, at, float(value)))

    def found(self) -> Evidence:
        feature = self._feature
        what = "" if feature.value is None else f".{_name(feature.value)}"
        declared = (
            f"{feature.aggregate} of {feature.event.__name__}{what} by {', '.join(feature.by)} "
            f"over {feature.over:.15g} s"
        )
        # of equal times the later arrival is the newer; sorted keeps the order of arrival
        behind = sorted(self._behind, key=lambda event: event.at)
        return Evidence(declared, self._value(behind), behind)

    def _value(self, behind: Sequence[Behind]) -> Any:
        aggregate = self._feature.aggregate
        if aggregate == "latest":
            return behind[-1].value if behind else None
        if aggregate == "rate":
            return len(behind) / self._feature.over
        return _AGGREGATES[aggregate]([Fraction(event.value) for event in behind])


class _LookupEvidence:
    """Keeps the newest reference of the request's key, whatever its time."""

    def __init__(self, feature: Lookup, request: Any) -> None:
        self._feature = feature
        self._key_of = attrgetter(feature.by)
        self._key = self._key_of(request)
        self._newest: Behind | None = None

    def offer(self, offset: int, event: Any, at: float) -> None:
        if self._key_of(event) == self._key and (self._newest is None or at >= self._newest.at):
            self._newest = Behind(offset, event.id, at, getattr(event, self._feature.field))

    def found(self) -> Evidence:
        feature = self._feature
        declared = f"{feature.field} of the {feature.event.__name__} with the same {feature.by}"
        if self._newest is None:
            return Evidence(declared, None, ())
        return Evidence(declared, self._newest.value, (self._newest,))


class EvidenceCollector:
    """Collects what the features of one request rest on.

    It is offered the events that precede the request in its partition of the log and were accepted, in
    the log's order. `at` is the request's event time in seconds.
    """

    def __init__(self, features: Mapping[str, Feature], request: Any, at: float) -> None:
        self._features = features
        self._request = request
        self._collecting: dict[str, _WindowEvidence | _LookupEvidence] = {}
        self._offers: dict[type, list[_WindowEvidence | _LookupEvidence]] = {}
        for name, feature in features.items():
            if isinstance(feature, Window):
                self._collect(name, feature.event, _WindowEvidence(feature, request, at))
            elif isinstance(feature, Lookup):
                self._collect(name, feature.event, _LookupEvidence(feature, request))

    def _collect(self, name: str, event: type, evidence: _WindowEvidence | _LookupEvidence) -> None:
        self._collecting[name] = evidence
        self._offers.setdefault(event, []).append(evidence)

    def wants(self, event: type) -> bool:
        """Whether events of a type can be behind any value."""
        return event in self._offers

    def offer(self, offset: int, event: Any, at: float) -> None:
        """Take note of one event at an offset and an event time in seconds."""
        for evidence in self._offers.get(type(event), ()):
            evidence.offer(offset, event, at)

    def found(self) -> dict[str, Evidence]:
        """By feature, in the order of declaration."""
        return {name: self._found(name, feature) for name, feature in self._features.items()}

    def _found(self, name: str, feature: Feature) -> Evidence:
        if isinstance(feature, RequestField):
            return Evidence(f"{feature.name} of the request", getattr(self._request, feature.name), ())
        if isinstance(feature, Derived):
            declared = f"{_name(feature.function)} of the request"
            return Evidence(declared, feature.function(self._request), ())
        return self._collecting[name].found()


def _name(value: str | Callable[[Any], Any]) -> str:
    return value if isinstance(value, str) else value.__qualname__
