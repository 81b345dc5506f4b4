"""The dashboard of a case, for Grafana."""

from __future__ import annotations

from typing import Any, NamedTuple

from driftline.infra.observe.measures import ALL_MEASURES

WIDTH, HEIGHT = 8, 7
"""Size of a panel in Grafana's grid, which is 24 wide."""
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


class DashboardPanel(NamedTuple):
    """One chart: a measure, the labels by which its values are summed, and its unit."""

    title: str
    measure: str
    by: tuple[str, ...] = ()
    where: str = ""
    is_rate: bool = False
    unit: str = "short"


ROWS: dict[str, tuple[DashboardPanel, ...]] = {
    "Serving": (
        DashboardPanel("Predictions a second", "predictions", is_rate=True, unit="ops"),
        DashboardPanel("Records a second, by result", "records", ("result",), is_rate=True, unit="ops"),
        DashboardPanel("Records a second, by topic", "records", ("topic",), is_rate=True, unit="ops"),
        DashboardPanel("Events a second, by type", "events", ("type",), is_rate=True, unit="ops"),
        DashboardPanel("Event time behind the clock", "event_time_delay_seconds", ("partition",), unit="s"),
        DashboardPanel("Lag", "lag_seconds", ("partition",), unit="s"),
        DashboardPanel("Partitions by state", "partition_state", ("state",)),
        DashboardPanel("CPU of the fold", "fold_seconds", ("partition",), is_rate=True, unit="percentunit"),
        DashboardPanel("Age of checkpoints", "checkpoint_age_seconds", ("partition",), unit="s"),
        DashboardPanel("Size of checkpoints", "checkpoint_bytes", ("partition",), unit="bytes"),
        DashboardPanel("Memory of the state", "state_bytes", ("kind",), unit="bytes"),
        DashboardPanel("Take-overs a second", "take_overs", ("reason",), is_rate=True, unit="ops"),
    ),
    "Labels and models": (
        DashboardPanel("Predictions that wait for a label", "pending_predictions"),
        DashboardPanel("Outcomes a second", "outcomes", ("status",), is_rate=True, unit="ops"),
        DashboardPanel("Offsets since a model learned", "model_staleness_records", ("partition",)),
        DashboardPanel("Labels since the pool that answers", "replica_staleness_labels", ("partition",)),
        DashboardPanel(
            "Event time since the pool that answers", "replica_staleness_seconds", ("partition",), unit="s"
        ),
        DashboardPanel("Rows written to the online store", "feature_rows_written", is_rate=True, unit="ops"),
        DashboardPanel("Rows that wait for the online store", "feature_rows_waiting"),
        DashboardPanel(
            "Rows read from the online store", "feature_reads", ("result",), is_rate=True, unit="ops"
        ),
        DashboardPanel("Time reading the online store", "feature_read_seconds", ("view",), is_rate=True),
        DashboardPanel("Keys in windows", "window_keys", ("windows",)),
        DashboardPanel("Fading log loss", "model_quality", ("member",), 'figure="log_loss",over="fading"'),
        DashboardPanel("Fading AUC", "model_quality", ("member",), 'figure="roc_auc",over="fading"'),
        DashboardPanel("Pools a member serves", "model_serving_pools", ("member",)),
        DashboardPanel("Changes of models", "model_changes", ("kind",), is_rate=True, unit="ops"),
    ),
    "Drift and trust": (
        DashboardPanel("Open incidents", "open_incidents", ("kind",)),
        DashboardPanel("What drifts", "drift_subjects", ("subject", "state")),
        DashboardPanel(
            "Drift events a second", "drift_events", ("kind", "severity"), is_rate=True, unit="ops"
        ),
        DashboardPanel("Dead letters a second", "dead_letters", ("stage",), is_rate=True, unit="ops"),
        DashboardPanel("Audited up to offset", "audit_verified_offset", ("partition",)),
        DashboardPanel("Differences", "audit_differences"),
        DashboardPanel("Offsets not audited yet", "audit_lag_records", ("partition",)),
    ),
}


def expression(panel: DashboardPanel) -> str:
    """The panel's query."""
    measure = ALL_MEASURES[panel.measure]
    selected = ",".join(filter(None, ('case="$case"', panel.where)))
    values = f"{measure.series}{{{selected}}}"
    if panel.is_rate:
        values = f"rate({values}[$__rate_interval])"
    return f"sum by ({', '.join(panel.by)}) ({values})" if panel.by else f"sum ({values})"


def dashboard() -> dict[str, Any]:
    """The dashboard in Grafana's JSON model."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row, charts in ROWS.items():
        panels.append(
            {"type": "row", "title": row, "gridPos": {"x": 0, "y": top, "w": 24, "h": 1}, "panels": []}
        )
        top += 1
        for number, chart in enumerate(charts):
            line, column = divmod(number, 24 // WIDTH)
            place = {"x": column * WIDTH, "y": top + line * HEIGHT, "w": WIDTH, "h": HEIGHT}
            panels.append(_panel(chart, place))
        top += HEIGHT * -(-len(charts) // (24 // WIDTH))
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    case = {
        "name": "case",
        "type": "query",
        "datasource": DATASOURCE,
        "query": f"label_values({ALL_MEASURES['folded_offset'].series}, case)",
        "refresh": 2,
    }
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    return {
        "uid": "driftline-case",
        "title": "driftline: a case",
        "schemaVersion": 39,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source, case]},
        "panels": panels,
    }


def _panel(panel: DashboardPanel, place: dict[str, int]) -> dict[str, Any]:
    legend = " ".join(f"{{{{{label}}}}}" for label in panel.by) or panel.title
    return {
        "type": "timeseries",
        "title": panel.title,
        "gridPos": place,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [{"refId": "A", "expr": expression(panel), "legendFormat": legend}],
    }
