"""The events behind one feature value of one request, and the value that they give.

The value is computed in the simplest way, from all the events and with fractions. It shares no code with the
windows that serve, so that the two can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from fractions import Fraction
from math import sqrt
from operator import attrgetter
from typing import Any, NamedTuple

from driftline.features.declare.declaration import (
    Derived,
    Elapsed,
    Feature,
    Lookup,
    OnDemand,
    RequestField,
    Window,
)
from driftline.features.declare.feature_descriptions import in_words
from driftline.features.declare.notes import Note
from driftline.features.declare.on_demand import evaluation, step
from driftline.features.declare.ranges import Ranges


class Behind(NamedTuple):
    """One event behind a value: its offset in the log, its id, its event time in seconds (in a window with a
    resolution: the start of its step), and the value it contributed."""

    offset: int
    id: str
    at: float
    value: Any


class FeatureEvidence(NamedTuple):
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


def _decayed(behind: Sequence[Behind], half_life: float) -> float:
    """The weighted mean, with weights rounded as in the windows and fractions for all else."""
    weights = []
    for event in behind:
        halvings, rest = divmod(event.at, half_life)
        weights.append(
            int(2.0 ** (52 + rest / half_life)) * Fraction(2) ** int(halvings - behind[0].at // half_life)
        )
    values = [Fraction(event.value) for event in behind]
    return float(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))


class _WindowEvidence:
    """Keeps the events of the request's key in (at - over, at] of event time."""

    def __init__(self, feature: Window, request: Any, at: float) -> None:
        self._feature = feature
        self._key_of = attrgetter(*feature.by)
        self._key = self._key_of(request)
        self._has_key = not (None in self._key if isinstance(self._key, tuple) else self._key is None)
        self._at = feature.step(at)
        value = feature.value
        self._value_of = attrgetter(value) if isinstance(value, str) else value
        self._behind: list[Behind] = []

    def offer(self, offset: int, event: Any, at: float) -> None:
        at = self._feature.step(at)
        if not self._at - self._feature.over < at <= self._at:
            return
        if not self._has_key or self._key_of(event) != self._key:
            return
        value = 1 if self._value_of is None else self._value_of(event)
        if value is not None:
            given = value if isinstance(value, str) else float(value)
            self._behind.append(Behind(offset, event.id, at, given))

    def collected(self) -> FeatureEvidence:
        # of equal times the later arrival is newer; `sorted` keeps the order of arrival
        behind = sorted(self._behind, key=lambda event: event.at)
        return FeatureEvidence(in_words(self._feature), self._value(behind), behind)

    def _value(self, behind: Sequence[Behind]) -> Any:
        aggregate, argument = self._feature.aggregate, self._feature.argument
        if aggregate == "rate":
            return len(behind) / self._feature.over
        if aggregate == "distinct":
            assert argument is not None
            return min(len({event.value for event in behind}), int(argument))
        if aggregate == "lag":
            assert argument is not None
            return behind[-int(argument)].value if len(behind) >= argument else None
        if not behind and aggregate in ("latest", "first", "newest", "decayed"):
            return None
        if aggregate == "latest":
            return behind[-1].value
        if aggregate == "first":
            return behind[0].value
        if aggregate == "newest":
            return behind[-1].at
        if aggregate == "decayed":
            assert argument is not None
            return _decayed(behind, argument)
        return _AGGREGATES[aggregate]([Fraction(event.value) for event in behind])


class _LookupEvidence:
    """Keeps the newest reference of the request's key that was valid at the request's time."""

    def __init__(self, feature: Lookup, request: Any, at: float) -> None:
        self._feature = feature
        self._at = at
        self._key_of = attrgetter(feature.by)
        self._key = self._key_of(request)
        self._newest: Behind | None = None

    def offer(self, offset: int, event: Any, at: float) -> None:
        if at > self._at or self._key_of(event) != self._key:
            return
        if self._newest is None or at >= self._newest.at:
            self._newest = Behind(offset, event.id, at, getattr(event, self._feature.field))

    def collected(self) -> FeatureEvidence:
        feature = self._feature
        declared = in_words(feature)
        if self._newest is None or (feature.ttl is not None and self._at - self._newest.at > feature.ttl):
            return FeatureEvidence(declared, None, ())
        return FeatureEvidence(declared, self._newest.value, (self._newest,))


class EvidenceCollector:
    """Collects the events behind the features of one request.

    Offer it the accepted events that precede the request in its partition of the log, in the log's order.
    `at` is the request's event time in seconds.
    """

    def __init__(self, features: Mapping[str, Feature], request: Any, at: float) -> None:
        self._features = features
        self._request = request
        self._collecting: dict[str, _WindowEvidence | _LookupEvidence] = {}
        self._offers: dict[type, list[_WindowEvidence | _LookupEvidence]] = {}
        for name, feature in features.items():
            window = feature.window if isinstance(feature, Elapsed) else feature
            if isinstance(window, Window):
                self._collect(name, window.event, _WindowEvidence(window, request, at))
            elif isinstance(feature, Lookup):
                self._collect(name, feature.event, _LookupEvidence(feature, request, at))
        self._at = at

    def _collect(self, name: str, event: type, evidence: _WindowEvidence | _LookupEvidence) -> None:
        self._collecting[name] = evidence
        self._offers.setdefault(event, []).append(evidence)

    @property
    def wanted(self) -> Collection[type]:
        """The types of events that can be behind a value."""
        return self._offers.keys()

    def offer(self, offset: int, event: Any, at: float) -> None:
        """Consider one event, with its offset and its event time in seconds."""
        for evidence in self._offers.get(type(event), ()):
            evidence.offer(offset, event, at)

    def collected(self, known: Mapping[str, Any]) -> dict[str, FeatureEvidence]:
        """The evidence of each feature, in the order of declaration. `known` are values that were collected
        elsewhere and that on-demand features need. A value outside its valid range is missing, as it was for
        the request."""
        values = dict(known)
        collected = {}
        for name, feature in self._features.items():
            evidence = self._found(name, feature, values)
            value = _confined(name, feature.note, evidence.value)
            collected[name] = evidence._replace(value=value)
            values[name] = value
        return collected

    def _found(self, name: str, feature: Feature, before: Mapping[str, Any]) -> FeatureEvidence:
        if isinstance(feature, RequestField):
            return FeatureEvidence(in_words(feature), getattr(self._request, feature.name), ())
        if isinstance(feature, Derived):
            return FeatureEvidence(in_words(feature), feature.function(self._request), ())
        if isinstance(feature, OnDemand):
            computed = evaluation((step(name, feature),), {})(before)
            return FeatureEvidence(in_words(feature), computed.get(name), ())
        evidence = self._collecting[name].collected()
        if isinstance(feature, Elapsed):
            newest = evidence.value
            elapsed = None if newest is None else self._at - newest
            return FeatureEvidence(in_words(feature), elapsed, evidence.behind)
        return evidence


def _confined(name: str, note: Note, value: Any) -> Any:
    x = {} if value is None else {name: value}
    Ranges({name: note}).silently(x)
    return x.get(name)
