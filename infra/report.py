"""The report of one run: a self-contained HTML page made from what the topics hold.

`RunRecords` collects predictions, outcomes, drift and model events as they are read back; `Sample`s are the
worker's own progress, taken while it ran. The page has no scripts and loads nothing.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from driftline.whole_file import replacing
from infra import adaptation
from infra.charts import Bin, Line, Mark, calibration_chart, time_chart
from infra.figures import figure, role_of
from infra.page import framed
from online_models.metrics import metrics_of
from online_models.task import Task
from streams.messages import DriftEvent, ModelEvent

INTERVALS = 80
"""Most points a rolling curve has."""

HALF = 500
"""Width of a chart that shares its row."""

LASTING = 300
"""Values on both sides from which on a drift of a feature is more than a gust."""

LOSSES = {"log_loss": "log loss", "mae": "absolute error"}
RANKS = {"roc_auc": "ROC AUC", "accuracy": "accuracy"}

FEATURE_SAMPLE = 20_000
"""About so many predictions keep their features, evenly spread over the run."""


class Sample(msgspec.Struct, frozen=True):
    """The worker at one moment.

    `at` is event time (seconds since the epoch), `wall` seconds since the start, `rss` bytes of
    memory, `models` the cumulative metrics of each member, empty where they are not newer than before,
    `offsets` the next position of the log by partition.
    """

    at: float
    wall: float
    events: int
    rss: int | None
    models: dict[str, dict[str, Any]]
    offsets: dict[int, int] = {}


class _Asked(msgspec.Struct, gc=False):
    id: str
    at: datetime
    keys: msgspec.Raw
    prediction: Any
    probabilities: dict[str, float] | None
    features: msgspec.Raw


class _Became(msgspec.Struct, gc=False):
    prediction_id: str
    status: str
    prediction: Any
    label: Any = None


class SampledFeatures(msgspec.Struct, frozen=True, gc=False):
    """Features of one sampled prediction; `at` in seconds since the epoch."""

    at: float
    key: str
    values: dict[str, Any]


class Shift(msgspec.Struct, frozen=True):
    """A change of a feature's mean, `size` in its standard deviations over the whole run."""

    feature: str
    event: DriftEvent
    size: float


