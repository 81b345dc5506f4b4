"""Infers what a case's features are expected to be from requests that were in order."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from math import ceil, floor, log10
from typing import Any

import numpy as np

from driftline.features.declare.declaration import Derived, Feature, RequestField, Window
from driftline.features.declare.notes import Note
from driftline.features.quality.feature_schema import (
    Bins,
    FeatureSchema,
    ReferencePeriod,
    Schema,
    SchemaError,
    Type,
    type_of,
)

ABOUT_BINS = 25
DOMAIN = 100
"""A text with more different values has no domain: the most frequent `COUNTED_APART` have counts of their
own."""
COUNTED_APART = 50
PRESENCE_MARGIN = 0.25
"""Of the requests that had a feature in the worst window of the reference, so many may lack it."""
LEAST_REQUESTS = 50
"""A window with fewer requests says nothing of the share that is missing."""


class _Seen:
    """The values of one feature so far."""

    def __init__(self) -> None:
        self.types: Counter[Type] = Counter()
        self.numbers = array("d")
        self.texts: Counter[str] = Counter()
        self.there: Counter[int] = Counter()
        self.texts_of: dict[int, set[str]] = {}

    def add(self, window: int, value: Any) -> None:
        kind = type_of(value)
        self.types[kind] += 1
        self.there[window] += 1
        if kind == "text":
            self.texts[value] += 1
            self.texts_of.setdefault(window, set()).add(value)
        elif kind != "boolean":
            self.numbers.append(value)


def infer(
    case: str,
    features: Mapping[str, Feature],
    requests: Iterable[tuple[float, Mapping[str, Any]]],
    window: float,
) -> Schema:
    """The schema that these requests fit: (event time in seconds, feature values; None or absent: missing).

    Types are those seen. A bound of a declared valid range is the bound, even of what is kept out of it; else
    ranges are as wide again on either side as what was seen, but not below 0 where nothing was. What is never
    missing may not be, where the declaration says so too; else the worst window gives the bound, with a
    margin. All of a number's values are held in memory, 8 bytes each. Raises SchemaError where there are no
    requests, and for a feature with values of several types.
    """
    seen = {name: _Seen() for name in features}
    asked: Counter[int] = Counter()
    first, last = float("inf"), float("-inf")
    for at, x in requests:
        place = int(at // window)
        asked[place] += 1
        first, last = min(first, at), max(last, at)
        for name, statistics in seen.items():
            value = x.get(name)
            if value is not None:
                statistics.add(place, value)
    if not asked:
        raise SchemaError(f"{case}: there are no requests to infer a schema from")
    # whole windows, as statistics are of them
    start, end = (datetime.fromtimestamp(place * window, UTC) for place in (min(asked), max(asked) + 1))
    inferred = {name: _inferred(name, features[name], statistics, asked) for name, statistics in seen.items()}
    return Schema(
        case,
        window,
        ReferencePeriod(start, end, asked.total()),
        {name: expected for name, expected in inferred.items() if expected is not None},
    )


def bins_of(numbers: Any, whole: bool) -> Bins:
    """About `ABOUT_BINS` bins of a round width over the numbers, or over the middle 98 % of them where the
    others are far out. Bins of whole numbers are at least 1 wide."""
    values = np.asarray(numbers, float)
    low, high = float(values.min()), float(values.max())
    inner_low, inner_high = (float(x) for x in np.percentile(values, [1, 99]))
    if inner_high > inner_low and high - low > 2.0 * (inner_high - inner_low):
        low, high = inner_low, inner_high
    step = _round_step((high - low) / ABOUT_BINS) if high > low else 1.0
    if whole or bool((values == np.rint(values)).all()):
        step = max(1.0, float(ceil(step)))
    begin = floor(low / step) * step
    return Bins(begin, step, floor((high - begin) / step) + 1)


def _round_step(least: float) -> float:
    power = 10.0 ** floor(log10(least))
    return next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= least * 0.999)


def _inferred(name: str, feature: Feature, seen: _Seen, asked: Mapping[int, int]) -> FeatureSchema | None:
    """What is expected of one feature; None for one that was never there."""
    if not seen.types:
        return None
    kind = _type(name, seen.types)
    missing = _missing(feature, seen, asked)
    if kind in ("number", "whole"):
        low, high = _range(min(seen.numbers), max(seen.numbers), feature.note)
        return FeatureSchema(kind, missing, low, high, bins_of(seen.numbers, kind == "whole"))
    if kind == "boolean":
        return FeatureSchema(kind, missing)
    if len(seen.texts) <= DOMAIN:
        return FeatureSchema(kind, missing, domain=tuple(sorted(seen.texts)))
    ranked = sorted(seen.texts, key=lambda text: (-seen.texts[text], text))
    most = max(map(len, seen.texts_of.values()))
    return FeatureSchema(kind, missing, distinct=2 * most, values=tuple(sorted(ranked[:COUNTED_APART])))


def _type(name: str, types: Mapping[Type, int]) -> Type:
    if types.keys() == {"whole", "number"}:
        return "number"
    if len(types) > 1:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(types.items()))
        raise SchemaError(f"{name} has values of several types ({counts}): no schema fits them")
    return next(iter(types))


def _missing(feature: Feature, seen: _Seen, asked: Mapping[int, int]) -> float:
    every = sum(asked.values())
    if seen.types.total() == every and (
        isinstance(feature, (RequestField, Derived))
        or (isinstance(feature, Window) and feature.empty is not None)
    ):
        return 0.0
    shares = [1.0 - seen.there[window] / count for window, count in asked.items() if count >= LEAST_REQUESTS]
    worst = max(shares, default=1.0 - seen.types.total() / every)
    return round(worst + PRESENCE_MARGIN * (1.0 - worst), 3)


def _range(least: float, most: float, note: Note) -> tuple[float, float]:
    """What was seen, as wide again on either side, never across 0, rounded outwards; declared bounds as
    they are."""
    span = (most - least) or abs(most) or 1.0
    unit = 10.0 ** floor(log10(span)) / 10.0
    low, high = floor((least - span) / unit) * unit, ceil((most + span) / unit) * unit
    if least >= 0.0:
        low = max(low, 0.0)
    if most <= 0.0:
        high = min(high, 0.0)
    valid_low, valid_high = note.valid or (None, None)
    return (
        min(round(low, 12), note.bounds[1]) if valid_low is None else valid_low,
        max(round(high, 12), note.bounds[0]) if valid_high is None else valid_high,
    )
