"""The metrics of the auditor that goes on beside the workers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from driftline.streams.status.metric_definitions import PREFIX, Measure

_LABELS = ("partition",)

AUDIT_MEASURES = {
    measure.name: measure
    for measure in (
        Measure(
            "audit_verified_offset",
            "gauge",
            "Offset of the log before which all that was published is proved",
            _LABELS,
        ),
        Measure("audit_lag_records", "gauge", "Offsets that are published and not audited yet", _LABELS),
        Measure("audit_differences", "gauge", "Published records that are not what the log gives", _LABELS),
        Measure("audit_checked", "gauge", "Published records compared", _LABELS),
        Measure("audit_unchecked", "gauge", "Published records of other code", _LABELS),
    )
}
"""By name."""


class AuditMetrics:
    """What a scrape of the auditor gets, by partition."""

    def __init__(self, case: str) -> None:
        self.registry = CollectorRegistry()
        self._case = case
        self._gauges = {
            name: Gauge(PREFIX + name, measure.help, ("case", *measure.labels), registry=self.registry)
            for name, measure in AUDIT_MEASURES.items()
        }

    def set(self, partition: str, **values: float) -> None:
        """The newest figures of a partition, which is named as in `driftline status`, by the measure's name
        without `audit_`."""
        for name, value in values.items():
            self._gauges[f"audit_{name}"].labels(self._case, partition).set(value)
