"""The models of one key: who serves, who learns beside it, and what happens when one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from typing import Any

import msgspec

from online_models.baselines import RunningPrior
from online_models.combination import Combination, Combiner
from online_models.drift import Drift, DriftManager, Estimate
from online_models.errors import ModelsError, reason_of
from online_models.intervals import Intervals
from online_models.member import Member, PerKey, accepts_weight, copied
from online_models.metrics import Metrics, RunningMetrics, metrics_of
from online_models.promotion import Decision, Evidence, Referee
from online_models.task import Regression, Task


class Forecast(msgspec.Struct, eq=False, gc=False):
    """What a pool answered to one request: the serving member's output, and every member's.

    `row` is the number of its label among the pool's, once learned from; -1 before. `at` (seconds of event
    time) and `offset` are the request's; `reach` is half the width of the interval told, where there is one.
    """

    serving: str
    version: str
    learned_through: int
    output: Any
    outputs: tuple[Any, ...]
    row: int = -1
    at: float = 0.0
    offset: int = -1
    reach: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A change of what serves or learns, or one that was due but withheld; the evidence where it rests on
    some."""

    kind: str
    member: str
    stage: str
    reason: str
    evidence: Evidence | None = None


@dataclass(slots=True)
class Learned:
    """What learning one example showed: the serving output's loss, changes, drifts.

    `estimate` of the newest answers' performance comes with every `Monitoring.estimate_every`th label.
    """

    loss: float
    changes: Sequence[Change] = ()
    drifts: Sequence[Drift] = ()
    estimate: Estimate | None = None


_EVERY = 2**32
"""One above any chance of a request."""


