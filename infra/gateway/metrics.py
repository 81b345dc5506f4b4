"""The metrics of a gateway: reads of online features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from driftline.features.online.read_counts import ReadCounts
from driftline.streams.status.metric_definitions import PREFIX, Measure

GATEWAY_MEASURES = {
    measure.name: measure
    for measure in (
        Measure(
            "feature_reads",
            "counter",
            "Rows of online features read, by result: present, missing, expired; failed reads",
            ("view", "result"),
        ),
        Measure("feature_read_seconds", "counter", "Seconds in which the online store was read", ("view",)),
    )
}
"""The measures by name."""


class GatewayMetrics(Collector):
    """The metrics of a gateway's scrape: the current counts of its cases."""

    def __init__(self, reads: Mapping[str, ReadCounts]) -> None:
        self._reads = reads
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        rows, seconds = (_family(measure) for measure in GATEWAY_MEASURES.values())
        for case, reads in self._reads.items():
            for (view, result), count in reads.rows().items():
                rows.add_metric((case, view, result), count)
            for view, spent in reads.seconds().items():
                seconds.add_metric((case, view), spent)
        return iter((rows, seconds))


def _family(measure: Measure) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + measure.name, measure.help, labels=("case", *measure.labels))
