"""Stores the states of one partition from time to time, beside serving, which neither waits for them nor
needs them.

A store that fails is logged when it begins to fail, then from time to time, and when it works
again; the next state is tried within a minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from driftline.features.online.transient_failures import Outage
from driftline.object_size import StateSize
from driftline.streams.checkpoints.cadence import Cadence, CheckpointBudget
from driftline.streams.checkpoints.checkpoint import Written
from driftline.streams.owner.owned_partition import OwnedPartition, Snapshot

log = logging.getLogger("driftline.worker")

STORED_WITHIN = 2.5
"""Seconds for finishing the checkpoint that is being stored; the last one has as many again."""


class _Stored(NamedTuple):
    """The newest checkpoint: its offset, when it was stored, and its cost."""

    next_offset: int
    at: float
    written: Written


class Checkpointing:
    """The checkpoints of one partition that the worker owns; `budget` is for all of the worker's
    partitions."""

    def __init__(self, partition: str, budget: CheckpointBudget) -> None:
        self._now = asyncio.get_running_loop().time
        self._partition = partition
        self._budget = budget
        self._cadence = Cadence(budget, self._now())
        self._storing: asyncio.Task[None] | None = None
        self._stored: _Stored | None = None
        self._sizes: Mapping[str, StateSize] = {}
        self._outage: Outage | None = None
        self._failed = ""

    def begin(self) -> None:
        """The partition was taken over."""
        self._cadence = Cadence(self._budget, self._now())

    def folded(self, owned: OwnedPartition) -> None:
        """The partition has been folded on."""
        self._cadence.folded(owned.take_work())

    @property
    def is_due(self) -> bool:
        """Whether a checkpoint should be begun."""
        if not self._cadence.due(self._now()):
            return False
        return self._storing is None or self._storing.done()  # otherwise the store is slower than the cadence

    def look(self, owned: OwnedPartition) -> None:
        """Begin a checkpoint when one is due."""
        if self.is_due:
            self._begin(owned)

    def _begin(self, owned: OwnedPartition) -> asyncio.Task[None] | None:
        try:
            snapshot = owned.snapshot()
        except OSError as error:
            self._cadence.begin()
            self._cadence.taken(self._now(), 0.0)
            self._tell(error)
            return None
        if snapshot is None:
            return None
        self._sizes = owned.processor.sizes()
        self._cadence.begin()
        self._storing = asyncio.create_task(self._store(owned, snapshot))
        return self._storing

    async def _store(self, owned: OwnedPartition, snapshot: Snapshot) -> None:
        cost = 0.0
        try:
            written = await owned.store(snapshot)
            cost = written.seconds
        except Exception as error:
            # an older checkpoint is good enough: serving continues, and the next one is tried
            self._tell(error)
        else:
            self._stored = _Stored(snapshot.next_offset, self._now(), written)
            if self._outage is not None:
                self._outage.ended()
                self._outage = None
        finally:
            self._cadence.taken(self._now(), cost)

    def _tell(self, error: Exception) -> None:
        self._failed = f"{type(error).__name__}: {error}"
        if self._outage is None:
            self._outage = Outage(f"partition {self._partition}: storing checkpoints", self._now)
        self._outage.failed(error)

    async def last(self, owned: OwnedPartition) -> None:
        """Store a last checkpoint within the time left."""
        if self._storing is not None:
            await asyncio.wait([self._storing], timeout=STORED_WITHIN)
        storing = self._begin(owned)
        if storing is None:
            return
        done, _ = await asyncio.wait([storing], timeout=STORED_WITHIN)
        if not done:
            storing.cancel()
            log.error("partition %s: the last checkpoint was not stored in time", self._partition)

    def status(self) -> dict[str, Any]:
        """What `driftline status` shows of the checkpoints."""
        status: dict[str, Any] = {}
        if self._stored is not None:
            offset, at, written = self._stored
            status["checkpoint"] = {
                "next_offset": offset,
                "age_seconds": round(self._now() - at, 1),
                "bytes": written.size,
                "cpu_seconds": round(written.seconds, 3),
            }
        if self._sizes:
            status["sizes"] = {
                name: {
                    "count": size.held,
                    "bytes_each": round(size.bytes_each),
                    "disk_bytes_each": round(size.disk_bytes_each),
                }
                for name, size in self._sizes.items()
            }
        if self._outage is not None:
            status["checkpoint_failed"] = self._failed
            status["checkpoint_failing_seconds"] = round(self._outage.seconds, 1)
        return status