class RunRecords:
    """What the report needs of the records of a run; one in `every` predictions keeps its features."""

    def __init__(self, every: int = 1) -> None:
        self._every = max(1, every)
        self._asked = msgspec.json.Decoder(_Asked)
        self._became = msgspec.json.Decoder(_Became)
        self._drift = msgspec.json.Decoder(DriftEvent)
        self._change = msgspec.json.Decoder(ModelEvent)
        self._values: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
        self._outputs: dict[str, Any] = {}
        self._labels: dict[str, Any] = {}
        self._seen = 0
        self._times: dict[int, tuple[array[int], array[float]]] = {}
        self.first_at = math.inf
        self.last_at = -math.inf
        self.keys: dict[str, Any] = {}
        self.features: list[SampledFeatures] = []
        self.drifts: list[DriftEvent] = []
        self.changes: list[ModelEvent] = []

    def prediction(self, key: bytes | None, value: bytes, partition: int = 0, offset: int = 0) -> None:
        """Add a record of the predictions topic; `offset` is that of its source position."""
        asked = self._asked.decode(value)
        at = asked.at.timestamp()
        self.first_at = min(self.first_at, at)
        self.last_at = max(self.last_at, at)
        offsets, times = self._times.setdefault(partition, (array("q"), array("d")))
        offsets.append(offset)
        times.append(at)
        output = _output(asked.prediction, asked.probabilities)
        if output is not None:
            self._outputs[asked.id] = output
        if self._seen % self._every == 0:
            values = self._values.decode(asked.features)
            self.keys = self._values.decode(asked.keys)
            self.features.append(SampledFeatures(at, (key or b"").decode("utf-8", "replace"), values))
        self._seen += 1

    def outcome(self, value: bytes) -> None:
        """Add a record of the outcomes topic; a correction replaces what it corrects."""
        became = self._became.decode(value)
        if became.status != "labelled":
            self._labels.pop(became.prediction_id, None)
            return
        self._labels[became.prediction_id] = became.label

    def drift(self, value: bytes) -> None:
        """Add a record of the drift topic."""
        self.drifts.append(self._drift.decode(value))

    def change(self, value: bytes) -> None:
        """Add a record of the models topic that an input caused."""
        self.changes.append(self._change.decode(value))

    def served(self, task: Task) -> dict[str, Any]:
        """Figures, as those of a member, of what was answered, whichever member did."""
        metrics = metrics_of(task)
        for prediction_id, label in self._labels.items():
            if prediction_id in self._outputs:
                metrics.update(label, self._outputs[prediction_id])
        return metrics.summary()

    def dated(self, sample: Sample) -> Sample:
        """The sample at the event time its partitions had come to on average.

        A worker may be ahead in one partition: the newest event time of all would say too much.
        """
        reached = []
        for partition, (offsets, times) in self._times.items():
            passed = bisect_left(offsets, sample.offsets.get(partition, 0))
            reached.append(times[max(0, passed - 1)])
        at = math.fsum(reached) / len(reached) if reached else sample.at
        return msgspec.structs.replace(sample, at=at)

    def calibration(self, count: int = 20) -> list[Bin]:
        """Mean prediction and mean outcome: equal bins of [0, 1], or of equal count for other values."""
        outputs = self._outputs
        pairs = [_comparable(outputs[i], y) for i, y in self._labels.items() if i in outputs]
        if not pairs:
            return []
        if all(0 <= p <= 1 for p, _ in pairs):
            groups: list[list[tuple[float, float]]] = [[] for _ in range(count)]
            for p, y in pairs:
                groups[min(int(p * count), count - 1)].append((p, y))
        else:
            pairs.sort()
            size = math.ceil(len(pairs) / count)
            groups = [pairs[i : i + size] for i in range(0, len(pairs), size)]
        return [
            Bin(sum(p for p, _ in g) / len(g), sum(y for _, y in g) / len(g), len(g)) for g in groups if g
        ]

    def biggest_shift(self) -> Shift | None:
        """The drift event that moved a feature's mean the most, in its standard deviations.

        One with few values on a side (a gust, not a change) counts only when there is no other.
        """
        spread = {name: _deviation(self._column(name)) for name in self._numeric_names()}
        shifts = []
        for event in self.drifts:
            name = feature_of(event.subject) if event.severity == "drift" else None
            if name is not None and spread.get(name):
                size = abs(event.after.mean - event.before.mean) / spread[name]
                shifts.append(Shift(name, event, size))
        lasting = [s for s in shifts if min(s.event.before.count, s.event.after.count) >= LASTING]
        return max(lasting or shifts, key=lambda shift: shift.size, default=None)

    def feature_over_time(self, name: str, key: str, points: int = 120) -> list[tuple[float, float]]:
        """(event time, mean) of a feature of one key in so many equal pieces of the run."""
        span = max(self.last_at - self.first_at, 1.0)
        sums = [[0.0, 0] for _ in range(points)]
        for row in self.features:
            value = row.values.get(name)
            if row.key == key and isinstance(value, (int, float)):
                piece = sums[min(int((row.at - self.first_at) / span * points), points - 1)]
                piece[0] += value
                piece[1] += 1
        width = span / points
        return [(self.first_at + (i + 0.5) * width, total / n) for i, (total, n) in enumerate(sums) if n]

    def _numeric_names(self) -> list[str]:
        names: dict[str, None] = {}
        for row in self.features:
            for name, value in row.values.items():
                if isinstance(value, (int, float)):
                    names[name] = None
        return list(names)

    def _column(self, name: str) -> list[float]:
        values = (row.values.get(name) for row in self.features)
        return [float(value) for value in values if isinstance(value, (int, float))]


