"""The state of a queue of predictions: a snapshot has its parts as they are, a hash covers all that wait. A
snapshot is cheap: segments are copied as they are, or only named. Two states are equal when the same
predictions wait, whichever are packed, and in whichever segments.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

from driftline.streams.waiting.segment import StoredSegment


class StoredQueue(NamedTuple):
    """A queue in a snapshot: its segments, and the packed predictions outside of them."""

    segments: list[StoredSegment]
    unpacked: list[bytes]


class PackedState(NamedTuple):
    """All that wait, packed, in the order of their numbers: `ends` (uint64) are where each one ends."""

    ends: bytes
    content: bytes


class QueueState:
    """A queue's state when it is asked for; nothing is copied before."""

    __slots__ = ("_numbered", "stored")

    def __init__(
        self, stored: Callable[[], StoredQueue], numbered: Callable[[], list[tuple[int, bytes]]]
    ) -> None:
        self.stored = stored
        self._numbered = numbered

    def __reduce__(self) -> tuple[Any, ...]:
        packed = [part for _, part in sorted(self._numbered())]
        ends = array("Q", accumulate(map(len, packed)))
        return PackedState, (ends.tobytes(), b"".join(packed))
