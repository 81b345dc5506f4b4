"""Schemas of features: inferred from what was in order, readable, and clear about what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from driftline import HOUR, count, derive, field, mean
from driftline.features.quality.anomaly import FeatureAnomaly, anomalies
from driftline.features.quality.feature_schema import Bins, FeatureSchema, Schema, SchemaError
from driftline.features.quality.schema_inference import bins_of, infer
from driftline.features.quality.statistics import observed

FEATURES = {
    "carrier": field("carrier"),
    "seat": field("seat"),
    "hour": derive(lambda request: request.hour),
    "asked": count(object, by="origin", over=HOUR),
    "wind": mean(object, "wind", by="origin", over=HOUR),
    "early": field("early"),
}


def requests(rows: int = 2_000, seed: int = 1) -> list[tuple[float, dict[str, Any]]]:
    """A request a minute, all in order."""
    random = np.random.default_rng(seed)
    return [
        (
            60.0 * n,
            {
                "carrier": ["AA", "UA", "DL"][n % 3],
                "seat": f"seat-{n % 500}",
                "hour": (n % 1440) / 60,
                "asked": int(random.poisson(20)),
                "wind": None if n % 10 == 0 else float(random.gamma(4, 3)),
                "early": bool(n % 2),
            },
        )
        for n in range(rows)
    ]


@pytest.fixture(scope="module")
def schema() -> Schema:
    return infer("flights", FEATURES, requests(), 6 * HOUR)


def found_in(schema: Schema, rows: list[dict[str, Any]]) -> list[FeatureAnomaly]:
    """The anomalies of one window of these requests."""
    names = dict.fromkeys([*schema.features, *(name for row in rows for name in row)])
    window = {name: observed([row.get(name) for row in rows], schema.features.get(name)) for name in names}
    return anomalies(schema, window)


def later(**changes: Any) -> list[dict[str, Any]]:
    """Requests of another hour with some values changed: those given as functions, by row."""
    rows = [x for _, x in requests(400, seed=2)]
    return [x | {name: change(n, x) for name, change in changes.items()} for n, x in enumerate(rows)]


def test_requests_in_order_have_no_anomalies(schema: Schema) -> None:
    assert found_in(schema, later()) == []


@pytest.mark.parametrize(
    ("valid", "expected"),
    [
        (None, (0.0, 16.0)),
        ((0.0, 12.0), (0.0, 12.0)),
        ((None, 12.0), (0.0, 12.0)),
        ((5.0, None), (5.0, 16.0)),
        ((None, -3.0), (-3.0, -3.0)),  # kept out of its range: each such value is an anomaly
    ],
)
def test_a_declared_bound_of_a_valid_range_is_the_bound(valid: Any, expected: tuple[float, float]) -> None:
    declared = {"wind": mean(object, "wind", by="origin", over=HOUR, valid=valid, outside="keep")}
    rows = [(60.0 * n, {"wind": float(n % 9)}) for n in range(100)]
    inferred = infer("flights", declared, rows, HOUR).features["wind"]
    assert (inferred.low, inferred.high) == expected


@pytest.mark.parametrize(
    ("kind", "feature", "change", "count", "message"),
    [
        ("presence", "wind", lambda n, x: None if n % 2 else x["wind"], 240, "60.0% missing"),
        ("presence", "carrier", lambda n, x: None if n == 7 else x["carrier"], 1, "0.2% missing"),
        ("type", "hour", lambda n, x: "noon" if n == 5 else x["hour"], 1, "1 text"),
        ("type", "early", lambda n, x: "yes" if n < 3 else x["early"], 3, "3 text"),
        ("domain", "carrier", lambda n, x: "ZZ" if n < 4 else x["carrier"], 4, "'ZZ'"),
        ("range", "wind", lambda n, x: -1.0 if n == 3 else x["wind"], 1, "-1 to "),
        ("range", "asked", lambda n, x: 10_000 if n == 3 else x["asked"], 1, "to 10000"),
        ("cardinality", "seat", lambda n, x: f"{n}-{n}", 400, " values"),
        ("presence", "extra", lambda n, x: 1.0, 400, "values of it"),
    ],
)
def test_an_injected_anomaly_is_detected_and_named(
    kind: str, feature: str, change: Any, count: int, message: str, schema: Schema
) -> None:
    if kind == "cardinality":
        features = schema.features | {feature: FeatureSchema("text", 0.0, distinct=300, values=("seat-1",))}
        schema = Schema(schema.case, schema.window, schema.reference, features)
    (found,) = found_in(schema, later(**{feature: change}))
    assert (found.feature, found.kind, found.severity, found.count) == (feature, kind, "alert", count)
    assert found.requests == 400
    assert message in found.found


def test_severity_is_declared_by_kind(schema: Schema) -> None:
    ignoring = FeatureSchema("text", 0.0, domain=("AA",), severity={"domain": "ignore"})
    refusing = FeatureSchema("number", 0.5, 0.0, 24.0, Bins(0.0, 1.0, 24), severity={"range": "refuse"})
    features = {"carrier": ignoring, "hour": refusing}
    strict = Schema("flights", 60.0, schema.reference, features)
    rows = [{"carrier": "ZZ", "hour": 30.0}]
    (found,) = found_in(strict, rows)
    assert (found.feature, found.severity) == ("hour", "refuse")
    assert list(strict.refusals.features) == ["hour"]
    assert strict.refusals.reason(rows[0]) == "hour: range: expected 0 to 24, found 30.0"
    assert strict.refusals.reason({"carrier": "ZZ", "hour": 3.0}) is None
    assert strict.refusals.reason({"carrier": "ZZ"}) is None


def test_a_schema_read_back_is_the_same_and_has_a_line_a_field(schema: Schema) -> None:
    content = schema.encode()
    assert Schema.of(content, "here") == schema
    assert content.count(b"\n") > len(schema.features) * 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (b'{"case": 1}', r"\$.case"),
        (b"{", "here is no schema"),
        (
            b'{"case":"c","window":-1,"reference":{"start":"2013-01-01T00:00:00Z","end":"2013-01-02T00:00:00Z",'
            b'"requests":1},"features":{}}',
            "`window` is seconds > 0",
        ),
    ],
)
def test_a_file_that_is_no_schema_is_reported_with_its_field(wrong: bytes, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        Schema.of(wrong, "here")


def test_values_of_several_types_have_no_schema() -> None:
    with pytest.raises(SchemaError, match="carrier has values of several types"):
        infer("c", {"carrier": field("carrier")}, [(0.0, {"carrier": 1}), (1.0, {"carrier": "x"})], 60.0)


def test_bins_are_round_and_hold_the_values() -> None:
    assert bins_of([0.0, 24.0], whole=False) == Bins(0.0, 1.0, 25)
    assert bins_of([3.0], whole=True) == Bins(3.0, 1.0, 1)
    tailed = [*np.linspace(0.0, 1.0, 1_000).tolist(), 1e6]
    assert bins_of(tailed, whole=False).step == pytest.approx(0.04, rel=0.3)
