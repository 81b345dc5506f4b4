"""Second half of the fold: score outcomes, learn, detect drift, decide what serves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec

from driftline.features.declare.keys import key_text
from driftline.online_models.drift import Drift
from driftline.online_models.drift.drift_report import Estimate
from driftline.online_models.pool.operation import obey
from driftline.online_models.pool.pool import Forecast, Pool, PoolState
from driftline.online_models.pool.serving_change import ModelChange
from driftline.online_models.promote.promotion import Evidence
from driftline.streams.declare.events import Command, moment
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.label_join import Lesson, ResolvedPrediction
from driftline.streams.fold.learner_input import (
    Question,
    Reply,
    Witness,
    Work,
    as_published,
    interval_of,
    prediction_of,
)
from driftline.streams.fold.route import pool_key_of
from driftline.streams.records.incidents import drift_event
from driftline.streams.records.messages import ModelEvent, Outcome
from driftline.streams.records.output_size import LONGEST_REASON, shortened
from driftline.streams.records.outputs import Output, Outputs
from driftline.streams.waiting.prediction import PendingPrediction


def _ordinal(outputs: list[Output], offset: int) -> int:
    """How many outputs of this topic the record at `offset` has caused so far."""
    if outputs and outputs[-1].offset == offset:
        return outputs[-1].ordinal + 1
    return 0


_PLAIN = (str, int, float, bool, type(None))
"""Types of slice values that stand for themselves; others are published as text."""


@dataclass(slots=True)
class Results:
    """How many predictions have an outcome, of which kind, and how often drift was reported."""

    labelled: int = 0
    unlabelled: int = 0
    void: int = 0
    drift_events: int = 0

    def add(self, status: str, outcomes: int) -> None:
        """So many more predictions have an outcome of this status."""
        if status == "labelled":
            self.labelled += outcomes
        elif status == "unlabelled":
            self.unlabelled += outcomes
        else:
            self.void += outcomes


class LearnerParts(NamedTuple):
    """The state of a learner: its counts, estimates that no outcome has yet, and that of each pool."""

    results: Results
    estimates: dict[str, Estimate]
    pools: dict[str, PoolState]


class Learner:
    """The pools of one of `partitions`, one for each value of their scope; folds examples into them. `offset`
    is that of the record behind the current input, -1 before the first."""

    def __init__(self, case: UseCase, partition: int, partitions: int) -> None:
        self._task = case.task
        self._scope = case.models_with_notes
        self._pool_key = pool_key_of(case)
        self._reports_arrival = (
            case.task.label.learns_at == "deadline"
        )  # else learning a label reports when it came
        self._partition = partition
        self._partitions = partitions
        self._name = case.name
        self._encode = msgspec.json.Encoder().encode
        self._slices = tuple(case.slices) if self._scope.promotion is not None else ()
        self._new_pool("")  # members that cannot be made are reported at the start
        self.pools: dict[str, Pool] = {}
        self.witness: Witness | None = None
        self.results = Results()
        self._estimates: dict[str, Estimate] = {}
        self.offset = -1

    def state(self) -> LearnerParts:
        """Pools and counts; nothing is copied."""
        return LearnerParts(
            self.results, self._estimates, {key: pool.state() for key, pool in self.pools.items()}
        )

    def restore(self, state: LearnerParts) -> None:
        """Continue from what `state` returned, and from nothing else."""
        self.pools = {}
        self.results = state.results
        self._estimates = state.estimates
        for key, pool_state in state.pools.items():
            self._pool(key).restore(pool_state)

    def pools_in_order(self) -> list[Pool]:
        """The pools, in the order of their keys."""
        return [self.pools[key] for key in sorted(self.pools)]

    def _pool(self, key: str) -> Pool:
        pool = self.pools.get(key)
        if pool is None:
            pool = self.pools[key] = self._new_pool(key)
        return pool

    def _new_pool(self, key: str) -> Pool:
        return Pool(self._task, self._scope, key, self._partition, self._slices)

    def fold(self, work: Iterable[Work]) -> None:
        """Answer questions, learn examples and obey commands, in order."""
        for item, offset, out in work:
            self.offset = offset
            if item.__class__ is Question:
                self._answer(item, offset, out)
            elif item.__class__ is Command:
                self._obey(item, offset, out)
            elif item.__class__ is Lesson:
                self._study(item, offset, out)
            elif item.__class__ is Reply:
                self._note(item, offset, out)
            else:
                self._take(item, offset, out)  # type: ignore[arg-type]

    def _answer(self, question: Question, offset: int, out: Outputs) -> None:
        """The answer of the key's pool to a request; feature drift that it reports is published."""
        pending = question.pending
        key, x, at = self._pool_key(pending), pending.x, pending.at
        assert x is not None
        pool = self._pool(key)
        forecast, changes = pool.predict(x, pending.prediction_id)
        if changes:
            self._put_changes(key, changes, at, offset, out)
        published = question.published
        if published is None:
            point = self._task.point(forecast.output)
        else:
            point = published.prediction
            own, forecast = forecast.output, as_published(self._task, published, forecast.outputs)
            if self.witness is not None:
                same = point == self._task.point(own)
                self.witness.answered(own, forecast.output, same_point=same)
        drifts = pool.observe(x, forecast, at, offset)
        if drifts:
            self._put_drifts(key, drifts, offset, out)
        pending.forecast = forecast
        pending.prediction = point
        interval = interval_of(pool, forecast) if published is None else published.interval
        answer = prediction_of(self._task, pending, question.moment, forecast, interval)
        out.predictions.append(Output(offset, 0, pending.key.encode(), self._encode(answer)))

    def _note(self, reply: Reply, offset: int, out: Outputs) -> None:
        """Watch a request that a replica has answered, as it was answered."""
        pending = reply.pending
        key, at, forecast = self._pool_key(pending), pending.at, pending.forecast
        assert pending.x is not None
        assert forecast is not None
        pool = self._pool(key)
        if changes := pool.answered(reply.failures):
            self._put_changes(key, changes, at, offset, out)
        if drifts := pool.observe(pending.x, forecast, at, offset):
            self._put_drifts(key, drifts, offset, out)

    def _take(self, example: ResolvedPrediction, offset: int, out: Outputs) -> None:
        """Score and learn one example; `offset` is that of the record which made it known."""
        pending, status, label, at = example.pending, example.status, example.label, example.at
        forecast = pending.forecast
        assert forecast is not None
        key = self._pool_key(pending)
        loss: float | None = None
        estimate: Estimate | None = None
        if pending.learned and status != "unlabelled":
            self._pool(key).revise(example.label_before, label, forecast)
        elif status == "labelled" and example.is_due and pending.x is not None:
            loss = self._learn(key, pending, label, at, offset, out)
        elif status == "unlabelled" and not self._task.is_supervised:
            self._absorb(pending, forecast, at, offset, out)
        if status == "labelled":
            if self._reports_arrival and example.status_before == "open" and pending.x is not None:
                self._pool(key).label_arrived(label, at - pending.at, at)
            if loss is None:
                loss = self._task.loss(label, forecast.output)
            estimate = self._estimates.pop(key, None)
        if pending.silent:
            return
        results = self.results
        if example.status_before != "open":
            results.add(example.status_before, -1)
        results.add(status, 1)
        outcomes = out.outcomes
        outcomes.append(self._outcome(example, forecast, loss, estimate, offset, _ordinal(outcomes, offset)))

    def _study(self, lesson: Lesson, offset: int, out: Outputs) -> None:
        """Score and learn an example that was labelled before its deadline, which has come."""
        pending = lesson.pending
        if pending.x is not None and not pending.learned:
            key = self._pool_key(pending)
            self._learn(key, pending, lesson.label, pending.deadline, offset, out)

    def _learn(
        self, key: str, pending: PendingPrediction, label: Any, at: float, offset: int, out: Outputs
    ) -> float:
        """Let the key's pool learn a label at a time; drift and changes that follow are published, an
        estimate with the pool's next labelled outcome. Returns the loss."""
        forecast = pending.forecast
        assert pending.x is not None
        assert forecast is not None
        slices = self._slice_values(pending.keys) if self._slices else ()
        learned = self._pool(key).learn(
            pending.x,
            label,
            forecast,
            at,
            offset,
            pending.prediction_id,
            slices,
            published=not pending.silent,
        )
        pending.learned = True
        if learned.drifts:
            self._put_drifts(key, learned.drifts, offset, out)
        if learned.changes:
            self._put_changes(key, learned.changes, at, offset, out)
        if learned.estimate is not None:
            self._estimates[key] = learned.estimate
        return learned.loss

    def _absorb(
        self, pending: PendingPrediction, forecast: Forecast, at: float, offset: int, out: Outputs
    ) -> None:
        if pending.x is not None and not pending.learned:
            key = self._pool_key(pending)
            changes = self._pool(key).absorb(pending.x, forecast, offset)
            pending.learned = True
            if changes:
                self._put_changes(key, changes, at, offset, out)

    def _slice_values(self, keys: dict[str, Any]) -> list[Any]:
        values = [keys[name] for name in self._slices]
        return [value if value.__class__ in _PLAIN else key_text(value) for value in values]

    def _obey(self, command: Command, offset: int, out: Outputs) -> None:
        """Carry out an operator's command, and publish its result: once for each pool that it is about."""
        at = command.at.timestamp()
        if not command.pool:
            for key in sorted(self.pools):
                self._put_changes(key, (_obeyed(self.pools[key], command),), at, offset, out)
        elif command.pool in self.pools:
            change = _obeyed(self.pools[command.pool], command)
            self._put_changes(command.pool, (change,), at, offset, out)
        elif partition_of(command.pool.encode(), self._partitions) == self._partition:
            missing = ModelChange(
                "refused", command.member, "command", _by(command, "this key has no pool yet")
            )
            self._put_changes(command.pool, (missing,), at, offset, out)

    def outcome(self, example: ResolvedPrediction, offset: int, ordinal: int) -> Output:
        """The outcome of a closed prediction, published at a source position."""
        forecast = example.pending.forecast
        assert forecast is not None
        loss = self._task.loss(example.label, forecast.output) if example.status == "labelled" else None
        return self._outcome(example, forecast, loss, None, offset, ordinal)

    def _outcome(
        self,
        example: ResolvedPrediction,
        forecast: Forecast,
        loss: float | None,
        estimate: Estimate | None,
        offset: int,
        ordinal: int,
    ) -> Output:
        pending, status, at, revision = example.pending, example.status, example.at, example.revision
        outcome = Outcome(
            pending.prediction_id,
            pending.event_id,
            self._task.name,
            moment(at),
            pending.keys,
            status,  # type: ignore[arg-type]
            pending.prediction,
            forecast.version,
            example.label,
            loss,
            at - pending.at if status == "labelled" else None,
            revision,
            revision - 1 if revision else None,
            estimate,
        )
        return Output(offset, ordinal, pending.key.encode(), self._encode(outcome))

    def _put_drifts(self, key: str, drifts: Iterable[Drift], offset: int, out: Outputs) -> None:
        for drift in drifts:
            ordinal = _ordinal(out.drift, offset)
            event = drift_event(self._name, self._partition, key, drift, ordinal)
            self.results.drift_events += out.published
            out.drift.append(Output(offset, ordinal, key.encode(), self._encode(event)))

    def _put_changes(
        self, key: str, changes: Iterable[ModelChange], at: float, offset: int, out: Outputs
    ) -> None:
        pool = self.pools.get(key)
        for change in changes:
            serving = self._scope.champion.name if pool is None else pool.serving
            ordinal = _ordinal(out.models, offset)
            event = ModelEvent(
                id=f"{self._name}:{self._partition}:{offset}:{ordinal}",
                at=moment(at),
                key=key,
                kind=change.kind,
                member=change.member,
                stage=change.stage,
                reason=change.reason[:LONGEST_REASON],
                serving=serving,
                offset=offset,
                evidence=None if change.evidence is None else _shortened(change.evidence),
            )
            out.models.append(Output(offset, ordinal, key.encode(), self._encode(event)))


def _shortened(evidence: Evidence) -> Evidence:
    """Evidence as it is published: values of slices can be long texts."""
    slices = [msgspec.structs.replace(gain, value=shortened(gain.value)) for gain in evidence.slices]
    return msgspec.structs.replace(evidence, slices=slices)


def _by(command: Command, what: str) -> str:
    """The reason of a change by an operator."""
    wanted = f"{command.action} by {command.operator}"
    return f"{wanted}: {what}" if what else wanted


def _obeyed(pool: Pool, command: Command) -> ModelChange:
    """The result of a command to a pool."""
    change = obey(pool.roster, command.action, command.member, command.budget)
    return replace(change, reason=_by(command, change.reason))
