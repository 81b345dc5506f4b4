"""Second half of the fold: score outcomes, learn, detect drift, decide what serves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from online_models.drift import Drift
from online_models.pool import Change, Forecast, Pool
from streams.events import moment
from streams.messages import DriftEvent, ModelEvent, Outcome, Side
from streams.outputs import Output, Outputs
from streams.pending import Example, Pending
from streams.usecase import UseCase


def _ordinal(outputs: list[Output], offset: int) -> int:
    """How many outputs of this topic the record at `offset` has caused so far."""
    if outputs and outputs[-1].offset == offset:
        return outputs[-1].ordinal + 1
    return 0


_COUNTS = ("labelled", "unlabelled", "void", "drift_events")


class Learner:
    """The pools of one partition, one a key; folds examples into them."""

    def __init__(self, case: UseCase, partition: int) -> None:
        self._task = case.task
        self._scope = case.models
        self._partition = partition
        self._name = case.name
        self._encode = msgspec.json.Encoder().encode
        Pool(case.task, case.models, "", partition)  # members that cannot be made are told at the start
        self.pools: dict[str, Pool] = {}
        self.labelled = 0
        self.unlabelled = 0
        self.void = 0
        self.drift_events = 0

    def state(self) -> dict[str, Any]:
        """Pools and counts; nothing is copied."""
        pools = {key: pool.state() for key, pool in self.pools.items()}
        return {name: getattr(self, name) for name in _COUNTS} | {"pools": pools}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        for name in _COUNTS:
            setattr(self, name, state[name])
        for key, pool_state in state["pools"].items():
            self._pool(key).restore(pool_state)

    def _pool(self, key: str) -> Pool:
        pool = self.pools.get(key)
        if pool is None:
            pool = self.pools[key] = Pool(self._task, self._scope, key, self._partition)
        return pool

    def forecast(
        self, key: str, x: dict[str, Any], at: float, offset: int, prediction_id: str, out: Outputs
    ) -> Forecast:
        """What the key's pool answers; feature drift found on the way is put out."""
        pool = self._pool(key)
        drifts = pool.observe(x, at, offset)
        if drifts:
            self._put_drifts(key, drifts, offset, out)
        forecast, changes = pool.predict(x)
        if changes:
            self._put_changes(key, changes, at, offset, out)
        return forecast

    def take(self, example: Example, offset: int, out: Outputs) -> None:
        """Score and learn one example; `offset` is that of the record which made it known."""
        pending, status, label, at = example.pending, example.status, example.label, example.at
        pool = self._pool(pending.key)
        loss: float | None = None
        if status == "labelled":
            if pending.x is None:
                loss = self._task.loss(label, pending.forecast.output)
            elif pending.learned:
                pool.revise(pending.label, label, pending.forecast)
                loss = self._task.loss(label, pending.forecast.output)
            else:
                learned = pool.learn(pending.x, label, pending.forecast, at, offset, pending.prediction_id)
                pending.learned = True
                loss = learned.loss
                if learned.drifts:
                    self._put_drifts(pending.key, learned.drifts, offset, out)
                if learned.changes:
                    self._put_changes(pending.key, learned.changes, at, offset, out)
        if not pending.silent:
            if pending.status != "open":
                self._count(pending.status, -1)
            self._count(status, 1)
        pending.status = status
        pending.label = label
        pending.closed_at = at
        if not pending.silent:
            outcomes = out.outcomes
            outcomes.append(self._outcome(pending, loss, offset, _ordinal(outcomes, offset)))

    def outcome(self, pending: Pending, offset: int, ordinal: int) -> Output:
        """The outcome of a prediction that is closed, to be put out at a source position."""
        labelled = pending.status == "labelled"
        loss = self._task.loss(pending.label, pending.forecast.output) if labelled else None
        return self._outcome(pending, loss, offset, ordinal)

    def _outcome(self, pending: Pending, loss: float | None, offset: int, ordinal: int) -> Output:
        revision = pending.revision
        outcome = Outcome(
            pending.prediction_id,
            pending.event_id,
            self._task.name,
            moment(pending.closed_at),
            pending.keys,
            pending.status,  # type: ignore[arg-type]
            pending.prediction,
            pending.forecast.version,
            pending.label,
            loss,
            pending.closed_at - pending.at if pending.status == "labelled" else None,
            revision,
            revision - 1 if revision else None,
        )
        return Output(offset, ordinal, pending.key.encode(), self._encode(outcome))

    def _count(self, status: str, step: int) -> None:
        setattr(self, status, getattr(self, status) + step)

    def _put_drifts(self, key: str, drifts: Iterable[Drift], offset: int, out: Outputs) -> None:
        for drift in drifts:
            ordinal = _ordinal(out.drift, offset)
            event = DriftEvent(
                id=f"{self._name}:{self._partition}:{offset}:{ordinal}",
                at=moment(drift.at),
                key=key,
                subject=drift.subject,
                detector=drift.detector,
                severity=drift.severity,
                before=Side(drift.before.mean, drift.before.count),
                after=Side(drift.after.mean, drift.after.count),
                first_offset=drift.first_offset,
                offset=drift.offset,
            )
            self.drift_events += out.heard
            out.drift.append(Output(offset, ordinal, key.encode(), self._encode(event)))

    def _put_changes(self, key: str, changes: Iterable[Change], at: float, offset: int, out: Outputs) -> None:
        for change in changes:
            ordinal = _ordinal(out.models, offset)
            event = ModelEvent(
                id=f"{self._name}:{self._partition}:{offset}:{ordinal}",
                at=moment(at),
                key=key,
                kind=change.kind,
                member=change.member,
                stage=change.stage,
                reason=change.reason,
                serving=self._pool(key).serving,
                offset=offset,
            )
            out.models.append(Output(offset, ordinal, key.encode(), self._encode(event)))
