"""The charts of a run: losses and ranks over time, calibration, the biggest drift, memory, throughput."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from driftline.infra.report.charts import calibration_chart, time_chart
from driftline.infra.report.page import ChartPanel, LegendEntry
from driftline.infra.report.plot import Line, Mark
from driftline.infra.report.run_records import RunRecords, Shift, feature_of
from driftline.infra.report.samples import Sample, memory, over_time, rolling, thinned, throughput
from driftline.streams.records.messages import DriftEvent

HALF = 500
"""Width of a chart that shares its row."""

LOSSES = {"log_loss": "log loss", "mae": "absolute error"}
RANKS = {"roc_auc": "ROC AUC", "accuracy": "accuracy"}

DRIFT_KEYS = (
    LegendEntry("tickmark of-loss", "drift of losses or labels"),
    LegendEntry("tickmark of-feature", "drift of features or scores"),
)


def performance(
    samples: Sequence[Sample], drifts: Sequence[DriftEvent], styles: Mapping[str, str]
) -> list[ChartPanel]:
    """How good every member was over event time, by its loss and by its rank; with the drift below."""
    if len(samples) < 2:
        return []
    last = next((s.models for s in reversed(samples) if s.models), {})
    loss, rank = _first_of(LOSSES, last), _first_of(RANKS, last)
    panels = []
    if loss is not None:
        lines = {name: rolling(samples, name, loss) for name in styles}
        ceiling = max((y for _, y in lines.get("prior", ())), default=None)
        note = "Over event time; mean over the labels of each interval; lower is better."
        if ceiling is not None:
            note += " What is worse than the prior is drawn at the upper edge."
        panels.append(_course(LOSSES[loss], note, lines, samples, drifts, styles, ceiling))
    if rank is not None:
        # the prior ranks nothing: its curve is noise around a half
        lines = {
            name: over_time(samples, name, rank)
            for name in styles
            if not (rank == "roc_auc" and styles[name] == "prior")
        }
        note = "Over event time; higher is better."
        panels.append(_course(RANKS[rank], note, lines, samples, drifts, styles, None))
    return [panel for panel in panels if panel.chart]


def _course(
    metric: str,
    note: str,
    points: Mapping[str, Sequence[tuple[float, float]]],
    samples: Sequence[Sample],
    drifts: Sequence[DriftEvent],
    styles: Mapping[str, str],
    ceiling: float | None,
) -> ChartPanel:
    span = (samples[0].at, samples[-1].at)
    marks = [mark for mark in _drift_marks(drifts) if span[0] <= mark.x <= span[1]]
    lines = [Line(_titled(name, styles[name]), styles[name], drawn) for name, drawn in points.items()]
    heading = f"Rolling {metric}"
    chart = time_chart(lines[::-1], span, label=heading, marks=marks, ceiling=ceiling)  # champion on top
    legend = [LegendEntry(line.style, line.name) for line in lines if len(line.points) > 1]
    return ChartPanel(heading, note, chart, [*legend, *(DRIFT_KEYS if marks else ())])


def _first_of(metrics: Iterable[str], models: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first metric that any member has."""
    return next((m for m in metrics if any(m in state for state in models.values())), None)


def _titled(member: str, style: str) -> str:
    role = style.rstrip("0123456789")
    return member if member == role else f"{member} ({role})"


def _drift_marks(drifts: Sequence[DriftEvent]) -> list[Mark]:
    marks = []
    for event in drifts:
        if event.severity == "drift":
            of_inputs = event.subject.startswith(("feature ", "score"))
            style, row = ("of-feature", 2) if of_inputs else ("of-loss", 1)
            marks.append(Mark(event.at.timestamp(), _drift_title(event), style, row))
    return marks


def _drift_title(event: DriftEvent) -> str:
    kind = f", {event.kind}" if event.kind else ""
    return (
        f"{event.at:%-d %b %Y %H:%M} {event.key} {event.subject}: "
        f"{event.before.mean:.4g} → {event.after.mean:.4g}{kind}"
    )


