"""Prequential evaluation: a pool answers every example first, and then learns from it.

(Gama et al. 2013, On evaluating stream learning algorithms.) Requests and labels are separate steps, so a
late label is learned late, and models are as old at each answer as they would be in production.
"""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import thread_time
from typing import Any, NamedTuple

from driftline.online_models.errors import ModelsError
from driftline.online_models.evaluation.stream import LabelKind, LabelKnown, RequestAsked, Step
from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.pool.pool import Forecast, Pool
from driftline.online_models.pool.report import merged_report
from driftline.online_models.pool.serving_change import ModelChange
from driftline.online_models.tasks.metrics import metrics_of
from driftline.online_models.tasks.protocol import Task
from driftline.online_models.tasks.task import Binary, Label, Multiclass, Regression

CURVE_LABELS = 500
"""The number of labels in one point of a curve."""
SERVED = "served"
"""The name of the row with the pool's own answers, whichever member gave them."""


class Request:
    """A placeholder for the event types of a task in an evaluation."""


def _itself(label: Any) -> Any:
    return label


def task_of(kind: LabelKind) -> Task:
    """A task of that kind, for pools that do not learn from a log."""
    label = Label(Request, on="id", value=_itself, wait=1.0)
    if kind == "binary":
        return Binary("label", ask=Request, label=label)
    if kind == "multiclass":
        return Multiclass("label", ask=Request, label=label)
    return Regression("label", ask=Request, label=label)


class Timed:
    """An estimator that measures the CPU seconds of its calls."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self.seconds = 0.0

    @property
    def _wrapped_model(self) -> Any:
        return self.estimator

    def learn_one(self, x: dict[str, Any], y: Any, w: float = 1.0) -> None:
        """See River."""
        started = thread_time()
        if w == 1.0:
            self.estimator.learn_one(x, y)
        else:
            self.estimator.learn_one(x, y, w=w)
        self.seconds += thread_time() - started

    def predict_one(self, x: dict[str, Any]) -> Any:
        """See River."""
        started = thread_time()
        said = self.estimator.predict_one(x)
        self.seconds += thread_time() - started
        return said

    def predict_proba_one(self, x: dict[str, Any]) -> Any:
        """See River."""
        started = thread_time()
        said = self.estimator.predict_proba_one(x)
        self.seconds += thread_time() - started
        return said


def timed(scope: PerKey) -> PerKey:
    """The same declaration with timed estimators."""

    def watched(member: Any) -> Any:
        if not isinstance(member, Member):
            return member
        build = member.build
        return replace(member, build=lambda: Timed(build()))

    return replace(
        scope,
        champion=watched(scope.champion),
        challengers=[watched(member) for member in scope.challengers],
    )


def cpu_seconds(estimator: Any) -> float | None:
    """The CPU seconds of a timed estimator; None for any other."""
    return estimator.seconds if isinstance(estimator, Timed) else None


def bytes_of(estimator: Any) -> int:
    """The size of an estimator in bytes: River's own count of memory, or else the length of its pickle."""
    inner = estimator.estimator if isinstance(estimator, Timed) else estimator
    counted = getattr(inner, "_raw_memory_usage", None)
    return int(counted) if counted is not None else len(pickle.dumps(inner, protocol=5))


@dataclass(frozen=True, slots=True)
class Notice:
    """A drift or a change of the serving member, as the pool reported it."""

    request: int
    key: str
    kind: str
    subject: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MemberFigures:
    """One member's figures: `metrics` over the run, `curve` by windows of `CURVE_LABELS` labels.

    The curve is accuracy, or root mean squared error for numbers; None for a window without answers.
    `seconds` is CPU time. It is None for combinations and baselines, which have no estimator of their own.
    """

    name: str
    role: str
    metrics: Mapping[str, Any]
    curve: Sequence[float | None]
    seconds: float | None
    bytes: int | None
    live: bool = True


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The result of an evaluation.

    `errors` are the reference member's, in the order of labels: 0 or 1, or squared errors for numbers.
    """

    kind: str
    requests: int
    labels: int
    rows: Sequence[MemberFigures]
    alarms: Sequence[Notice]
    errors: Sequence[float]

    @property
    def score(self) -> str:
        """The name of the figure by which members are ranked."""
        return "rmse" if self.kind == "regression" else "accuracy"

    def row(self, name: str) -> MemberFigures:
        """The row of that name. Raises KeyError."""
        return {row.name: row for row in self.rows}[name]

    def best(self, among: Iterable[str]) -> MemberFigures:
        """The best of the named rows in hindsight. Raises ModelsError if none of them answered."""
        names = set(among)
        rows = [row for row in self.rows if row.name in names and row.metrics.get(self.score) is not None]
        if not rows:
            raise ModelsError("no member answered a request whose label came")
        if self.kind == "regression":
            return min(rows, key=lambda row: float(row.metrics["rmse"]))
        return max(rows, key=lambda row: float(row.metrics["accuracy"]))


class _Curve:
    """Means of a member's errors by windows of labels. With `number` they are squared errors."""

    def __init__(self, number: bool) -> None:
        self.points: list[float | None] = []
        self._number = number
        self._sum = 0.0
        self._n = 0
        self._labels = 0

    def update(self, error: float | None) -> None:
        self._labels += 1
        if error is not None:
            self._sum += error
            self._n += 1
        if self._labels == CURVE_LABELS:
            self.close()

    def close(self) -> None:
        """End a window, unless it is empty."""
        if self._labels:
            mean = self._sum / self._n if self._n else None
            self.points.append(mean if mean is None else mean**0.5 if self._number else 1.0 - mean)
        self._sum, self._n, self._labels = 0.0, 0, 0