def feature_of(subject: str) -> str | None:
    """The feature whose mean a drift event is about; None for a loss or a spread.

    >>> feature_of("feature wind: mean"), feature_of("feature wind: spread"), feature_of("loss")
    ('wind', None, None)
    """
    name, _, of = subject.removeprefix("feature ").rpartition(": ")
    return name if subject.startswith("feature ") and of == "mean" else None


def _output(prediction: Any, probabilities: dict[str, float] | None) -> Any:
    """What the pool said, as its task has it: p(true), probabilities by label, or the value."""
    if probabilities is not None:
        return probabilities.get("true", probabilities)
    return float(prediction) if isinstance(prediction, (int, float)) else None


def _comparable(output: Any, label: Any) -> tuple[float, float]:
    """Two numbers to compare: p(true), p(likeliest class) or the value, and what came of it."""
    if isinstance(output, dict):
        likeliest = max(sorted(output), key=output.__getitem__, default=None)
        return output.get(likeliest, 0.0), float(label == likeliest)
    return output, float(label)


def _deviation(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))


def rolling(samples: Sequence[Sample], member: str, metric: str) -> list[tuple[float, float]]:
    """(event time, mean of a per-label metric) between samples, from its cumulative means.

    `metric` must be a mean over labels (log loss, Brier, squared error): differences of n x mean are
    then exact. At most about `INTERVALS` points; intervals with few labels are joined.
    """
    states = [
        (s.at, s.models[member]["n"], s.models[member][metric])
        for s in samples
        if member in s.models and s.models[member].get(metric) is not None
    ]
    if not states:
        return []
    least = max(100, states[-1][1] / INTERVALS * 0.8)
    points = []
    last_at, last_n, last_sum = samples[0].at, 0, 0.0
    for at, n, mean in states:
        if n - last_n >= least:
            points.append(((last_at + at) / 2, (n * mean - last_sum) / (n - last_n)))
            last_at, last_n, last_sum = at, n, n * mean
    return points


def over_time(samples: Sequence[Sample], member: str, metric: str) -> list[tuple[float, float]]:
    """(event time, value) of a metric over its fading window, or since the start where there is none."""
    points: list[tuple[float, float]] = []
    least = (samples[-1].at - samples[0].at) / (4 * INTERVALS) if samples else 0.0
    labels = max((s.models.get(member, {}).get("n", 0) for s in samples), default=0)
    for sample in samples:
        state = sample.models.get(member, {})
        value = state.get("fading", state).get(metric)
        if value is None or state.get("n", 0) < max(200, labels / 100):
            continue
        if points and sample.at - points[-1][0] < least:
            points.pop()
        points.append((sample.at, value))
    return points


def _thinned(samples: Sequence[Sample]) -> Sequence[Sample]:
    step = math.ceil(len(samples) / (2 * INTERVALS)) or 1
    return samples[::step]


