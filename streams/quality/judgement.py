"""The results for the windows of a partition: records of statistics with distances, and anomalies."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from datetime import datetime

from driftline.features.quality.anomaly import FeatureAnomaly, anomalies, drift_anomaly
from driftline.features.quality.distance import (
    DistanceMeasure,
    Yardstick,
    chance_of,
    distances,
    is_full,
    thresholds,
    yardstick,
)
from driftline.features.quality.feature_schema import FeatureSchema, Schema
from driftline.features.quality.statistics import FeatureStatistics
from driftline.streams.declare.events import moment
from driftline.streams.declare.usecase import UseCase
from driftline.streams.quality.feature_statistics import WindowStatistics
from driftline.streams.records.messages import (
    DataAnomaly,
    DataStatistics,
    FeatureDistance,
    FeatureSummary,
    Histogram,
)

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LARGEST_DISTANCES = 10


@dataclass(frozen=True, slots=True)
class FeatureReference:
    """The reference of one feature in one partition: its windows merged, the yardstick they give (None: too
    few), and the distances above which a later window has drifted (empty: none is alarmed)."""

    merged: FeatureStatistics
    measured: Yardstick | None
    bounds: Mapping[DistanceMeasure, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """A closed window: the records published of it."""

    statistics: DataStatistics
    anomalies: tuple[DataAnomaly, ...]


def span_of(schema: Schema, number: int) -> tuple[datetime, datetime]:
    """When a window begins and ends."""
    return moment(number * schema.window), moment((number + 1) * schema.window)


def watched(case: UseCase, schema: Schema) -> list[str]:
    """The features whose drift is alarmed: those that the pools' monitors watch."""
    monitoring = case.models_with_notes.monitoring
    if monitoring is None:
        return []
    return [
        name
        for name, expected in schema.features.items()
        if name not in monitoring.unwatched and expected.severity_of("drift") != "ignore"
    ]


def references(
    case: UseCase, schema: Schema, windows: Mapping[int, WindowStatistics]
) -> dict[str, FeatureReference]:
    """The reference of each feature, out of the closed `windows` of one partition; none without any in it."""
    first, end = (int(t.timestamp() // schema.window) for t in (schema.reference.start, schema.reference.end))
    held = [window for number, window in windows.items() if first <= number < end]
    alarmed = watched(case, schema)
    return {name: _reference(case, name, alarmed, held) for name in schema.features} if held else {}


def _reference(
    case: UseCase, name: str, alarmed: Collection[str], windows: list[WindowStatistics]
) -> FeatureReference:
    own = [window.of(name) for window in windows]
    merged = FeatureStatistics()
    for one in own:
        merged = merged.merged(one)
    measured = yardstick(own)
    bounds: dict[DistanceMeasure, float] = {}
    monitoring = case.models.monitoring
    if measured is not None and monitoring is not None and name in alarmed:
        chance = chance_of(measured.requests, monitoring.false_alarm_every, len(alarmed))
        bounds = thresholds(measured, chance)
    return FeatureReference(merged, measured, bounds)


def judge(
    case: UseCase,
    schema: Schema,
    partition: int,
    windows: Mapping[int, WindowStatistics],
    known: Container[int] = (),
) -> list[Judged]:
    """The results for the closed `windows` of one partition, without those that are `known` already.
    Distances are given for windows after the reference: before it they would change once it is complete."""
    new = {number: window for number, window in windows.items() if number not in known}
    if not new:
        return []
    reference = references(case, schema, windows)
    end = int(schema.reference.end.timestamp() // schema.window)
    return [
        _judged(case, schema, partition, number, window, reference if number >= end else {})
        for number, window in new.items()
    ]


def _judged(
    case: UseCase,
    schema: Schema,
    partition: int,
    number: int,
    window: WindowStatistics,
    reference: Mapping[str, FeatureReference],
) -> Judged:
    at, until = span_of(schema, number)
    deviations = anomalies(schema, window.features)
    summaries: dict[str, FeatureSummary] = {}
    for name, seen in window.features.items():
        expected = schema.features.get(name)
        distance = None
        if expected is not None and name in reference:
            distance, drift = _distance(name, expected, reference[name], seen)
            deviations += drift
        summaries[name] = summary(expected, seen, distance)
    statistics = DataStatistics(
        at,
        until,
        partition,
        window.requests,
        window.first_offset,
        window.last_offset,
        schema.digest,
        summaries,
    )
    return Judged(
        statistics,
        tuple(data_anomaly(case.name, schema, partition, number, anomaly) for anomaly in deviations),
    )


def _distance(
    name: str, expected: FeatureSchema, reference: FeatureReference, seen: FeatureStatistics
) -> tuple[FeatureDistance, list[FeatureAnomaly]]:
    distance = distances(reference.merged, seen)
    measured = reference.measured
    bounds = reference.bounds if measured is not None and is_full(seen, measured) else {}
    drift = drift_anomaly(name, expected, seen, distance, bounds)
    return FeatureDistance(
        *distance, {str(measure): bound for measure, bound in bounds.items()}
    ), [] if drift is None else [drift]


def summary(
    expected: FeatureSchema | None,
    seen: FeatureStatistics,
    distance: FeatureDistance | None = None,
    top: int = LARGEST_DISTANCES,
) -> FeatureSummary:
    """Statistics as they are published, with so many of the texts."""
    quantiles, histogram = None, None
    if expected is not None and expected.bins is not None:
        values = seen.quantiles(expected, QUANTILES)
        quantiles = None if values is None else dict(zip(map(str, QUANTILES), values, strict=True))
        histogram = Histogram(expected.bins.low, expected.bins.step, seen.histogram)
    texts = bool(seen.values or seen.sample)
    return FeatureSummary(
        seen.count,
        seen.missing,
        dict(sorted(seen.types.items())),
        seen.mean,
        seen.std,
        seen.minimum,
        seen.maximum,
        quantiles,
        histogram,
        tuple(seen.top(top)) if texts else (),
        seen.distinct if texts else None,
        distance,
    )


def data_anomaly(
    case: str, schema: Schema, partition: int, number: int, anomaly: FeatureAnomaly
) -> DataAnomaly:
    """The record of an anomaly in window `number` of a partition."""
    at, until = span_of(schema, number)
    return DataAnomaly(
        f"{case}:{partition}:{at.isoformat()}:{anomaly.feature}:{anomaly.kind}",
        at,
        until,
        partition,
        anomaly.feature,
        anomaly.kind,
        anomaly.severity,
        anomaly.count,
        anomaly.requests,
        anomaly.expected,
        anomaly.found,
        schema.digest,
    )