class _Waiting(NamedTuple):
    asked: RequestAsked
    forecast: Forecast


class Prequential:
    """Runs a pool for each key over one stream of steps.

    `reference` names the member whose errors are kept for evaluating detectors.
    """

    def __init__(self, scope: PerKey, task: Task, reference: str) -> None:
        self._task = task
        self._scope = timed(scope)
        self._pools: dict[str, Pool] = {}
        self._names = list(merged_report([self._pool("")]))
        self._pools.clear()
        self._reference = self._names.index(reference)
        self._served = metrics_of(task)
        self._curves = [_Curve(task.kind == "regression") for _ in (*self._names, SERVED)]
        self._alarms: list[Notice] = []
        self._errors = array("d")
        self._waiting: dict[int, _Waiting] = {}
        self._requests = 0
        self._position = -1

    def _pool(self, key: str) -> Pool:
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(self._task, self._scope, key, 0)
        return pool

    def run(self, steps: Iterable[Step]) -> None:
        """Answer the requests and learn the labels, in their order."""
        for position, step in enumerate(steps):
            self._position = position
            if isinstance(step, RequestAsked):
                self._answer(step)
            else:
                self._learn(step)

    def _answer(self, asked: RequestAsked) -> None:
        pool = self._pool(asked.key)
        self._requests += 1
        forecast, changes = pool.predict(asked.x, str(asked.number))
        self._tell(asked.key, changes)
        self._note(asked.key, pool.observe(asked.x, forecast, float(self._position), self._position))
        self._waiting[asked.number] = _Waiting(asked, forecast)

    def _learn(self, known: LabelKnown) -> None:
        asked, forecast = self._waiting.pop(known.number)
        if known.y is None:
            return
        y = self._task.check_label(known.y)
        self._served.update(y, forecast.output)
        errors = [self._error(y, output) for output in (*forecast.outputs, forecast.output)]
        for curve, error in zip(self._curves, errors, strict=True):
            curve.update(error)
        reference = errors[self._reference]
        self._errors.append(1.0 if reference is None else reference)
        at = float(self._position)
        pool = self._pool(asked.key)
        learned = pool.learn(asked.x, y, forecast, at, self._position, str(asked.number))
        self._tell(asked.key, learned.changes)
        self._note(asked.key, learned.drifts)

    def _error(self, y: Any, output: Any) -> float | None:
        if output is None:
            return None
        if self._task.kind == "regression":
            return self._task.loss(y, output)
        return float(self._task.point(output) != y)

    def _tell(self, key: str, changes: Sequence[ModelChange]) -> None:
        for change in changes:
            self._alarms.append(Notice(self._requests - 1, key, change.kind, change.member, change.reason))

    def _note(self, key: str, drifts: Sequence[Any]) -> None:
        for drift in drifts:
            self._alarms.append(Notice(self._requests - 1, key, drift.severity, drift.subject))

    def result(self) -> EvaluationResult:
        """The figures so far."""
        for curve in self._curves:
            curve.close()
        pools = list(self._pools.values())
        report = merged_report(pools) if pools else {}
        seats = [pool.roster.state.seats for pool in pools]
        rows = [
            MemberFigures(
                SERVED, "what was answered", self._served.summary(), self._curves[-1].points, None, None
            )
        ]
        for index, name in enumerate(self._names if pools else ()):
            entry = report[name]
            own = [e for of_pool in seats if (e := of_pool[index].estimator) is not None]
            spent = [seconds for e in own if (seconds := cpu_seconds(e)) is not None]
            seconds = sum(spent) if spent and entry["role"] != "baseline" else None
            rows.append(
                MemberFigures(
                    name,
                    entry["role"],
                    entry,
                    self._curves[index].points,
                    seconds,
                    sum(bytes_of(e) for e in own) if own else None,
                    entry["live"],
                )
            )
        return EvaluationResult(
            self._task.kind, self._requests, len(self._errors), rows, self._alarms, self._errors
        )
