"""`driftline evaluate`: members, pool and detectors over a file or a case, as one object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

from driftline.infra.errors import InfraError
from driftline.infra.offline.labelled_table import LabelledTable, open_table
from driftline.infra.report.figures import FIGURE_TITLES
from driftline.online_models.evaluation.catalogue import GENERATED, SHIPPED, stream_of
from driftline.online_models.evaluation.detection import compare, score
from driftline.online_models.evaluation.lineup import DEFAULT, scope_of
from driftline.online_models.evaluation.prequential import (
    CURVE_LABELS,
    SERVED,
    EvaluationResult,
    MemberFigures,
    Prequential,
    task_of,
)
from driftline.online_models.evaluation.stream import (
    KnownChange,
    LabelKind,
    LabelKnown,
    RequestAsked,
    Step,
    Stream,
)
from driftline.online_models.members.member import PerKey
from driftline.streams.declare.case_models import check_models_of
from driftline.streams.declare.events import Command
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.intake import Intake
from driftline.streams.fold.label_join import Lesson
from driftline.streams.fold.learner_input import Question, Reply
from driftline.streams.fold.route import pool_key_of
from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.sources import layout, open_source, with_closing_clock
from driftline.streams.simulation.tables import is_table

_KINDS: dict[str, LabelKind] = {"binary": "binary", "multiclass": "multiclass", "regression": "regression"}
ALARMS = 200
"""So many alarms are listed; their number is given in any case."""


def evaluate_stream(stream: Stream, scope: PerKey, reference: str, *, delay: int = 0) -> dict[str, Any]:
    """A pool over a stream; detectors are scored where its changes are known."""
    run = Prequential(scope, task_of(stream.kind), reference)
    started = perf_counter()
    run.run(stream.steps(delay))
    outcome = run.result()
    result = _result(stream.name, outcome, reference, perf_counter() - started) | {"delay": delay}
    if stream.changes:
        result["changes"] = [asdict(change) for change in stream.changes]
        if stream.kind != "regression":
            result["detectors"] = _detectors(outcome, stream.changes)
    return result


def is_stream(name: str) -> bool:
    """Whether it is the name of a data set of River's or of a generated stream."""
    return name in GENERATED or name in SHIPPED


def evaluate_named(
    name: str, *, models: Sequence[str] = (), delay: int = 0, limit: int | None = None
) -> dict[str, Any]:
    """The default members, or the named ones, over a stream of the catalogue. Raises ModelsError."""
    stream = stream_of(name)
    if limit is not None:
        stream = stream.take(limit)
    names = models or DEFAULT[stream.kind]
    return evaluate_stream(stream, scope_of(stream.kind, models), names[0], delay=delay)


def evaluate_file(
    path: Path,
    label: str,
    *,
    kind: str | None = None,
    models: Sequence[str] = (),
    delay: int = 0,
    limit: int | None = None,
    encoding: str | None = None,
) -> dict[str, Any]:
    """The default members, or the named ones, over a table. Raises InfraError, ModelsError, StreamsError."""
    table = open_table(path, label, _KINDS[kind] if kind else None, limit, encoding)
    names = models or DEFAULT[table.stream.kind]
    result = evaluate_stream(table.stream, scope_of(table.stream.kind, models), names[0], delay=delay)
    return result | {"table": _table(table)}


def evaluate_case(
    case: UseCase, source: str | None = None, *, limit: int | None = None, models: Sequence[str] = ()
) -> dict[str, Any]:
    """The case's own pools, or ones of the named models, over its source; labels come when they came.

    Features are computed as in service, by the fold.
    """
    if not models:
        check_models_of(case)
    kind = _KINDS[case.task.kind]
    scope = scope_of(kind, models) if models else case.models
    reference = models[0] if models else case.models.first.name
    run = Prequential(scope, case.task, reference)
    started = perf_counter()
    run.run(steps_of(case, source, limit))
    return _result(case.name, run.result(), reference, perf_counter() - started) | {"delay": "as it came"}


