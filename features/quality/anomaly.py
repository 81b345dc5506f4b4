"""Anomalies of a window: where a feature's statistics are not what the schema expects."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import msgspec

from driftline.features.quality.distance import DistanceMeasure, Distances
from driftline.features.quality.feature_schema import AnomalyKind, FeatureSchema, Schema, Severity, range_text
from driftline.features.quality.statistics import FeatureStatistics

NAMES_SHOWN = 5
CLEARLY = 4.0
"""Standard errors by which the share of missing values is above the bound: few requests say little."""


class FeatureAnomaly(msgspec.Struct, frozen=True):
    """One kind of anomaly of one feature in one window: how many of the requests show it, and in words what
    was expected and what was found."""

    feature: str
    kind: AnomalyKind
    severity: Severity
    count: int
    requests: int
    expected: str
    found: str


def anomalies(schema: Schema, window: Mapping[str, FeatureStatistics]) -> list[FeatureAnomaly]:
    """The anomalies of one window's statistics, by feature name; features that the schema does not have are
    anomalies of presence, as are those that it has and the window lacks."""
    anomalies = []
    requests = max((one.requests for one in window.values()), default=0)
    for name, expected in schema.features.items():
        seen = window.get(name, FeatureStatistics(missing=requests))
        anomalies += _of_feature(name, expected, seen)
    for name, seen in window.items():
        if name not in schema.features and seen.count:
            anomalies.append(
                FeatureAnomaly(
                    name, "presence", "alert", seen.count, seen.requests, "no such feature", "values of it"
                )
            )
    return anomalies


def drift_anomaly(
    name: str,
    expected: FeatureSchema,
    seen: FeatureStatistics,
    distances: Distances,
    bounds: Mapping[DistanceMeasure, float],
) -> FeatureAnomaly | None:
    """The anomaly of a window that is further from the reference than its thresholds."""
    severity = expected.severity_of("drift")
    over = [measure for measure, bound in bounds.items() if getattr(distances, measure) > bound]
    if not over or severity == "ignore":
        return None
    return FeatureAnomaly(
        name, "drift", severity, seen.requests, seen.requests,
        ", ".join(f"{measure} up to {bounds[measure]:.3g}" for measure in over),
        ", ".join(f"{measure} {getattr(distances, measure):.3g}" for measure in over),
    )  # fmt: skip


def _of_feature(name: str, expected: FeatureSchema, seen: FeatureStatistics) -> list[FeatureAnomaly]:
    deviations: list[tuple[AnomalyKind, int, str, str]] = []
    if _lacks(expected, seen):
        share = f"{seen.missing_share:.1%} missing"
        deviations.append(("presence", seen.missing, f"at most {expected.missing:.1%} missing", share))
    wrong = {kind: n for kind, n in seen.types.items() if n and not expected.fits(kind)}
    if wrong:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(wrong.items()))
        deviations.append(("type", sum(wrong.values()), expected.type, kinds))
    if seen.outside:
        deviations.append(
            ("range", seen.outside, range_text(expected), f"{seen.minimum:g} to {seen.maximum:g}")
        )
    if expected.domain is not None and seen.other:
        names = sorted(seen.sample, key=lambda text: (-seen.sample[text], text))
        more = len(names) - NAMES_SHOWN
        text = ", ".join(repr(n) for n in names[:NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
        deviations.append(("domain", seen.other, f"one of {len(expected.domain)} known values", text))
    if expected.distinct is not None and seen.distinct > expected.distinct:
        deviations.append(
            ("cardinality", seen.count, f"at most {expected.distinct:,} values", f"{seen.distinct:,} values")
        )
    return [
        FeatureAnomaly(name, kind, severity, count, seen.requests, wanted, what)
        for kind, count, wanted, what in deviations
        if (severity := expected.severity_of(kind)) != "ignore"
    ]


def _lacks(expected: FeatureSchema, seen: FeatureStatistics) -> bool:
    """Whether more is missing than may be, beyond chance; where nothing may be, one is too many."""
    bound = expected.missing
    if not seen.requests:
        return False
    return seen.missing_share - bound > CLEARLY * sqrt(bound * (1.0 - bound) / seen.requests)
