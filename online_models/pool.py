"""The models of one key: who serves, who learns beside it, and what happens when one fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from online_models.baselines import RunningPrior
from online_models.drift import Drift, DriftManager, Estimate
from online_models.errors import ModelsError, reason_of
from online_models.member import Member, PerKey, accepts_weight, copied
from online_models.metrics import Metrics, metrics_of
from online_models.task import Task


class Forecast(msgspec.Struct, eq=False, gc=False):
    """What a pool answered to one request: the serving member's output, and every member's.

    `row` is the number of its label among the pool's, once learned from; -1 before. `at` (seconds of event
    time) and `offset` are the request's.
    """

    serving: str
    version: str
    learned_through: int
    output: Any
    outputs: tuple[Any, ...]
    row: int = -1
    at: float = 0.0
    offset: int = -1


@dataclass(frozen=True, slots=True)
class Change:
    """A change of what serves or learns."""

    kind: str
    member: str
    stage: str
    reason: str


@dataclass(slots=True)
class Learned:
    """What learning one example showed: the serving output's loss, changes, drifts.

    `estimate` of the newest answers' performance comes with every so manieth label.
    """

    loss: float
    changes: Sequence[Change] = ()
    drifts: Sequence[Drift] = ()
    estimate: Estimate | None = None


@dataclass(slots=True)
class _Seat:
    """A member at work. `live` ends with its quarantine, `learning` with that or its freezing.

    Until it is frozen, `follows` says that the frozen baseline is the champion: having learned from
    the same examples, a second estimator would only cost the time.
    """

    name: str
    role: str
    estimator: Any
    member: Member | None
    metrics: Metrics | None
    live: bool = True
    learning: bool = True
    weighted: bool = field(default=False)
    sampled: bool = field(default=False)
    follows: bool = field(default=False)


_STATE = (
    "_learned_through", "_labels", "_last_resort", "_serving", "_version", "_frozen_through",
)  # fmt: skip
_SEAT_STATE = ("estimator", "metrics", "live", "learning", "weighted", "sampled", "follows")


class Pool:
    """Champion, challengers and baselines of one key; all learn from the same examples.

    Deterministic: it depends on the order of calls and their arguments only.
    """

    def __init__(self, task: Task, scope: PerKey, key: str, partition: int) -> None:
        self._task = task
        self._scope = scope
        self.key = key
        self._partition = partition
        self._learned_through = -1
        self._labels = 0
        members = [(scope.champion, "champion"), *((m, "challenger") for m in scope.challengers)]
        self._seats = [self._seat(member, member.name, role) for member, role in members]
        if scope.baselines:
            frozen = _Seat("frozen", "baseline", None, None, metrics_of(task) if scope.metrics else None)
            frozen.follows = True
            self._seats.append(frozen)
            self._seats.append(
                _Seat(
                    "prior",
                    "baseline",
                    RunningPrior(task.kind),
                    None,
                    metrics_of(task) if scope.metrics else None,
                )
            )
        self._last_resort = RunningPrior(task.kind)
        self._serving = 0
        self._version = ""
        self._frozen_through = -1
        names = [member.name for member, _ in members]
        self.drift = None if scope.monitoring is None else DriftManager(scope.monitoring, task, names)
        self._renew_version()

    def _seat(self, member: Member, name: str, role: str) -> _Seat:
        member.check(self._task.kind)
        estimator = member.born()
        weighted = bool(member.class_weight)
        if weighted and not accepts_weight(estimator):
            raise ModelsError(
                f"member {member.name!r}: class_weight needs an estimator that learns with a weight; "
                "use sampling instead"
            )
        metrics = metrics_of(self._task) if self._scope.metrics else None
        return _Seat(name, role, estimator, member, metrics, weighted=weighted, sampled=bool(member.sampling))

    @property
    def serving(self) -> str:
        """Name of the member that answers."""
        return self._seats[self._serving].name if self._serving < len(self._seats) else "prior"

    def _renew_version(self) -> None:
        self._version = f"{self.serving}@{self._partition}:{self._serving_through}"

    @property
    def _serving_through(self) -> int:
        """Offset of the last label that the serving member has learned from; -1 before the first."""
        if self._frozen_through >= 0 and self.serving == "frozen":
            return self._frozen_through
        return self._learned_through

    def observe(self, x: dict[str, Any], forecast: Forecast, at: float, offset: int) -> Sequence[Drift]:
        """Watch a request and its answer; returns what they show of drift."""
        forecast.at = at
        forecast.offset = offset
        if self.drift is None:
            return ()
        return self.drift.observe(x, forecast.output, at, offset)

    def predict(self, x: dict[str, Any]) -> tuple[Forecast, Sequence[Change]]:
        """Ask every live member; the first in line that can answer serves."""
        outputs: list[Any] = []
        changes: list[Change] | None = None
        predict = self._task.predict
        for seat in self._seats:
            output = None
            if seat.follows:
                output = outputs[0]
            elif seat.live:
                try:
                    output = predict(seat.estimator, x)
                    if seat.sampled and seat.member is not None:
                        output = seat.member.corrected(output)
                except Exception as error:
                    changes = changes if changes is not None else []
                    self._quarantine(seat, "predict", error, changes)
            outputs.append(output)
        serving = self._serving
        output = outputs[serving] if serving < len(outputs) else predict(self._last_resort, x)
        forecast = Forecast(self.serving, self._version, self._serving_through, output, tuple(outputs))
        return forecast, changes or ()

    def _quarantine(self, seat: _Seat, stage: str, error: Exception, changes: list[Change]) -> None:
        seat.live = seat.learning = seat.follows = False
        while self._serving < len(self._seats) and not self._seats[self._serving].live:
            self._serving += 1
        self._renew_version()
        changes.append(Change("quarantine", seat.name, stage, reason_of(error)))
        for other in self._seats:
            if other.follows and seat is self._seats[0]:
                self._quarantine(other, stage, error, changes)

    def learn(
        self, x: dict[str, Any], y: Any, forecast: Forecast, at: float, offset: int, prediction_id: str
    ) -> Learned:
        """Score every member's output of that request, then let the members learn."""
        task = self._task
        learned = Learned(task.loss(y, forecast.output))
        changes: list[Change] | None = None
        forecast.row = self._labels
        outputs = forecast.outputs
        for index, seat in enumerate(self._seats):
            output = outputs[index]
            if seat.metrics is not None:
                if output is not None:
                    seat.metrics.update(y, output)
                else:
                    seat.metrics.skip()
            if seat.follows or not seat.learning:
                continue
            try:
                self._teach(seat, x, y, prediction_id)
            except Exception as error:
                changes = changes if changes is not None else []
                self._quarantine(seat, "learn", error, changes)
        if not self._scope.baselines:
            self._last_resort.learn_one(x, y)
        self._labels += 1
        self._learned_through = offset
        if self._labels == self._scope.frozen_after:
            changes = self._freeze(changes)
        self._renew_version()
        if changes is not None:
            learned.changes = changes
        monitoring = self._scope.monitoring
        if self.drift is not None and monitoring is not None:
            if self._labels % monitoring.estimate_every == 0:
                learned.estimate = self.drift.estimate()
            losses = self._losses(y, outputs, learned.loss)
            learned.drifts = self.drift.learn(
                y, forecast.output, learned.loss, losses, forecast.at, forecast.offset, at, offset
            )
        return learned

    def _losses(self, y: Any, outputs: Sequence[Any], served: float) -> Sequence[float | None]:
        """The loss of each declared member; None where it did not answer."""
        members = 1 + len(self._scope.challengers)
        if members == 1:
            return (served,)
        loss = self._task.loss
        return [None if output is None else loss(y, output) for output in outputs[:members]]

    @staticmethod
    def _teach(seat: _Seat, x: dict[str, Any], y: Any, prediction_id: str) -> None:
        member = seat.member
        if member is None or not (seat.sampled or seat.weighted):
            seat.estimator.learn_one(x, y)
        elif member.learns(y, prediction_id):
            if seat.weighted and member.class_weight is not None:
                seat.estimator.learn_one(x, y, w=member.class_weight.get(y, 1.0))
            else:
                seat.estimator.learn_one(x, y)

    def _freeze(self, changes: list[Change] | None) -> list[Change] | None:
        for seat in self._seats:
            if seat.follows:
                champion = self._seats[0]
                changes = changes if changes is not None else []
                try:
                    seat.estimator = copied(champion.estimator, seat.name)
                except ModelsError as error:
                    self._quarantine(seat, "freeze", error, changes)
                    continue
                seat.member, seat.sampled = champion.member, champion.sampled
                seat.learning = seat.follows = False
                self._frozen_through = self._learned_through
                changes.append(Change("frozen", "frozen", "learn", f"after {self._labels} labels"))
        return changes

    def revise(self, y_old: Any, y_new: Any, forecast: Forecast) -> None:
        """Amend the metrics for a corrected label; nothing is learned again.

        None is no label: an old one that was not scored, or a new one that withdraws it. Nothing is
        amended for a request that was never learned from.
        """
        if forecast.row < 0:
            return
        for seat, output in zip(self._seats, forecast.outputs, strict=True):
            if seat.metrics is not None and output is not None:
                seat.metrics.amend(y_old, y_new, output, forecast.row)

    def state(self) -> dict[str, Any]:
        """All that was learned, by attribute; nothing is copied."""
        seats = [{name: getattr(seat, name) for name in _SEAT_STATE} for seat in self._seats]
        drift = None if self.drift is None else self.drift.snapshot()
        return {name: getattr(self, name) for name in _STATE} | {"seats": seats, "drift": drift}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave, of a pool with the same declaration."""
        for name in _STATE:
            setattr(self, name, state[name])
        if self.drift is not None:
            self.drift.restore(state["drift"])
        for seat, found in zip(self._seats, state["seats"], strict=True):
            for name in _SEAT_STATE:
                setattr(seat, name, found[name])
            if seat.role == "baseline" and seat.sampled:
                seat.member = self._scope.champion  # frozen as a copy of it, sampling and all

    def report(self) -> dict[str, dict[str, Any]]:
        """{member: {role, whole-run metrics, fading: {...}}}."""
        return merged_report([self])


def merged_report(pools: Iterable[Pool]) -> dict[str, dict[str, Any]]:
    """{member: {role, whole-run metrics, fading: {...}}} over several pools of one task."""
    return dict(member_reports(pools))


def member_reports(pools: Iterable[Pool]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of `merged_report` one by one: each takes milliseconds, between which others may run."""
    seats: dict[str, list[_Seat]] = {}
    tasks = {}
    for pool in pools:
        for seat in pool._seats:
            seats.setdefault(seat.name, []).append(seat)
            tasks[seat.name] = pool._task
    for name, found in seats.items():
        whole = [seat.metrics for seat in found if seat.metrics is not None]
        entry: dict[str, Any] = {"role": found[0].role, "live": all(seat.live for seat in found)}
        if whole:
            merged = metrics_of(tasks[name])
            merged.merge(whole)  # type: ignore[arg-type]
            entry |= merged.summary() | {"fading": merged.fading()}
        yield name, entry
