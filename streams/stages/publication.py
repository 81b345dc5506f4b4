"""When a learner publishes its pool to the replicas."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from driftline.features.state.event_time import NEVER
from driftline.online_models.members.member import Shared
from driftline.online_models.pool.pool import Pool
from driftline.online_models.pool.replica import PoolSnapshot, serving_state
from driftline.streams.between.activations import Sealing, seal_snapshot
from driftline.streams.between.sender import Sender
from driftline.streams.declare.usecase import UseCase


class Published(NamedTuple):
    """How many pools were published, and of the newest the labels that it had learned from and its time."""

    pools: int = 0
    labels: int = 0
    at: float = NEVER


class Publication:
    """Publishes a pool when so many labels are learned, or (`by_time`) so much event time has passed with one
    at least; in the beginning, where each label counts for much, after 1, 2, 4, ... of them."""

    def __init__(self, case: UseCase, sender: Sender, seal: Sealing) -> None:
        assert isinstance(case.models, Shared)
        every = case.models.publish_every
        self._labels = None if isinstance(every, timedelta) else every
        self._seconds = every.total_seconds() if isinstance(every, timedelta) else 0.0
        self._case = case.name
        self._sender = sender
        self._seal = seal
        self._last = Published()

    @property
    def by_time(self) -> bool:
        """Whether a pool may become due without anything that is learned."""
        return self._labels is None

    def look(self, pool: Pool, offset: int, watermark: float, *, changed: bool) -> None:
        """The record at `offset` is folded, where time has come to `watermark`: publish the pool if it is
        time to, or who serves has `changed`."""
        if not (changed or self._is_due(pool.labels, watermark)):
            return
        self._last = Published(self._last.pools + 1, pool.labels, watermark)
        self._sender.begin(offset, watermark)
        snapshot = PoolSnapshot(serving_state(pool.state()), pool.labels, watermark)
        self._sender.publish(seal_snapshot(snapshot, self._seal, self._case, self._last.pools))

    def _is_due(self, labels: int, watermark: float) -> bool:
        learned = labels - self._last.labels
        if self._labels is None:
            return learned > 0 and watermark - self._last.at >= self._seconds
        return learned >= min(self._labels, max(1, self._last.labels))

    def state(self) -> Published:
        """What was published last."""
        return self._last

    def restore(self, state: Published) -> None:
        """Go on from what `state` gave."""
        self._last = state