def calibration(evidence: RunRecords) -> ChartPanel | None:
    """Observed against predicted, as served."""
    bins = evidence.calibration()
    if not bins:
        return None
    total = sum(b.count for b in bins)
    error = sum(b.count * abs(b.predicted - b.observed) for b in bins) / total
    heading = "Calibration of what served"
    note = (
        f"Observed against predicted, as served: expected calibration error {error:.4f} over {total:,} "
        "labels. Bars: number of predictions."
    )
    return ChartPanel(heading, note, calibration_chart(bins, label=heading, size=390))


def biggest_shift(evidence: RunRecords) -> ChartPanel | None:
    """The feature whose mean drifted the most, over time, with its mean before and after."""
    shift = evidence.biggest_shift()
    if shift is None:
        return None
    event = shift.event
    lines = [
        Line("mean of the feature", "champion", evidence.feature_over_time(shift.feature, event.key)),
        *_levels(shift, evidence),
    ]
    marks = [Mark(event.at.timestamp(), _drift_title(event), "of-loss", 0)]
    chart = time_chart(
        lines,
        (evidence.first_at, evidence.last_at),
        label=f"{shift.feature} over time",
        marks=marks,
        width=HALF,
        height=330,
    )
    note = (
        f"{_pool(event)}{event.at:%-d %B %Y %H:%M} UTC, by {event.detector}: mean {event.before.mean:.4g} "
        f"over {event.before.count:,} values, then {event.after.mean:.4g} over {event.after.count:,} "
        f"({shift.size:.1f} standard deviations)."
    )
    return ChartPanel(f"Biggest drift of a feature: {shift.feature}", note, chart) if chart else None


def _pool(event: DriftEvent) -> str:
    """The pool that an event is about, to begin a sentence with; the only one of a case has no name."""
    return f"Key {event.key}, " if event.key else ""


def _levels(shift: Shift, evidence: RunRecords) -> list[Line]:
    """The means before and after, each up to the next drift of the same feature."""
    event, start, end = shift.event, evidence.first_at, evidence.last_at
    at = event.at.timestamp()
    others = [
        e.at.timestamp()
        for e in evidence.drifts
        if e.key == event.key and feature_of(e.subject) == shift.feature
    ]
    previous = max((t for t in others if t < at), default=start)
    following = min((t for t in others if t > at), default=end)
    least = (end - start) * 0.04
    return [
        Line("before", "level", [(min(previous, at - least), event.before.mean), (at, event.before.mean)]),
        Line("after", "level", [(at, event.after.mean), (max(following, at + least), event.after.mean)]),
    ]


def memory_over_time(samples: Sequence[Sample]) -> ChartPanel | None:
    """Resident memory of the worker, and whether it grew."""
    points = [(s.at, s.rss / 1e6) for s in thinned(samples) if s.rss]
    note = "MB resident"
    seen = memory(samples)
    if seen is not None:
        verdict = "flat" if seen.is_flat else f"grew by {seen.end - seen.warm:,.0f} MB"
        note += f": {seen.warm:,.0f} MB after a third of the run, {seen.end:,.0f} MB at its end ({verdict})"
    return _worker("Memory of the worker", f"{note}.", Line("resident memory", "champion", points), samples)


def throughput_over_time(samples: Sequence[Sample]) -> ChartPanel | None:
    """How fast the worker folded."""
    note = "Events folded a second of wall time, by the event time they belong to."
    return _worker("Throughput", note, Line("events a second", "champion", throughput(samples)), samples)


def _worker(heading: str, note: str, line: Line, samples: Sequence[Sample]) -> ChartPanel | None:
    if len(line.points) < 2:
        return None
    span = (samples[0].at, samples[-1].at)
    return ChartPanel(
        heading, note, time_chart([line], span, label=heading, floor=0.0, width=HALF, height=200)
    )
