"""Packed predictions, with access to the next one due and to those of a label key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush, heapreplace
from typing import Any

import numpy as np

from driftline.features.state.key_index import MOST_ENTRIES, IndexedLater, KeyIndex
from driftline.features.state.segment_store import KNOWN_OF_PIECE, SegmentStore
from driftline.streams.waiting.packing import Packing
from driftline.streams.waiting.prediction import PendingPrediction
from driftline.streams.waiting.segment import Due, Segment, StoredSegment

SEGMENT_BITS = 11
"""A segment has at most two to the power of so many predictions."""
_SLOTS = (1 << SEGMENT_BITS) - 1
SEGMENT = 512
"""Predictions packed at a time, for which answers wait: seven microseconds each."""


class PackedPredictions:
    """Predictions in segments. An index gives those of a label key; a heap of the segments' first ones gives
    the next one due. `count` is how many are left: an attribute, as it is asked for with every label."""

    def __init__(self, packing: Packing, store: SegmentStore) -> None:
        self._packing = packing
        self._store = store
        self._segments: dict[int, Segment] = {}
        self._made = 0
        self._firsts: list[tuple[Due, int]] = []
        self._index = KeyIndex()
        self._share = store.share()
        self.count = 0

    def __iter__(self) -> Iterator[PendingPrediction]:
        """The predictions left, each unpacked for the caller."""
        return (self._packing.unpack(packed) for _, packed in self.numbered())

    def numbered(self) -> Iterator[tuple[int, bytes]]:
        """The number and the bytes of each that is left."""
        for segment in self._segments.values():
            for number, _, packed in segment.rest():
                yield number, packed

    def add(self, predictions: Sequence[PendingPrediction]) -> None:
        """Pack predictions, at most as many as a segment has, which are in order of their deadlines."""
        segment, hashes = Segment.of(self._packing, self._store, predictions)
        self._index.add(self._put(segment) | np.arange(segment.left), hashes)
        if self._index.entries > MOST_ENTRIES * self.count:
            self._index.clean(segment.left, self.count, self._is_gone)
        self._take_share()

    def _take_share(self) -> None:
        self._share.bytes = self._index.least + KNOWN_OF_PIECE * self.count

    def _put(self, segment: Segment) -> int:
        """Add a segment, but for the index; returns where its places begin."""
        number = self._made
        self._made += 1
        self._segments[number] = segment
        self.count += segment.left
        self._line_up(number, segment)
        return number << SEGMENT_BITS

    def _is_gone(self, place: int) -> bool:
        segment = self._segments.get(place >> SEGMENT_BITS)
        return segment is None or segment.is_taken(place & _SLOTS)

    def _line_up(self, number: int, segment: Segment) -> None:
        if segment.first is not None:
            heappush(self._firsts, (segment.first, number))

    @property
    def first(self) -> Due | None:
        """When the next prediction is due."""
        firsts = self._firsts
        while firsts:
            first, number = firsts[0]
            segment = self._segments.get(number)
            if segment is not None and segment.first == first:
                return first
            heappop(firsts)  # it was taken out by its label key
        return None

    def take_first(self) -> PendingPrediction:
        """Take out the next prediction due."""
        segment, number = self._first_segment()
        first = segment.take_first()
        self.count -= 1
        self._taken_in_line(number, segment)
        return first

    def pass_by(self, time: float, beyond: float) -> None:
        """Take out, unread, all whose deadline, plus `beyond` seconds, is before a time."""
        while (first := self.first) is not None and first.deadline + beyond < time:
            segment, number = self._first_segment()
            self.count -= segment.pass_by(time, beyond)
            self._taken_in_line(number, segment)

    def _first_segment(self) -> tuple[Segment, int]:
        """The segment of the next prediction due, and its number."""
        assert self.first is not None
        number = self._firsts[0][1]
        return self._segments[number], number

    def _taken_in_line(self, number: int, segment: Segment) -> None:
        if segment.first is None:
            del self._segments[number]
            heappop(self._firsts)
        else:
            heapreplace(self._firsts, (segment.first, number))

    def take(self, label_key: Any) -> list[PendingPrediction]:
        """Take out all that have a label key."""
        found = []
        for place in self._index.places(hash(label_key)):
            if not self._is_gone(place):
                number, slot = place >> SEGMENT_BITS, place & _SLOTS
                pending = self._segments[number].prediction(slot)
                if pending.label_key == label_key:
                    found.append(pending)
                    self._take(number, slot)
        return found

    def _take(self, number: int, slot: int) -> None:
        segment = self._segments[number]
        was_first = slot == segment.at
        segment.take(slot)
        self.count -= 1
        if not segment.left:
            del self._segments[number]
        elif was_first:
            self._line_up(number, segment)

    def revise(self, change: Callable[[PendingPrediction], None]) -> None:
        """Change each prediction by a function; it must not change what the order depends on."""
        for number in list(self._segments):
            segment = self._segments.pop(number)
            self.count -= segment.left
            left = [self._packing.unpack(packed) for _, _, packed in segment.rest()]
            for pending in left:
                change(pending)
            self.add(left)

    @property
    def memory(self) -> int:
        """Bytes of memory that they take, index and heap included."""
        return self._index.memory + sum(segment.memory for segment in self._segments.values())

    @property
    def on_disk(self) -> int:
        """Bytes of the files."""
        return sum(segment.size for segment in self._segments.values() if segment.name)

    def names(self) -> list[str]:
        """The files that a snapshot refers to."""
        return [segment.name for segment in self._segments.values() if segment.name]

    def stored(self) -> list[StoredSegment]:
        """What a snapshot holds of the segments."""
        return [segment.stored for segment in self._segments.values()]

    def restore(self, segments: Iterable[StoredSegment]) -> None:
        """Continue from what `stored` returned."""
        found = IndexedLater(self._index)
        for stored in segments:
            segment = Segment.again(self._packing, self._store, stored)
            begin = self._put(segment)
            slots, hashes = segment.hashed()
            found.add(begin | slots, hashes)
        found.finish()
        self._take_share()
