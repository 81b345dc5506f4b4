"""Predictions in the order in which they fall due: the newest as objects, others packed.

Packing only saves memory: a caller gets the same predictions in the same order, and the state has the same
bytes.
"""

from __future__ import annotations

from bisect import insort_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from driftline.features.state.segment_store import SegmentStore
from driftline.object_size import SAMPLED, StateSize, size_of
from driftline.streams.waiting.packed import SEGMENT, PackedPredictions
from driftline.streams.waiting.packing import Packing
from driftline.streams.waiting.prediction import PendingPrediction, in_order_of_deadlines
from driftline.streams.waiting.queue_state import QueueState, StoredQueue

UNPACKED = 2_048
"""Predictions that stay objects, of a kilobyte or two each: most labels come soon, before their prediction is
packed."""
NEVER_DUE = float("inf")


class WaitingQueue:
    """Predictions by deadline. `unpacked` is called with each one that is unpacked."""

    def __init__(
        self, packing: Packing, store: SegmentStore, unpacked: Callable[[PendingPrediction], None]
    ) -> None:
        self._packing = packing
        self._store = store
        self._recent: deque[PendingPrediction] = deque()
        self._packed = PackedPredictions(packing, store)
        self._unpacked = unpacked

    def __len__(self) -> int:
        return len(self._recent) + self._packed.count

    def add(self, pending: PendingPrediction) -> None:
        """Add a prediction."""
        recent = self._recent
        if recent and recent[-1].deadline > pending.deadline:
            insort_right(recent, pending, key=in_order_of_deadlines)
        else:
            recent.append(pending)

    @property
    def due(self) -> float:
        """The first deadline."""
        due = self._recent[0].deadline if self._recent else NEVER_DUE
        if self._packed.count:
            first = self._packed.first
            assert first is not None
            return min(due, first.deadline)
        return due

    def take_due(self, time: float, beyond: float = 0.0) -> PendingPrediction | None:
        """Take out the first if its deadline, plus `beyond` seconds, is before a time."""
        recent = self._recent
        if self._packed.count:
            first = self._packed.first
            assert first is not None
            if first.deadline + beyond < time and (not recent or first < in_order_of_deadlines(recent[0])):
                pending = self._packed.take_first()
                self._unpacked(pending)
                return pending
        return recent.popleft() if recent and recent[0].deadline + beyond < time else None

    def pass_by(self, time: float, beyond: float) -> None:
        """Take out, unread, those packed whose deadline, plus `beyond` seconds, is before a time."""
        if self._packed.count:
            self._packed.pass_by(time, beyond)

    def unpack(self, label_key: Any) -> None:
        """Unpack those with a label key."""
        if self._packed.count:
            for pending in self._packed.take(label_key):
                insort_right(self._recent, pending, key=in_order_of_deadlines)
                self._unpacked(pending)

    def pack(self, is_over: Callable[[PendingPrediction], bool]) -> list[PendingPrediction]:
        """If there are more than `UNPACKED` objects, pack those that are due first; returns the packed ones.
        Those that are over, as nothing happens to them any more, are left out."""
        packed: list[PendingPrediction] = []
        while len(self._recent) >= UNPACKED + SEGMENT:
            segment = [self._recent.popleft() for _ in range(SEGMENT)]
            waiting = [pending for pending in segment if not is_over(pending)]
            if waiting:
                self._packed.add(waiting)
            packed += segment
        return packed

    def packed(self) -> Iterator[PendingPrediction]:
        """The packed predictions, unpacked for the caller."""
        return iter(self._packed)

    def revise_packed(self, change: Callable[[PendingPrediction], None]) -> None:
        """Change the packed predictions by a function, but neither time nor deadline nor key."""
        self._packed.revise(change)

    @property
    def size(self) -> StateSize:
        """How many are objects, and how much memory the newest one takes."""
        recent = self._recent
        return size_of(len(recent), [(recent[-1],)] if recent else [])

    def sample(self) -> list[int]:
        """The bytes of some of those that are objects, packed."""
        return [len(self._packing.pack(pending)) for pending in islice(self._recent, SAMPLED)]

    @property
    def packed_size(self) -> StateSize:
        """How many are packed, and how much each takes of memory, index and heap included, and on disk."""
        packed, count = self._packed, self._packed.count
        return StateSize(count, packed.memory / count, packed.on_disk / count) if count else StateSize(0, 0.0)

    def segments(self) -> list[str]:
        """The files that a snapshot refers to."""
        return self._packed.names()

    def state(self, is_over: Callable[[PendingPrediction], bool]) -> QueueState:
        """All that wait, except those that are over."""
        pack = self._packing.pack

        def waiting() -> Iterator[PendingPrediction]:
            return (pending for pending in self._recent if not is_over(pending))

        return QueueState(
            lambda: StoredQueue(self._packed.stored(), [pack(pending) for pending in waiting()]),
            lambda: [*self._packed.numbered(), *((one.number, pack(one)) for one in waiting())],
        )

    def restore(self, state: QueueState | StoredQueue) -> None:
        """Continue from what `state` returned, or from a snapshot of it."""
        stored = state.stored() if isinstance(state, QueueState) else state
        self._packed = PackedPredictions(self._packing, self._store)
        self._packed.restore(stored.segments)
        self._recent = deque(map(self._packing.unpack, stored.unpacked))
        for pending in self._recent:
            self._unpacked(pending)


def packed_bytes(queues: Iterable[WaitingQueue]) -> float:
    """Bytes of a packed prediction of these queues, by a sample; 0 if none waits."""
    sizes = [size for queue in queues for size in queue.sample()]
    return sum(sizes) / len(sizes) if sizes else 0.0
