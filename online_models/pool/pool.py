"""The models of one key: which one serves, which ones learn beside it, and the score of each answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from driftline.errors import pass_interrupt
from driftline.online_models.drift import Drift, DriftManager
from driftline.online_models.drift.drift_report import Estimate
from driftline.online_models.errors import ModelsError, reason_of
from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.pool.intervals import Intervals
from driftline.online_models.pool.roster import Roster, RosterState
from driftline.online_models.pool.seat import Seat
from driftline.online_models.pool.serving_change import ModelChange
from driftline.online_models.promote.promotion import PromotionDecision
from driftline.online_models.tasks.anomaly_scores import RANKED, Calibrated
from driftline.online_models.tasks.baselines import RunningPrior
from driftline.online_models.tasks.metrics import RunningMetrics
from driftline.online_models.tasks.protocol import Task
from driftline.online_models.tasks.task import Regression


class Forecast(msgspec.Struct, eq=False, gc=False):
    """What a pool answered to one request: the output of the member that answered, and every member's.

    `row` is the number of its label among the pool's, once learned from; -1 before, and where it is not
    scored. `at` (seconds of event time) and `offset` are the request's; `reach` is half the width of the
    interval, if there is one. `unanswered` are the numbers of the members that were asked and had no answer.
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
    unanswered: tuple[int, ...] = ()


class Learned(msgspec.Struct, eq=False, gc=False):
    """The results of learning one example: the serving output's loss, changes, drifts.

    `estimate` of the newest answers' performance comes with every `Monitoring.estimate_every`th label.
    """

    loss: float
    changes: Sequence[ModelChange] = ()
    drifts: Sequence[Drift] = ()
    estimate: Estimate | None = None


class PoolState(msgspec.Struct):
    """The state of a pool: that of its parts, offset and number of the labels learned from, the answer of
    last resort, and how many restarts of comparisons drift has caused. `drift` and `intervals` are filled
    when the state is returned; a pool at work has them as objects.
    """

    roster: RosterState
    last_resort: RunningPrior
    learned_through: int = -1
    labels: int = 0
    restarts: int = 0
    drift: Any = None
    intervals: Any = None


class Failure(NamedTuple):
    """The number of a member's seat, and why it had no answer."""

    seat: int
    reason: str


class _Request(msgspec.Struct, eq=False, gc=False):
    """One request while it is answered."""

    x: dict[str, Any]
    outputs: list[Any]
    changes: list[ModelChange]
    unanswered: list[int] = []


