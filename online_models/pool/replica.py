"""The copy of a pool that answers as the pool was when it was published, and learns nothing."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from driftline.online_models.members.member import PerKey
from driftline.online_models.pool.pool import Failure, Forecast, Pool, PoolState
from driftline.online_models.pool.roster import Roster
from driftline.online_models.pool.serving_change import ModelChange
from driftline.online_models.tasks.protocol import Task


class PoolSnapshot(NamedTuple):
    """What a pool answers by: `state` is without metrics, comparisons and monitors. `labels` were learned
    from, the newest of them at `at` (seconds of event time)."""

    state: PoolState
    labels: int
    at: float


def serving_state(state: PoolState) -> PoolState:
    """The part of a pool's state that answers depend on; nothing is copied."""
    seats = [msgspec.structs.replace(seat, metrics=None) for seat in state.roster.seats]
    roster = msgspec.structs.replace(state.roster, seats=seats, referee=None)
    return msgspec.structs.replace(state, roster=roster, drift=None)


class _SnapshotPickler(pickle.Pickler):
    """Leaves out what no answer depends on: distributions of `river.proba` that were given no seed each carry
    a generator for their `sample()`. Trees have hundreds of them, most of their bytes, and never sample."""

    def reducer_override(self, value: Any) -> Any:
        if type(value).__module__.startswith("river.proba.") and getattr(value, "seed", 0) is None:
            make, arguments, attributes, *_ = value.__reduce_ex__(4)
            return make, arguments, {name: one for name, one in attributes.items() if name != "_rng"}
        return NotImplemented


def pickled_snapshot(snapshot: PoolSnapshot) -> bytes:
    """A snapshot in one pickle, so that what members share stays shared."""
    buffer = io.BytesIO()
    _SnapshotPickler(buffer, protocol=5).dump(snapshot)
    return buffer.getvalue()


class _FixedRoster(Roster):
    """The order of members as published: the learner, which hears of all failures, decides who serves."""

    def __init__(self, scope: PerKey, task: Task, slices: Sequence[str]) -> None:
        self.failed: list[Failure] = []
        super().__init__(scope, task, slices)

    def begin_request(self) -> list[ModelChange]:
        self.failed = []
        return []

    def fail(self, index: int, stage: str, reason: str, changes: list[ModelChange]) -> None:
        self.failed.append(Failure(index, reason))


class Replica(Pool):
    """A pool that answers, and neither learns nor changes who serves. It begins as the pool of its
    declaration does, and is the published one from the first activation on; `labels` and `at` are those of
    the newest. `partition` is its learner's, which versions of models name."""

    roster: _FixedRoster

    def __init__(self, task: Task, scope: PerKey, key: str, partition: int) -> None:
        bare = replace(scope, metrics=False, monitoring=None, promotion=None)
        super().__init__(task, bare, key, partition)
        self.at: float | None = None

    def _new_roster(self, scope: PerKey, task: Task, slices: Sequence[str]) -> Roster:
        return _FixedRoster(scope, task, slices)

    def answer(self, x: dict[str, Any], prediction_id: str) -> tuple[Forecast, Sequence[Failure]]:
        """The answer to a request, and which members failed to give one."""
        forecast, _ = self.predict(x, prediction_id)
        return forecast, self.roster.failed

    def activate(self, snapshot: PoolSnapshot) -> None:
        """Answer as this snapshot says from here on."""
        self.restore(snapshot.state)
        self.at = snapshot.at
