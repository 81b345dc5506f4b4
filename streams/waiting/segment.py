"""Packed predictions in one immutable piece of bytes: they are taken out one by one, none is added or
changed.

Layout, numbers in the machine's order: how many there are (4 bytes); their numbers (8 each); their deadlines
(8 each, a float), ascending; the hashes of their label keys (as `stored_hashes` writes them); where each
ends, counted from where the first begins, and its checksum (4 each); the predictions. So predictions whose
deadlines are over are passed by, and a restore finds all by their label keys, without reading them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from sys import getsizeof
from typing import Any, NamedTuple, Self

from driftline.features.state.key_index import (
    Hashes,
    are_hashed_alike,
    hashes_left,
    hashes_of,
    stored_hashes,
    stored_size,
)
from driftline.features.state.segment_store import Pieces, SegmentBytes, SegmentStore, piece_columns
from driftline.streams.waiting.packing import Packing
from driftline.streams.waiting.prediction import PendingPrediction

_COUNT = 4
_NUMBER = 8
_DEADLINE = 8


class Due(NamedTuple):
    """When the next prediction of a segment falls due: in this order predictions are taken out."""

    deadline: float
    number: int


class StoredSegment(NamedTuple):
    """A segment in a snapshot: what its store needs to read it again, and a byte for each prediction: 1 if it
    was taken out."""

    content: Any
    taken: bytes


class Segment:
    """Predictions in order of their deadlines; `first` is when the first one left is due, None if none is.

    What a segment knows of its predictions is read again when it is needed: in memory are nine bytes of each.
    """

    __slots__ = (
        "_content", "_count", "_hashes_at", "_line", "_packing", "_pieces", "_read", "_taken", "at", "first",
        "left",
    )  # fmt: skip

    def __init__(self, packing: Packing, content: SegmentBytes, taken: bytes = b"") -> None:
        count = self._count = int.from_bytes(content.read(0, _COUNT), "little")
        self._packing = packing
        self._content = content
        self._hashes_at = _COUNT + count * (_NUMBER + _DEADLINE)
        self._pieces = Pieces(content, self._hashes_at + stored_size(count), count)
        self._line: tuple[array[int], array[float]] | None = None
        self._read: Pieces | list[bytes] = self._pieces
        self._taken = bytearray(taken or count)
        self.left = self._taken.count(0)
        self.at = -1
        self.first: Due | None = None
        self._advance()

    @classmethod
    def of(
        cls, packing: Packing, store: SegmentStore, predictions: Sequence[PendingPrediction]
    ) -> tuple[Self, Hashes]:
        """Pack predictions that are in order of their deadlines; also returns the hashes of their label
        keys."""
        parts = [packing.pack(pending) for pending in predictions]
        numbers = array("q", [pending.number for pending in predictions])
        deadlines = array("d", [pending.deadline for pending in predictions])
        keys = [pending.label_key for pending in predictions]
        hashes = hashes_of(keys)
        columns = (
            numbers.tobytes(),
            deadlines.tobytes(),
            stored_hashes(hashes, alike=are_hashed_alike(keys)),
            piece_columns(parts),
        )
        content = b"".join((len(parts).to_bytes(_COUNT, "little"), *columns, *parts))
        return cls(packing, store.keep(content)), hashes

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
    def size(self) -> int:
        """Bytes of its predictions, those that were taken out included."""
        return self._pieces.size

    @property
    def memory(self) -> int:
        """Bytes of memory that it takes."""
        at_hand = (self._taken, *(self._line or ()), *(() if self._read is self._pieces else self._read))
        return self._pieces.memory + sum(map(getsizeof, at_hand))

    def prediction(self, slot: int) -> PendingPrediction:
        """The prediction in a slot."""
        return self._packing.unpack(self._read[slot])

    def take_first(self) -> PendingPrediction:
        """Take out the first prediction that is left. The others, which are likely to follow, are read with
        it."""
        if self._read is self._pieces:
            self._read = list(self._pieces)
        first = self.prediction(self.at)
        self.take(self.at)
        return first

    def is_taken(self, slot: int) -> bool:
        """Whether the prediction of a slot was taken out."""
        return bool(self._taken[slot])

    def take(self, slot: int) -> None:
        """Take out the prediction of a slot."""
        self._taken[slot] = 1
        self.left -= 1
        if slot == self.at:
            self._advance()

    def pass_by(self, time: float, beyond: float) -> int:
        """Take out, unread, all whose deadline, plus `beyond` seconds, is before a time; returns how many."""
        past = bisect_left(self._in_line()[1], time, lo=self.at, key=lambda deadline: deadline + beyond)
        gone = self._taken.count(0, self.at, past)
        self._taken[self.at : past] = b"\1" * (past - self.at)
        self.left -= gone
        self.at = past - 1
        self._advance()
        return gone

    def rest(self) -> Iterator[tuple[int, int, bytes]]:
        """Number, slot and bytes of each prediction that is left; they are read at once."""
        numbers = self._in_line()[0]
        for slot, (number, packed, taken) in enumerate(zip(numbers, self._pieces, self._taken, strict=True)):
            if not taken:
                yield number, slot, packed

    def hashed(self) -> tuple[Hashes, Hashes]:
        """The slots of the predictions that are left, and the hashes of their label keys."""
        stored = self._content.read(self._hashes_at, self._hashes_at + stored_size(self._count))
        label_key = self._packing.label_key
        return hashes_left(self._taken, stored, lambda: (label_key(packed) for *_, packed in self.rest()))

    def _in_line(self) -> tuple[array[int], array[float]]:
        """Numbers and deadlines."""
        if self._line is not None:
            return self._line
        numbers_end = _COUNT + self._count * _NUMBER
        deadlines_end = numbers_end + self._count * _DEADLINE
        columns = self._content.read(_COUNT, deadlines_end)
        cut = numbers_end - _COUNT
        return array("q", columns[:cut]), array("d", columns[cut:])

    def _advance(self) -> None:
        """Come to the first one that is left. A segment whose predictions are taken out in line keeps their
        numbers and deadlines at hand."""
        slot = self._taken.find(0, self.at + 1)
        if slot < 0:
            self.at, self.first, self._line = slot, None, None
            return
        numbers, deadlines = line = self._in_line()
        if self.at >= 0:
            self._line = line
        self.at, self.first = slot, Due(deadlines[slot], numbers[slot])