class Pool:
    """Champion, challengers and baselines of one key; all learn from the same examples.

    Deterministic: it depends on the order of calls and their arguments only.
    """

    def __init__(
        self, task: Task, scope: PerKey, key: str, partition: int, slices: Sequence[str] = ()
    ) -> None:
        self.task = task
        self._scope = scope
        self.key = key
        self._partition = partition
        self.roster = self._new_roster(scope, task, slices)
        self._state = PoolState(self.roster.state, RunningPrior(task.kind))
        names = [seat.name for seat in self.roster.seats]
        of_members, of_baselines = names[: self.roster.members], names[self.roster.members :]
        self.drift = (
            None
            if scope.monitoring is None
            else DriftManager(scope.monitoring, task, of_members, of_baselines)
        )
        coverage = task.coverage if isinstance(task, Regression) else None
        self.intervals = None if coverage is None else Intervals(coverage)

    def _new_roster(self, scope: PerKey, task: Task, slices: Sequence[str]) -> Roster:
        return Roster(scope, task, slices)

    @property
    def serving(self) -> str:
        """Name of the member that answers."""
        return self.roster.name_of(self.roster.state.serving)

    @property
    def learned_through(self) -> int:
        """Offset of the last label that was learned from; -1 before the first."""
        return self._state.learned_through

    @property
    def labels(self) -> int:
        """How many labels were learned from."""
        return self._state.labels

    def _through(self, index: int) -> int:
        """Offset of the last label that a seat has learned from; -1 before the first."""
        seats = self.roster.seats
        own = seats[index].state.through if index < len(seats) else -1
        return own if own >= 0 else self._state.learned_through

    def observe(self, x: dict[str, Any], forecast: Forecast, at: float, offset: int) -> Sequence[Drift]:
        """Watch a request and its answer; returns the drift that they show."""
        forecast.at = at
        forecast.offset = offset
        if self.drift is None:
            return ()
        return self.drift.observe(x, forecast.output, at, offset)

    def label_arrived(self, y: Any, delay: float, at: float) -> None:
        """Watch the delay of a label that is learned at its request's deadline."""
        if self.drift is not None:
            self.drift.label_arrived(y, delay, at)

    def answered(self, failures: Sequence[Failure]) -> Sequence[ModelChange]:
        """A replica has answered a request, and these members have failed to; what follows from that for who
        serves is decided here, as if they had been asked here."""
        roster = self.roster
        changes = roster.begin_request()
        for index, reason in failures:
            if roster.seats[index].state.live:
                roster.fail(index, "predict", reason, changes)
        return changes

    def predict(self, x: dict[str, Any], prediction_id: str = "") -> tuple[Forecast, Sequence[ModelChange]]:
        """Ask every live member whose turn it is; the first in line that can answer gives the answer."""
        roster = self.roster
        outputs: list[Any] = [None] * len(roster.seats)
        request = _Request(x, outputs, roster.begin_request())
        chance = Member.chance(prediction_id) if roster.by_chance else 0
        for index, seat in roster.asked:
            if chance < seat.reach:
                outputs[index] = self._ask(index, seat, request)
        for index in roster.followers:
            outputs[index] = outputs[roster.first]
        for index in roster.combinations:
            if roster.seats[index].state.live:
                outputs[index] = self._mixed(index, outputs)
        answering = roster.state.serving
        if answering >= len(outputs) or outputs[answering] is None:
            answering = self._stand_in(request)
        is_seat = answering < len(outputs)
        output = outputs[answering] if is_seat else self.task.predict(self._state.last_resort, x)
        name, through = roster.name_of(answering), self._through(answering)
        version = f"{name}@{self._partition}:{through}"
        forecast = Forecast(name, version, through, output, tuple(outputs))
        if request.unanswered:
            forecast.unanswered = tuple(request.unanswered)
        if self.intervals is not None:
            forecast.reach = self.intervals.reach()
        return forecast, request.changes

    def _ask(self, index: int, seat: Seat, request: _Request) -> Any:
        """The member's output; None when it has none, as before its first example, or fails."""
        state, member = seat.state, seat.member
        estimator = state.estimator
        was_raw = estimator.__class__ is Calibrated and not estimator.is_ranked
        try:
            # a copy: estimators may change it (River's Renamer does), and others read it too
            x = request.x if estimator.__class__ is RunningPrior else request.x.copy()
            output = self.task.predict(estimator, x)
            if output is None:
                if state.has_learned:
                    raise ModelsError("the answer is None")
            elif state.sampled and member is not None:
                output = member.corrected(output)
            if was_raw and estimator.is_ranked:
                request.changes.append(ModelChange("calibrated", seat.name, "predict", RANKED))
        except BaseException as error:
            pass_interrupt(error)
            self.roster.fail(index, "predict", reason_of(error), request.changes)
            output = None
        if output is None:
            request.unanswered.append(index)
        return output

    def _mixed(self, index: int, outputs: Sequence[Any]) -> Any:
        roster = self.roster
        return roster.seats[index].state.estimator.combined([outputs[other] for other in roster.combined])

    def _stand_in(self, request: _Request) -> int:
        """The member that answers if the serving one does not: the first in line that can, asked even if it
        is not its turn."""
        outputs = request.outputs
        for index in self.roster.line():
            if outputs[index] is None and index not in request.unanswered:
                self._ask_late(index, request)
            if outputs[index] is not None:
                return index
        return len(outputs)

    def _ask_late(self, index: int, request: _Request) -> None:
        roster, outputs = self.roster, request.outputs
        seats = roster.seats
        if index in roster.combinations:
            for other in roster.combined:
                if seats[other].state.live and outputs[other] is None and other not in request.unanswered:
                    outputs[other] = self._ask(other, seats[other], request)
            outputs[index] = self._mixed(index, outputs)
        elif seats[index].state.follows:
            outputs[index] = outputs[roster.first]
        else:
            outputs[index] = self._ask(index, seats[index], request)

    def learn(
        self,
        x: dict[str, Any],
        y: Any,
        forecast: Forecast,
        at: float,
        offset: int,
        prediction_id: str,
        slices: Sequence[Any] = (),
        *,
        published: bool = True,
    ) -> Learned:
        """Score every member's output of that request, let the members learn, decide which one serves.

        `slices` are the request's values of the declared slices, in their order. An example that was not
        `published`, as in a warm-up, is learned from and compared, but not in the metrics.
        """
        state, roster = self._state, self.roster
        outputs = forecast.outputs
        learned = Learned(self.task.loss(y, forecast.output))
        changes: list[ModelChange] = []
        forecast.row = state.labels if published else -1
        for index, seat in enumerate(roster.seats):
            output = outputs[index]
            seat_state = seat.state
            metrics = seat_state.metrics
            if metrics is not None:
                if published and output is not None:
                    metrics.update(y, output)
                else:
                    metrics.skip()
            if seat_state.learning and (output is not None or index in forecast.unanswered):
                self._teach(index, seat, x, y, prediction_id, changes)
        if not self._scope.baselines:
            state.last_resort.learn_one(x, y)
        state.labels += 1
        state.learned_through = offset
        if state.labels >= self._scope.frozen_after and roster.is_to_freeze:
            changes += roster.freeze(state.labels, offset)
        if self.intervals is not None:
            self.intervals.learn(abs(y - forecast.output), forecast.reach, forecast.serving)
        losses = self._losses(y, forecast, learned.loss)
        if roster.combinations:
            self._weigh(y, outputs, losses)
        if roster.referee is not None:
            changes += map(self._decided, roster.referee.judge(losses, slices, offset, self._prior))
        learned.changes = changes
        if self.drift is not None:
            self._watch(self.drift, y, forecast, at, offset, losses, learned)
        return learned

    def _teach(
        self,
        index: int,
        seat: Seat,
        x: dict[str, Any],
        y: Any,
        prediction_id: str,
        changes: list[ModelChange],
    ) -> None:
        try:
            if self.task.is_supervised or seat.member is None:
                seat.teach(x, y, prediction_id)
            elif not y:
                seat.observe(x)
        except BaseException as error:
            pass_interrupt(error)
            self.roster.fail(index, "learn", reason_of(error), changes)
            return
        if not seat.state.has_learned or seat.state.failures is not None:
            self._taught(index, seat, changes)

    def _taught(self, index: int, seat: Seat, changes: list[ModelChange]) -> None:
        seat.state.has_learned = True
        if seat.state.failures is not None:
            changes += self.roster.taught(index)

    def _weigh(self, y: Any, outputs: Sequence[Any], losses: Sequence[float | None]) -> None:
        """Let the combinations learn from the losses of the members."""
        roster = self.roster
        for index in roster.combinations:
            own = losses[index]
            if own is not None:
                said = [outputs[other] for other in roster.combined]
                lost = [losses[other] for other in roster.combined]
                roster.seats[index].state.estimator.learn(y, said, lost, own)

    def _watch(
        self,
        drift: DriftManager,
        y: Any,
        forecast: Forecast,
        at: float,
        offset: int,
        losses: Sequence[float | None],
        learned: Learned,
    ) -> None:
        """Look for drift in a label's results; if it makes comparisons of losses invalid, they start
        again."""
        monitoring = self._scope.monitoring
        assert monitoring is not None
        if self._state.labels % monitoring.estimate_every == 0:
            learned.estimate = drift.estimate()
        learned.drifts = drift.learn(
            y,
            forecast.output,
            learned.loss,
            losses[: self.roster.members],
            forecast.at,
            forecast.offset,
            at,
            offset,
            forecast.outputs,
        )
        if drift.restarts != self._state.restarts:
            self._state.restarts = drift.restarts
            self.roster.compare_anew()

    def absorb(self, x: dict[str, Any], forecast: Forecast, offset: int) -> Sequence[ModelChange]:
        """Let the members learn from a request that got no label, as its task needs none."""
        changes: list[ModelChange] = []
        for index, seat in enumerate(self.roster.seats):
            asked = forecast.outputs[index] is not None or index in forecast.unanswered
            if seat.state.learning and seat.member is not None and asked:
                try:
                    seat.observe(x)
                except BaseException as error:
                    pass_interrupt(error)
                    self.roster.fail(index, "learn", reason_of(error), changes)
                else:
                    self._taught(index, seat, changes)
        self._state.learned_through = offset
        return changes

    def _losses(self, y: Any, forecast: Forecast, served: float) -> Sequence[float | None]:
        """The loss of every seat, computed once; None for one that did not answer."""
        outputs = forecast.outputs
        if self.roster.members == 1 and self.roster.referee is None and forecast.output is outputs[0]:
            return [served]  # like the others: a restored answer is equal, not identical
        loss = self.task.loss
        return [None if output is None else loss(y, output) for output in outputs]

    @property
    def _prior(self) -> RunningPrior:
        last = self.roster.seats[-1].state.estimator
        return last if isinstance(last, RunningPrior) else self._state.last_resort

    def _decided(self, decision: PromotionDecision) -> ModelChange:
        kind: str = decision.kind
        state = self.roster.state
        if kind == "promotion" and decision.index == state.previous:
            kind = "rollback"
        if kind != "withheld":
            self.roster.elect(decision.index, None if kind == "rollback" else state.serving)
        name = self.roster.name_of(decision.index)
        return ModelChange(kind, name, "promotion", decision.reason, decision.evidence)

    def revise(self, y_old: Any, y_new: Any, forecast: Forecast) -> None:
        """Amend the metrics for a corrected label; nothing is learned again.

        None is no label: an old one that was not scored, or a new one that withdraws it. Nothing is
        amended for a request that was never learned from, or never published.
        """
        if forecast.row < 0:
            return
        for seat, output in zip(self.roster.seats, forecast.outputs, strict=True):
            if seat.state.metrics is not None and output is not None:
                seat.state.metrics.amend(y_old, y_new, output, forecast.row)

    def state(self) -> PoolState:
        """Everything that was learned; nothing is copied."""
        return msgspec.structs.replace(
            self._state,
            drift=None if self.drift is None else self.drift.snapshot(),
            intervals=None if self.intervals is None else self.intervals.state(),
        )

    def restore(self, state: PoolState) -> None:
        """Continue from what `state` returned, for a pool with the same declaration."""
        self._state = msgspec.structs.replace(state, drift=None, intervals=None)
        self.roster.restore(state.roster)
        if self.drift is not None:
            self.drift.restore(state.drift)
        if self.intervals is not None:
            self.intervals.restore(state.intervals)
        for seat in self.roster.seats:
            if isinstance(seat.state.metrics, RunningMetrics):
                seat.state.metrics.of(self.task)