@dataclass(slots=True, eq=False)
class _Seat:
    """A member at work. `live` ends with its quarantine, `learning` with that or its freezing; a
    combination, whose estimator is a `Combiner`, does not learn from examples.

    Until it is frozen, `follows` says that the frozen baseline is the first member: having learned from
    the same examples, a second estimator would only cost the time. Requests whose chance is below `reach`
    are answered and learned from.
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
    reach: int = _EVERY


_STATE = (
    "_learned_through", "_labels", "_last_resort", "_serving", "_previous", "_version", "_frozen_through",
    "_budget", "_restarts",
)  # fmt: skip
_SEAT_STATE = ("estimator", "metrics", "live", "learning", "weighted", "sampled", "follows")


class Pool:
    """Champion, challengers and baselines of one key; all learn from the same examples.

    Deterministic: it depends on the order of calls and their arguments only.
    """

    def __init__(
        self, task: Task, scope: PerKey, key: str, partition: int, slices: Sequence[str] = ()
    ) -> None:
        self._task = task
        self._scope = scope
        self.key = key
        self._partition = partition
        self._learned_through = -1
        self._labels = 0
        members = [(scope.champion, "champion"), *((m, "challenger") for m in scope.challengers)]
        combined = [index for index, (member, _) in enumerate(members) if isinstance(member, Member)]
        self._first = combined[0]
        self._combined = combined
        self._combinations = [index for index in range(len(members)) if index not in combined]
        self._seats = [
            self._seat(member, role) if isinstance(member, Member) else self._combination(member, role)
            for member, role in members
        ]
        if scope.baselines:
            self._seats += [
                _Seat("frozen", "baseline", None, None, self._new_metrics(), follows=True),
                _Seat("prior", "baseline", RunningPrior(task.kind), None, self._new_metrics()),
            ]
        self._last_resort = RunningPrior(task.kind)
        self._serving = 0
        self._previous: int | None = None
        self._budget = scope.budget
        self._version = ""
        self._frozen_through = -1
        self._members = len(members)
        names = [member.name for member, _ in members]
        baselines = [seat.name for seat in self._seats[self._members :]]
        self.drift = (
            None if scope.monitoring is None else DriftManager(scope.monitoring, task, names, baselines)
        )
        coverage = task.coverage if isinstance(task, Regression) else None
        self.intervals = None if coverage is None else Intervals(coverage)
        self._restarts = 0  # those of comparisons that drift has caused so far
        self._referee = self._new_referee(slices)
        self._apportion()
        self._renew_version()

    def _combination(self, declared: Combination, role: str) -> _Seat:
        combiner = Combiner(declared, len(self._combined), self._task.kind)
        return _Seat(declared.name, role, combiner, None, self._new_metrics(), learning=False)

    def _new_metrics(self) -> Metrics | None:
        return metrics_of(self._task) if self._scope.metrics else None

    def _seat(self, member: Member, role: str) -> _Seat:
        member.check(self._task.kind)
        if not self._task.is_supervised and (member.class_weight or member.sampling):
            raise ModelsError(
                f"member {member.name!r}: class_weight and sampling need members that learn from labels"
            )
        estimator = member.born()
        weighted = bool(member.class_weight)
        if weighted and not accepts_weight(estimator):
            raise ModelsError(
                f"member {member.name!r}: class_weight needs an estimator that learns with a weight; "
                "use sampling instead"
            )
        return _Seat(
            member.name, role, estimator, member, self._new_metrics(), weighted=weighted,
            sampled=bool(member.sampling), live=not member.reserve, learning=not member.reserve,
        )  # fmt: skip

    def _new_referee(self, slices: Sequence[str]) -> Referee | None:
        if self._scope.promotion is None:
            return None
        names = [seat.name for seat in self._seats]
        baselines = [index for index, seat in enumerate(self._seats) if seat.role == "baseline"]
        referee = Referee(self._scope.promotion, self._task.kind, names, baselines, slices)
        referee.begin(self._serving, self._candidates())
        return referee

    def _candidates(self) -> list[int]:
        """Numbers of the seats that may take over."""
        return [
            index
            for index, seat in enumerate(self._seats)
            if seat.live and seat.role != "baseline" and index != self._serving
        ]

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

    def hear(self, y: Any, delay: float, at: float) -> None:
        """Watch how long a label took that is learned at its request's deadline."""
        if self.drift is not None:
            self.drift.hear(y, delay, at)

    def _apportion(self) -> None:
        """Set what share of requests every member answers: the budget, or who serves, has changed."""
        serving = self._seats[self._serving] if self._serving < len(self._seats) else None
        everyone = serving is not None and serving.estimator.__class__ is Combiner
        beside = [
            (seat, seat.member)
            for seat in self._seats
            if seat.live and seat.member is not None and seat.role != "baseline" and seat is not serving
        ]
        cost = sum([member.cost * member.rate for _, member in beside])
        factor = 1.0 if self._budget is None or cost <= self._budget else self._budget / cost
        for seat in self._seats:
            seat.reach = _EVERY
        for seat, member in beside:
            if not everyone:
                seat.reach = int(member.rate * factor * _EVERY)
        self._by_chance = any(seat.reach < _EVERY for seat in self._seats)

    def predict(self, x: dict[str, Any], prediction_id: str = "") -> tuple[Forecast, Sequence[Change]]:
        """Ask every live member whose turn it is; the first in line that can answer serves."""
        outputs: list[Any] = []
        changes: list[Change] = []
        chance = Member.chance(prediction_id) if self._by_chance else 0
        for seat in self._seats:
            output = None
            if seat.follows:
                output = outputs[self._first]
            elif seat.live and chance < seat.reach and seat.estimator.__class__ is not Combiner:
                output = self._asked(seat, x, changes)
            outputs.append(output)
        for index in self._combinations:
            if self._seats[index].live:
                outputs[index] = self._mixed(index, outputs)
        while self._serving < len(outputs) and outputs[self._serving] is None:
            # it came to serve because another failed just now, and it had not been this one's turn
            self._ask_late(self._serving, x, outputs, changes)
        serving = self._serving
        output = outputs[serving] if serving < len(outputs) else self._task.predict(self._last_resort, x)
        forecast = Forecast(self.serving, self._version, self._serving_through, output, tuple(outputs))
        if self.intervals is not None:
            forecast.reach = self.intervals.reach()
        return forecast, changes or ()

    def _asked(self, seat: _Seat, x: dict[str, Any], changes: list[Change]) -> Any:
        """The member's output; None when it fails, which puts it in quarantine."""
        try:
            output = self._task.predict(seat.estimator, x)
            return seat.member.corrected(output) if seat.sampled and seat.member is not None else output
        except Exception as error:
            self._quarantine(seat, "predict", error, changes)
            return None

    def _mixed(self, index: int, outputs: Sequence[Any]) -> Any:
        return self._seats[index].estimator.combined([outputs[other] for other in self._combined])

    def _ask_late(self, index: int, x: dict[str, Any], outputs: list[Any], changes: list[Change]) -> None:
        if index not in self._combinations:
            outputs[index] = self._asked(self._seats[index], x, changes)
            return
        for other in self._combined:
            if self._seats[other].live and outputs[other] is None:
                outputs[other] = self._asked(self._seats[other], x, changes)
        outputs[index] = self._mixed(index, outputs) if self._seats[index].live else None

    def _quarantine(self, seat: _Seat, stage: str, error: Exception, changes: list[Change]) -> None:
        seat.live = seat.learning = seat.follows = False
        self._leave(self._seats.index(seat))
        changes.append(Change("quarantine", seat.name, stage, reason_of(error)))
        for other in self._seats:
            if other.follows and seat is self._seats[self._first]:
                self._quarantine(other, stage, error, changes)
        if seat.member is not None and not any(self._seats[index].live for index in self._combined):
            for index in self._combinations:
                if self._seats[index].live:
                    self._quarantine(self._seats[index], stage, error, changes)

    def _leave(self, index: int) -> None:
        """A seat is not live any more: if it served, the first live one in line does."""
        if index != self._serving:
            if self._referee is not None:
                self._referee.drop(index)
            self._apportion()
            return
        in_line = (other for other, seat in enumerate(self._seats) if seat.live)
        self._serving = next(in_line, len(self._seats))
        self._apportion()
        self._renew_version()
        self._compare_anew()

    @property
    def _prior(self) -> RunningPrior:
        prior: RunningPrior = self._seats[-1].estimator if self._scope.baselines else self._last_resort
        return prior

    def _compare_anew(self) -> None:
        if self._referee is not None:
            self._referee.begin(self._serving, self._candidates())

    def learn(
        self,
        x: dict[str, Any],
        y: Any,
        forecast: Forecast,
        at: float,
        offset: int,
        prediction_id: str,
        slices: Sequence[Any] = (),
    ) -> Learned:
        """Score every member's output of that request, let the members learn, decide which one serves.

        `slices` are the request's values of the declared slices, in their order.
        """
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
            if seat.follows or not seat.learning or output is None:
                continue
            try:
                if task.is_supervised or seat.member is None:
                    self._teach(seat, x, y, prediction_id)
                elif not y:
                    seat.estimator.learn_one(x)
            except Exception as error:
                changes = changes if changes is not None else []
                self._quarantine(seat, "learn", error, changes)
        if not self._scope.baselines:
            self._last_resort.learn_one(x, y)
        self._labels += 1
        self._learned_through = offset
        if self._labels == self._scope.frozen_after:
            changes = self._freeze(changes)
        if self.intervals is not None:
            self.intervals.learn(abs(y - forecast.output), forecast.reach, forecast.serving)
        losses = self._losses(y, outputs, learned.loss)
        for index in self._combinations:
            own = losses[index]
            if own is not None:
                said = [outputs[other] for other in self._combined]
                lost = [losses[other] for other in self._combined]
                self._seats[index].estimator.learn(y, said, lost, own)
        if self._referee is not None:
            for decision in self._referee.judge(losses, slices, offset, self._prior):
                changes = changes if changes is not None else []
                changes.append(self._decided(decision))
        self._renew_version()
        if changes is not None:
            learned.changes = changes
        monitoring = self._scope.monitoring
        if self.drift is not None and monitoring is not None:
            if self._labels % monitoring.estimate_every == 0:
                learned.estimate = self.drift.estimate()
            of_members = losses[: self._members]
            learned.drifts = self.drift.learn(
                y,
                forecast.output,
                learned.loss,
                of_members,
                forecast.at,
                forecast.offset,
                at,
                offset,
                outputs,
            )
            if self.drift.restarts != self._restarts:
                self._restarts = self.drift.restarts
                self._compare_anew()
        return learned

    def absorb(self, x: dict[str, Any], forecast: Forecast, offset: int) -> Sequence[Change]:
        """Let the members learn from a request that got no label, as its task needs none."""
        changes: list[Change] = []
        for seat, output in zip(self._seats, forecast.outputs, strict=True):
            if seat.learning and not seat.follows and seat.member is not None and output is not None:
                try:
                    seat.estimator.learn_one(x)
                except Exception as error:
                    self._quarantine(seat, "learn", error, changes)
        self._learned_through = offset
        self._renew_version()
        return changes

    def _losses(self, y: Any, outputs: Sequence[Any], served: float) -> Sequence[float | None]:
        """The loss of every seat, once for all who need it; None where it did not answer."""
        if self._members == 1 and self._referee is None:
            return (served,)
        loss = self._task.loss
        return [None if output is None else loss(y, output) for output in outputs]

    def _decided(self, decision: Decision) -> Change:
        kind: str = decision.kind
        if kind == "promotion" and decision.index == self._previous:
            kind = "rollback"
        if kind != "withheld":
            self._serve(decision.index, None if kind == "rollback" else self._serving)
        name = self._seats[decision.index].name
        return Change(kind, name, "promotion", decision.reason, decision.evidence)

    def _serve(self, index: int, previous: int | None) -> None:
        """Let a live seat serve; `previous` is the one that a rollback would go back to."""
        self._serving = index
        self._previous = previous
        self._apportion()
        self._renew_version()
        if self._referee is not None:
            self._referee.moved()
        self._compare_anew()

    def promote(self, name: str) -> Change:
        """A live member serves from here on, as an operator wants it."""
        index, seat = self._found(name)
        if seat is None or not seat.live or seat.follows:
            return _refused(name, "no live member has this name" if seat is None else _state_of(seat))
        if index == self._serving:
            return _refused(name, "it serves already")
        self._serve(index, self._serving if self._serving < len(self._seats) else None)
        return Change("promotion", name, "command", "")

    def rollback(self) -> Change:
        """Undo the last promotion."""
        if self._previous is None:
            return _refused("", "there is no promotion to undo")
        seat = self._seats[self._previous]
        if not seat.live or self._previous == self._serving:
            return _refused(seat.name, _state_of(seat))
        self._serve(self._previous, None)
        return Change("rollback", seat.name, "command", "")

    def freeze(self) -> Change:
        """Promote nothing by evidence any more."""
        return self._set_frozen(True, "freeze", "promotions are frozen already")

    def unfreeze(self) -> Change:
        """Promote by evidence again."""
        return self._set_frozen(False, "unfreeze", "promotions are not frozen")

    def _set_frozen(self, frozen: bool, kind: str, otherwise: str) -> Change:
        referee = self._referee
        if referee is None:
            return _refused("", "no promotion is declared, so none happens by evidence")
        if referee.is_frozen == frozen:
            return _refused("", otherwise)
        referee.is_frozen = frozen
        return Change(kind, "", "command", "")

    def add(self, name: str) -> Change:
        """A declared member that is not live (in reserve, removed, in quarantine) starts anew."""
        index, seat = self._found(name)
        if seat is None or seat.role == "baseline":
            return _refused(name, "no declared member has this name")
        if seat.live:
            return _refused(name, "it is live already")
        try:
            seat.estimator = self._newborn(seat)
        except ModelsError as error:
            return _refused(name, reason_of(error))
        seat.live, seat.learning = True, seat.member is not None
        if self._referee is not None:
            self._referee.admit(index)
        self._apportion()
        return Change("add", name, "command", "")

    def _newborn(self, seat: _Seat) -> Any:
        if seat.member is not None:
            return seat.member.born()
        if not any(self._seats[index].live for index in self._combined):
            raise ModelsError("no live member is there to combine")
        return seat.estimator.reborn()

    def remove(self, name: str) -> Change:
        """A challenger neither answers nor learns any more."""
        index, seat = self._found(name)
        if seat is None or seat.role == "baseline" or not seat.live:
            return _refused(name, "no live challenger has this name")
        if index == self._serving:
            return _refused(name, "it serves: promote another one first")
        if index == self._first and any(other.follows for other in self._seats):
            return _refused(name, "the frozen baseline, which is to be its copy, has not been made yet")
        alone = [other for other in self._combined if self._seats[other].live] == [index]
        if alone and any(self._seats[other].live for other in self._combinations):
            return _refused(name, "it is the last one that a combination has")
        seat.live = seat.learning = False
        self._leave(index)
        return Change("remove", name, "command", "")

    def set_budget(self, budget: float | None) -> Change:
        """Bound what the members that do not serve may cost; None: no bound."""
        if budget is not None and not (isfinite(budget) and budget > 0):
            return _refused("", f"a budget must be a finite number above 0, not {budget!r}")
        self._budget = budget
        self._apportion()
        rates = ", ".join(f"{seat.name} {seat.reach / _EVERY:.4g}" for seat in self._seats if seat.live)
        return Change("budget", "", "command", f"share of requests that each answers: {rates}")

    def _found(self, name: str) -> tuple[int, _Seat | None]:
        for index, seat in enumerate(self._seats):
            if seat.name == name:
                return index, seat
        return -1, None

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
                first = self._seats[self._first]
                changes = changes if changes is not None else []
                try:
                    seat.estimator = copied(first.estimator, seat.name)
                except ModelsError as error:
                    self._quarantine(seat, "freeze", error, changes)
                    continue
                seat.member, seat.sampled = first.member, first.sampled
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
        referee = None if self._referee is None else self._referee.state()
        drift = None if self.drift is None else self.drift.snapshot()
        own = {name: getattr(self, name) for name in _STATE}
        intervals = None if self.intervals is None else self.intervals.state()
        return own | {"seats": seats, "referee": referee, "drift": drift, "intervals": intervals}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave, of a pool with the same declaration."""
        for name in _STATE:
            setattr(self, name, state[name])
        if self.drift is not None:
            self.drift.restore(state["drift"])
        if self.intervals is not None:
            self.intervals.restore(state["intervals"])
        for seat, found in zip(self._seats, state["seats"], strict=True):
            for name in _SEAT_STATE:
                setattr(seat, name, found[name])
            if isinstance(seat.metrics, RunningMetrics):
                seat.metrics.of(self._task)
            if seat.role == "baseline" and seat.sampled:
                seat.member = self._scope.first  # frozen as a copy of it, sampling and all
        if self._referee is not None:
            self._referee.restore(state["referee"])
        self._apportion()

    def report(self) -> dict[str, dict[str, Any]]:
        """As `merged_report`, of this pool alone."""
        return merged_report([self])


def _refused(name: str, reason: str) -> Change:
    return Change("refused", name, "command", reason)


def _state_of(seat: _Seat) -> str:
    """Why a seat cannot take over."""
    if seat.follows:
        return "it has not been frozen yet"
    return "it serves already" if seat.live else "it is not live: add it first"


def merged_report(pools: Iterable[Pool]) -> dict[str, dict[str, Any]]:
    """{member: {role, live, serving, whole-run metrics, fading: {...}}} over several pools of one task.

    `role` is as declared; `serving` is in how many of the pools it serves now. Where intervals are told,
    `coverage` is the share of labels that those told while it served have held, `width` their mean width.
    """
    return {name: report() for name, report in member_reports(pools)}


def member_reports(pools: Iterable[Pool]) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The entries of `merged_report` one by one. What an entry is of is copied as it is now, 9 bytes a label;
    the function that then computes it takes ten times as long, and may run on another thread."""
    seats: dict[str, list[_Seat]] = {}
    serving: dict[str, int] = {}
    intervals: list[Intervals] = []
    tasks = {}
    for pool in pools:
        serving[pool.serving] = serving.get(pool.serving, 0) + 1
        if pool.intervals is not None:
            intervals.append(pool.intervals)
        for seat in pool._seats:
            seats.setdefault(seat.name, []).append(seat)
            tasks[seat.name] = pool._task
    for name, found in seats.items():
        entry: dict[str, Any] = {
            "role": found[0].role,
            "live": all(seat.live for seat in found),
            "serving": serving.get(name, 0),
        }
        told = [sum(counts) for counts in zip(*(i.counts(name) for i in intervals), strict=True)]
        if told and told[0]:
            entry |= {"coverage": told[1] / told[0], "width": told[2] / told[0]}
        merged = None
        if whole := [seat.metrics for seat in found if seat.metrics is not None]:
            merged = metrics_of(tasks[name])
            merged.merge(whole)  # type: ignore[arg-type]
        yield name, partial(_entry, entry, merged)


def _entry(entry: dict[str, Any], metrics: Metrics | None) -> dict[str, Any]:
    return entry if metrics is None else entry | metrics.summary() | {"fading": metrics.fading()}
