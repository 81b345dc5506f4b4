"""Pools on their way from a learner to its replicas: sealed, in parts, put together as they come.

Whoever owns the learner's partition publishes the same pool in the same place, but not in the same bytes: a
pickle says which objects are one, which a restored pool may answer differently. So parts belong together by
the hash of the whole, and the first whole that is there counts; what comes later of the same number is
another copy of it.
"""

from __future__ import annotations

import pickle
from typing import Protocol

from driftline.online_models.pool.replica import PoolSnapshot, pickled_snapshot
from driftline.streams.between.stage_record import ModelRecord, PoolPart
from driftline.streams.between.writers import RecordsLost


class Sealing(Protocol):
    """The seal of the checkpoints, for pools: what it has not sealed under a label is not opened under it."""

    def seal(self, payload: bytes, label: bytes) -> bytes: ...
    def open(self, sealed: bytes, label: bytes) -> bytes: ...


class NotSealed:
    """In place of a seal, for what never leaves its process."""

    def seal(self, payload: bytes, label: bytes) -> bytes:
        """As it is."""
        return payload

    def open(self, sealed: bytes, label: bytes) -> bytes:
        """As it is."""
        return sealed


def seal_snapshot(snapshot: PoolSnapshot, seal: Sealing, case: str, number: int) -> bytes:
    """The `number`-th pool that a learner of the case publishes, as it is sent."""
    return seal.seal(pickled_snapshot(snapshot), _label(case, number))


def _label(case: str, number: int) -> bytes:
    return f"pool {number} of {case}".encode()


class Activations:
    """The pools that one replica was sent: how many it has taken in, and the parts of the next one."""

    def __init__(self, case: str, seal: Sealing) -> None:
        self._case = case
        self._seal = seal
        self.taken = 0
        self._parts: dict[bytes, dict[int, PoolPart]] = {}

    def take(self, model_record: ModelRecord) -> PoolSnapshot | None:
        """The pool, where this part makes it whole. Raises RecordsLost where one before it is missing, and
        Unauthentic for one that nobody with this key has sealed."""
        if model_record.number <= self.taken:
            return None
        if model_record.number > self.taken + 1:
            raise RecordsLost(
                f"pools {self.taken + 1} to {model_record.number - 1} that the learner has published "
                "are missing: the topic was truncated, or deleted and made anew. Restore it, or go on in "
                "another namespace"
            )
        part = model_record.part
        assert part is not None
        parts = self._parts.setdefault(part.whole, {})
        parts[part.index] = part
        if len(parts) < part.count:
            return None
        sealed = b"".join([parts[index].content for index in range(part.count)])
        content = self._seal.open(sealed, _label(self._case, model_record.number))
        self.taken, self._parts = model_record.number, {}
        snapshot = pickle.loads(content)  # sealed by whoever has the key of the checkpoints
        assert isinstance(snapshot, PoolSnapshot)
        return snapshot

    def state(self) -> tuple[int, dict[bytes, dict[int, PoolPart]]]:
        """What has come; nothing is copied."""
        return self.taken, self._parts

    def restore(self, state: tuple[int, dict[bytes, dict[int, PoolPart]]]) -> None:
        """Go on from what `state` gave."""
        self.taken, self._parts = state