def write(
    path: Path,
    title: str,
    result: dict[str, Any],
    samples: Sequence[Sample],
    evidence: RunRecords,
    *,
    description: str = "",
    made: datetime | None = None,
) -> None:
    """Write the page, replacing an older one in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(page(title, result, samples, evidence, description=description, made=made).encode())


def page(
    title: str,
    result: dict[str, Any],
    samples: Sequence[Sample],
    evidence: RunRecords,
    *,
    description: str = "",
    made: datetime | None = None,
) -> str:
    """The whole report as HTML. `result` is the object that `demo --json` prints."""
    samples = sorted(samples, key=lambda s: s.wall)
    made = made or datetime.now(UTC)
    styles = member_styles(result["models"])
    sections = [
        _headline(result),
        adaptation.gains(result["models"], result["served"]),
        _performance(samples, evidence, styles),
        _models_table(result["models"], styles),
        adaptation.moves(evidence.changes),
        adaptation.incidents(evidence.drifts, evidence.changes, next(iter(styles), None)),
        _pair(_calibration(evidence), _biggest_shift(evidence)),
        _pair(_memory(samples), _speed(samples)),
        _totals(result),
    ]
    lead = f"<p class=lead>{escape(description)}</p>" if description else ""
    made_of = f"<p class=quiet>{_span(evidence)} &middot; report of {made:%-d %B %Y, %H:%M} UTC</p>"
    return framed(title, lead + made_of, sections)


def member_styles(models: dict[str, dict[str, Any]]) -> dict[str, str]:
    """CSS class of each member, champion first, then challengers, frozen and prior."""
    order = ("champion", "challenger", "frozen", "prior")
    ranked = sorted(
        models, key=lambda name: order.index(role) if (role := role_of(name, models[name])) in order else 9
    )
    styles = {}
    challengers = 0
    for name in ranked:
        role = role_of(name, models[name])
        if role == "challenger":
            challengers += 1
            role = f"challenger{min(challengers, 3)}"
        styles[name] = role
    return styles


def _span(evidence: RunRecords) -> str:
    if not math.isfinite(evidence.first_at):
        return "no predictions"
    first, last = (datetime.fromtimestamp(at, UTC) for at in (evidence.first_at, evidence.last_at))
    return f"{first:%-d %B %Y} to {last:%-d %B %Y}"


def _main_metric(models: dict[str, dict[str, Any]]) -> tuple[str, str]:
    """(key, name) of the metric that heads the page."""
    states = list(models.values())
    for key, name in (("roc_auc", "ROC AUC"), ("log_loss", "log loss"), ("rmse", "RMSE"), ("mae", "MAE")):
        if any(state.get(key) is not None for state in states):
            return key, name
    return "accuracy", "accuracy"


def _headline(result: dict[str, Any]) -> str:
    models = result["models"]
    key, name = _main_metric(models)
    by_role = {role_of(member, state): state.get(key) for member, state in models.items()}
    by_role[adaptation.ALONE] = by_role.get("champion")
    beside = ", ".join(
        f"{role} {figure(by_role[role])}"
        for role in (adaptation.ALONE, "frozen", "prior")
        if by_role.get(role) is not None
    )
    tiles = [
        (figure(result["served"].get(key)), f"{name} of what served", beside),
        (
            figure(result["predictions"]),
            "predictions",
            f"{result['labelled']:,} labelled, {result['pending']:,} pending",
        ),
        (
            figure(result.get("events_per_second"), 0),
            "events a second",
            f"{result['events']:,} events in {result['seconds']:,.0f} s",
        ),
        (figure(result.get("cpu_us_per_event"), 0) + "<small> µs</small>", "CPU an event, worker", ""),
        (figure(result["drift_events"]), "drift events", f"{result['dead_letters']:,} dead letters"),
    ]
    return (
        "<section class=tiles>"
        + "".join(
            f"<div class=tile><b>{value}</b><span>{label}</span><i>{note or '&nbsp;'}</i></div>"
            for value, label, note in tiles
        )
        + "</section>"
    )


def _legend(lines: Iterable[Line], extra: str = "") -> str:
    keys = "".join(f"<span><i class='key {line.style}'></i>{escape(line.name)}</span>" for line in lines)
    return f"<div class=legend>{keys}{extra}</div>"


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


def _performance(samples: Sequence[Sample], evidence: RunRecords, styles: dict[str, str]) -> str:
    if len(samples) < 2:
        return ""
    span = (samples[0].at, samples[-1].at)
    marks = [m for m in _drift_marks(evidence.drifts) if span[0] <= m.x <= span[1]]
    last = next((s.models for s in reversed(samples) if s.models), {})
    loss = _first_of(LOSSES, last)
    ranked = _first_of(RANKS, last)
    ticks = (
        "<span><i class='key tickmark of-loss'></i>drift of losses or labels</span>"
        "<span><i class='key tickmark of-feature'></i>drift of features or scores</span>"
        if marks
        else ""
    )
    out = []
    for metric, series, note in (
        (loss, rolling, "mean over the labels that came in each interval; lower is better"),
        (ranked, over_time, "higher is better"),
    ):
        if metric is None:
            continue
        heading = f"Rolling {(LOSSES | RANKS)[metric]}"
        lines = [
            Line(_titled(name, style), style, series(samples, name, metric))
            for name, style in reversed(styles.items())
            if not (metric == "roc_auc" and style == "prior")
        ]
        chart = time_chart(lines, span, label=heading, marks=marks)
        if chart:
            shown = [line for line in reversed(lines) if len(line.points) > 1]
            out.append(
                f"<section><h2>{heading}</h2>"
                f"<p class=quiet>Over event time; {note}.</p>" + _legend(shown, ticks) + chart + "</section>"
            )
    return "".join(out)


def _first_of(metrics: Iterable[str], models: dict[str, dict[str, Any]]) -> str | None:
    """The first metric that any member has."""
    return next((m for m in metrics if any(m in state for state in models.values())), None)


def _titled(member: str, style: str) -> str:
    role = style.rstrip("0123456789")
    return member if member == role else f"{member} ({role})"


def _models_table(models: dict[str, dict[str, Any]], styles: dict[str, str]) -> str:
    columns = [
        (key, name)
        for key, name in (
            ("roc_auc", "ROC AUC"), ("pr_auc", "PR AUC"), ("log_loss", "log loss"), ("brier", "Brier"),
            ("mae", "MAE"), ("rmse", "RMSE"), ("r2", "R²"), ("accuracy", "accuracy"), ("kappa", "kappa"),
            ("kappa_temporal", "kappa temporal"), ("cost", "cost"), ("n", "labels"),
        )
        if any(state.get(key) is not None for state in models.values())
    ]  # fmt: skip
    head = "".join(f"<th>{name}</th>" for _, name in columns)
    rows = "".join(
        f"<tr><td><i class='key {style}'></i>{escape(name)}</td>"
        f"<td>{escape(role_of(name, models[name]))}</td>"
        + "".join(f"<td>{figure(models[name].get(key), 4)}</td>" for key, _ in columns)
        + "</tr>"
        for name, style in styles.items()
    )
    return (
        "<section><h2>Models</h2><p class=quiet>Each prediction was made before its label was known; every "
        "member saw the same examples.</p><div class=scroll><table><thead><tr><th>member</th><th>role</th>"
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _pair(left: str, right: str) -> str:
    return f"<div class=pair>{left}{right}</div>" if left or right else ""


def _calibration(evidence: RunRecords) -> str:
    bins = evidence.calibration()
    chart = calibration_chart(bins, label="Calibration of what served", size=390)
    if not chart:
        return ""
    total = sum(b.count for b in bins)
    error = sum(b.count * abs(b.predicted - b.observed) for b in bins) / total
    return (
        "<section><h2>Calibration of what served</h2><p class=quiet>Observed against predicted, as served: "
        f"expected calibration error {error:.4f} over {total:,} labels. Bars: how many.</p>{chart}</section>"
    )


def _biggest_shift(evidence: RunRecords) -> str:
    shift = evidence.biggest_shift()
    if shift is None:
        return ""
    event = shift.event
    points = evidence.feature_over_time(shift.feature, event.key)
    start, end, at = evidence.first_at, evidence.last_at, event.at.timestamp()
    others = sorted(
        e.at.timestamp()
        for e in evidence.drifts
        if e.key == event.key and feature_of(e.subject) == shift.feature
    )
    previous = max((t for t in others if t < at), default=start)
    following = min((t for t in others if t > at), default=end)
    least = (end - start) * 0.04
    lines = [
        Line("mean of the feature", "champion", points),
        Line("before", "level", [(min(previous, at - least), event.before.mean), (at, event.before.mean)]),
        Line("after", "level", [(at, event.after.mean), (max(following, at + least), event.after.mean)]),
    ]
    marks = [Mark(at, _drift_title(event), "of-loss", 0)]
    chart = time_chart(
        lines, (start, end), label=f"{shift.feature} over time", marks=marks, width=HALF, height=330
    )
    if not chart:
        return ""
    return (
        f"<section><h2>Biggest drift of a feature: {escape(shift.feature)}</h2><p class=quiet>Key "
        f"{escape(event.key)}, {event.at:%-d %B %Y %H:%M} UTC, by {escape(event.detector)}: mean "
        f"{event.before.mean:.4g} over {event.before.count:,} values, then {event.after.mean:.4g} over "
        f"{event.after.count:,} ({shift.size:.1f} standard deviations).</p>{chart}</section>"
    )


def memory(samples: Sequence[Sample]) -> tuple[float, float, bool] | None:
    """Memory in MB after the first third and at the end, and whether it is flat (within 10 %)."""
    known = [s for s in samples if s.rss]
    if len(known) < 6:
        return None
    third = known[len(known) // 3 : len(known) // 3 + max(1, len(known) // 10)]
    last = known[-max(1, len(known) // 10) :]
    warm, end = (sum(s.rss or 0 for s in part) / len(part) / 1e6 for part in (third, last))
    return warm, end, end <= warm * 1.1


def _memory(samples: Sequence[Sample]) -> str:
    points = [(s.at, s.rss / 1e6) for s in _thinned(samples) if s.rss]
    if len(points) < 2:
        return ""
    line = Line("resident memory", "champion", points)
    chart = time_chart(
        [line], (samples[0].at, samples[-1].at), label="Memory", floor=0.0, width=HALF, height=200
    )
    found = memory(samples)
    note = ""
    if found is not None:
        warm, end, flat = found
        verdict = "flat" if flat else f"grew by {end - warm:,.0f} MB"
        note = f": {warm:,.0f} MB after a third of the run, {end:,.0f} MB at its end ({verdict})"
    return f"<section><h2>Memory of the worker</h2><p class=quiet>MB resident{note}.</p>{chart}</section>"


def _speed(samples: Sequence[Sample]) -> str:
    thin = _thinned(samples)
    points = [
        ((a.at + b.at) / 2, (b.events - a.events) / (b.wall - a.wall))
        for a, b in pairwise(thin)
        if b.wall > a.wall
    ]
    line = Line("events a second", "champion", points)
    chart = (
        time_chart(
            [line], (samples[0].at, samples[-1].at), label="Throughput", floor=0.0, width=HALF, height=200
        )
        if len(points) > 1
        else ""
    )
    if not chart:
        return ""
    return (
        "<section><h2>Throughput</h2><p class=quiet>Events folded a second of wall time, by the event time "
        f"they belong to.</p>{chart}</section>"
    )


def _totals(result: dict[str, Any]) -> str:
    names = (
        "events", "predictions", "labelled", "unlabelled", "void", "pending", "dead_letters", "duplicates",
        "late", "evicted_keys", "drift_events", "partitions", "seconds", "events_per_second",
        "cpu_us_per_event",
    )  # fmt: skip
    cells = "".join(
        f"<div><dt>{name.replace('_', ' ')}</dt><dd>{figure(result[name], 1)}</dd></div>"
        for name in names
        if result.get(name) is not None
    )
    digests = "".join(
        f"<p>{kind} <code>{escape(digest)}</code></p>" for kind, digest in result["digests"].items()
    )
    return (
        f"<section><h2>Totals</h2><dl class=totals>{cells}</dl>"
        "<p class=quiet>Digests of what was put out, equal to those of <code>driftline simulate</code> "
        f"over the same events:</p>{digests}</section>"
    )
