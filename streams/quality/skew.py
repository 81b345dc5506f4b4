"""Skew: feature values that were served beside those that the history gives for the same request."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from driftline.features.quality.anomaly import FeatureAnomaly
from driftline.features.quality.feature_schema import Schema
from driftline.streams.declare.usecase import UseCase
from driftline.streams.quality.judgement import data_anomaly
from driftline.streams.records.messages import DataAnomaly


def skew(case: UseCase, schema: Schema, online: pa.Table, offline: pa.Table) -> list[DataAnomaly]:
    """Where values differ, by partition, window and feature; both are tables of
    `driftline.streams.offline.training_set`.

    Requests are joined by prediction id; those that only one table has are left out. No difference is by
    chance: both come from the same log, so there is no threshold, and no false alarm.
    """
    places = {name: row for row, name in enumerate(offline.column("prediction_id").to_pylist())}
    ids = online.column("prediction_id").to_pylist()
    rows = [row for row, name in enumerate(ids) if name in places]
    online = online.take(rows)
    offline = offline.take([places[ids[row]] for row in rows])
    stamps = online.column("at").cast(pa.int64()).to_pylist()
    windows = [int(stamp / 1_000_000 // schema.window) for stamp in stamps]
    where = list(zip(online.column("partition").to_pylist(), windows, strict=True))
    anomalies = []
    for name, expected in schema.features.items():
        severity = expected.severity_of("skew")
        if severity == "ignore" or name not in online.column_names or name not in offline.column_names:
            continue
        pairs = zip(where, online.column(name).to_pylist(), offline.column(name).to_pylist(), strict=True)
        for (partition, number), (count, requests, first) in _differing(pairs).items():
            served, history = f"as served: {first[0]!r}", f"by the history: {first[1]!r}"
            anomaly = FeatureAnomaly(name, "skew", severity, count, requests, served, history)
            anomalies.append(data_anomaly(case.name, schema, partition, number, anomaly))
    return anomalies


def _differing(
    pairs: Iterable[tuple[tuple[int, int], object, object]],
) -> dict[tuple[int, int], tuple[int, int, tuple[object, object]]]:
    """Where values differ: how many of how many, and the first pair."""
    requests: dict[tuple[int, int], int] = {}
    different: dict[tuple[int, int], int] = {}
    firsts: dict[tuple[int, int], tuple[object, object]] = {}
    for where, served, history in pairs:
        requests[where] = requests.get(where, 0) + 1
        if served != history:
            different[where] = different.get(where, 0) + 1
            firsts.setdefault(where, (served, history))
    return {where: (count, requests[where], firsts[where]) for where, count in different.items()}