def steps_of(case: UseCase, source: str | None = None, limit: int | None = None) -> Iterator[Step]:
    """The requests and labels that the fold makes of a case's events, each with its pool's key.

    A label is a step when it is learned; a corrected one is none: a model learns each request once.
    """
    whole = replace(case, partitions=1)
    intake = Intake(whole, whole.feature_state(), 0)
    pool_key = pool_key_of(whole)
    waiting: dict[str, int] = {}
    numbers = count()
    events = with_closing_clock(case, open_source(case, source, limit))
    for _, record in layout(case, events, 1):
        for item, _, _ in intake.fold([record], Outputs()):
            if isinstance(item, Command | Reply) or item.pending.silent:
                continue
            pending = item.pending
            if isinstance(item, Question):
                number = waiting[pending.prediction_id] = next(numbers)
                yield RequestAsked(number, pending.x or {}, pool_key(pending))
                continue
            is_learned = isinstance(item, Lesson) or item.is_due or item.status != "labelled"
            asked = waiting.pop(pending.prediction_id, None) if is_learned else None
            if asked is not None:
                yield LabelKnown(asked, item.label)


def _result(name: str, result: EvaluationResult, reference: str, seconds: float) -> dict[str, Any]:
    members = [row.name for row in result.rows if row.seconds is not None]  # no combination, no baseline
    best = result.best(members)
    return {
        "stream": name,
        "task": result.kind,
        "requests": result.requests,
        "labels": result.labels,
        "seconds": round(seconds, 3),
        "score": result.score,
        "served": _figures(result.row(SERVED)),
        "default": reference,
        "best": best.name,
        "models": {row.name: _figures(row) for row in result.rows if row.name != SERVED},
        "window": CURVE_LABELS,
        "curves": {row.name: [_rounded(point) for point in row.curve] for row in result.rows},
        "alarms": len(result.alarms),
        "reported": [asdict(alarm) for alarm in result.alarms[:ALARMS]],
    }


def _figures(row: MemberFigures) -> dict[str, Any]:
    figures = {name: _rounded(row.metrics[name]) for name in (*FIGURE_TITLES, "n") if name in row.metrics}
    own = {"role": row.role, "live": row.live}
    seconds = {"seconds": None if row.seconds is None else round(row.seconds, 3), "bytes": row.bytes}
    return own | figures | seconds


def _rounded(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else float(f"{value:.6g}")


def _detectors(result: EvaluationResult, changes: Sequence[KnownChange]) -> dict[str, Any]:
    """Scores of detectors on the reference's errors, and of the drifts that the pool confirmed."""
    confirmed = [alarm.request for alarm in result.alarms if alarm.kind == "drift"]
    scores = {"pool": score(confirmed, changes, result.requests), **compare(result.errors, changes)}
    return {
        name: {key: _rounded(value) for key, value in asdict(each).items()} for name, each in scores.items()
    }


def _table(table: LabelledTable) -> dict[str, Any]:
    columns: Mapping[str, Any] = {name: asdict(column) for name, column in table.columns.items()}
    used = ("number", "text")
    return {
        "label": table.label,
        "positive": table.positive,
        "rows": table.rows,
        "unlabelled": table.unlabelled,
        "features": [c for c, v in columns.items() if v["content"] in used and c != table.label],
        "left_out": {
            c: v["content"] for c, v in columns.items() if v["content"] not in used and c != table.label
        },
        "missing": {c: v["missing"] for c, v in columns.items() if v["missing"] and c != table.label},
    }


def stream_path(text: str) -> Path | None:
    """The file that an argument names; None for a case, `module:attribute` or a short name. Raises InfraError
    for a file name without a file.
    """
    path = Path(text)
    if path.is_file():
        return path
    if is_table(path):
        raise InfraError(f"{path} does not exist")
    return None
