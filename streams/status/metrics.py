"""The metrics that a scrape of a worker gets: prepared by the worker, and written out a metric at a time, so
that no answer waits for a scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from driftline.online_models.members.member import Shared
from driftline.streams.owner.deployment import RowWriter
from driftline.streams.status.metric_definitions import MEASURES, PREFIX


class PartitionLabels(NamedTuple):
    """The labels of a partition: what messages call it, and which of the case's topics it is of."""

    partition: str
    topic: str


class Readings:
    """Values of measures at one moment; `case` is a label of all of them."""

    def __init__(self, case: str) -> None:
        self._case = case
        self._families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}

    def set(self, name: str, value: float, *labels: str) -> None:
        """Add a value of the measure `name`, whose labels beside the case are in the order declared."""
        measure = MEASURES[name]
        family = self._families.get(name)
        if family is None:
            kind = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
            family = kind(PREFIX + name, measure.help, labels=("case", *measure.labels))
            self._families[name] = family
        assert len(labels) == len(measure.labels), name
        family.add_metric((self._case, *labels), value)

    def families(self) -> Iterator[Metric]:
        """As Prometheus's client wants them."""
        return iter(self._families.values())


class WorkerMetrics(Collector):
    """What the worker prepared last, and the process's own figures."""

    def __init__(self) -> None:
        self._readings = Readings("")
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def show(self, readings: Readings) -> None:
        """Serve these values from now on."""
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        return self._readings.families()

    async def text(self) -> bytes:
        """In Prometheus's text format. It takes 8 us a series, some milliseconds in all: whatever is to be
        answered meanwhile comes in between."""
        parts = []
        for metric in self._registry.collect():
            parts.append(generate_latest(_Alone(metric)))
            await asyncio.sleep(0)
        return b"".join(parts)


class _Alone(Collector):
    """One metric, as a registry of its own."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        yield self._metric


def add_rows(readings: Readings, rows: RowWriter) -> None:
    """Add the counts of online rows."""
    readings.set("feature_rows_written", rows.rows_written)
    readings.set("feature_rows_waiting", rows.rows_waiting)
    readings.set("feature_writes_failing_seconds", rows.failing_seconds)


def add_replicas(readings: Readings, models: object) -> None:
    """Add how often a pool is published to its replicas, if there are any."""
    if not isinstance(models, Shared) or not models.replicas:
        return
    every = models.publish_every
    if isinstance(every, timedelta):
        readings.set("replica_publish_every_seconds", every.total_seconds())
    else:
        readings.set("replica_publish_every_labels", every)


def add_models(readings: Readings, models: Mapping[str, Mapping[str, Any]]) -> None:
    """Add the figures of the members, as the status has them."""
    for member, entry in models.items():
        readings.set("model_serving_pools", entry["serving"], member)
        readings.set("model_quarantined", float("quarantine" in entry), member)
        for over, figures in (("all", entry), ("fading", entry.get("fading", {}))):
            for figure, value in figures.items():
                if figure not in NO_QUALITY and isinstance(value, float):
                    readings.set("model_quality", value, member, figure, over)


NO_QUALITY = frozenset({"serving", "live", "failures"})
"""Entries of a member's figures that are no figures of its answers."""
