"""Packed predictions in one immutable piece of bytes: they are taken out one by one, none is added or
changed.

Layout, integers in the machine's order: how many there are (4 bytes); their numbers (8 each); where each ends
(4 each), counted from where the first begins; the predictions.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from sys import getsizeof
from typing import Any, NamedTuple, Self

from driftline.streams.waiting.packing import Packing
from driftline.streams.waiting.prediction import PendingPrediction
from driftline.streams.waiting.segment_store import SegmentBytes, SegmentStore

_COUNT = 4
_NUMBER = 8
_END = 4


class StoredSegment(NamedTuple):
    """A segment in a snapshot: what its store needs to read it again, and a byte for each prediction: 1 if it
    was taken out."""

    content: Any
    taken: bytes


class Segment:
    """Predictions in order of their deadlines; `first` is the first one left, None if none is."""

    __slots__ = ("_begin", "_content", "_ends", "_numbers", "_packing", "_taken", "at", "first", "left")

    def __init__(self, packing: Packing, content: SegmentBytes, taken: bytes = b"") -> None:
        count = int.from_bytes(content.read(0, _COUNT), "little")
        ends = _COUNT + count * _NUMBER
        self._begin = ends + count * _END
        self._packing = packing
        self._content = content
        self._numbers = array("q", content.read(_COUNT, ends))
        self._ends = array("I", content.read(ends, self._begin))
        self._taken = bytearray(taken or count)
        self.left = self._taken.count(0)
        self.at = -1
        self.first: PendingPrediction | None = None
        self._advance()

    @classmethod
    def of(cls, packing: Packing, store: SegmentStore, predictions: Sequence[PendingPrediction]) -> Self:
        """Pack predictions that are in order of their deadlines."""
        parts = [packing.pack(pending) for pending in predictions]
        numbers = array("q", [pending.number for pending in predictions])
        ends = array("I", accumulate(map(len, parts)))
        content = b"".join((len(parts).to_bytes(_COUNT, "little"), numbers.tobytes(), ends.tobytes(), *parts))
        return cls(packing, store.keep(content))

    @classmethod
    def again(cls, packing: Packing, store: SegmentStore, stored: StoredSegment) -> Self:
        """The segment in a snapshot."""
        return cls(packing, store.again(stored.content), stored.taken)

    @property
    def stored(self) -> StoredSegment:
        """Its part in a snapshot."""
        return StoredSegment(self._content.stored, bytes(self._taken))

    @property
    def name(self) -> str:
        """The file that has its bytes; empty if a snapshot holds them itself."""
        return self._content.name

    @property
    def memory(self) -> int:
        """Bytes of memory that it takes."""
        return self._content.memory + sum(map(getsizeof, (self._numbers, self._ends, self._taken)))

    def packed(self, slot: int) -> bytes:
        """The bytes of the prediction in a slot."""
        begin, ends = self._begin, self._ends
        return self._content.read(begin + (ends[slot - 1] if slot else 0), begin + ends[slot])

    def prediction(self, slot: int) -> PendingPrediction:
        """The prediction in a slot."""
        return self._packing.unpack(self.packed(slot))

    def is_taken(self, slot: int) -> bool:
        """Whether the prediction of a slot was taken out."""
        return bool(self._taken[slot])

    def take(self, slot: int) -> None:
        """Take out the prediction of a slot."""
        self._taken[slot] = 1
        self.left -= 1
        if slot == self.at:
            self._advance()

    def rest(self) -> Iterator[tuple[int, int, bytes]]:
        """Number, slot and bytes of each prediction that is left; they are read at once."""
        content, begin = self._content.read(self._begin, self._begin + self._ends[-1]), 0
        for slot, (number, end, taken) in enumerate(zip(self._numbers, self._ends, self._taken, strict=True)):
            if not taken:
                yield number, slot, content[begin:end]
            begin = end

    def _advance(self) -> None:
        self.at = self._taken.find(0, self.at + 1)
        self.first = self.prediction(self.at) if self.at >= 0 else None
