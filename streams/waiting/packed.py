"""Many predictions, packed, of which the next to fall due and those of a label key are found."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import accumulate
from typing import Any, NamedTuple

from driftline.streams.waiting.label_index import LabelIndex
from driftline.streams.waiting.packing import Packing
from driftline.streams.waiting.prediction import PendingPrediction, in_order_of_deadlines
from driftline.streams.waiting.segment import Segment

SEGMENT_BITS = 11
SEGMENT = 1 << SEGMENT_BITS
"""Predictions that are packed at a time: so many take two milliseconds."""


class PackedState(NamedTuple):
    """Packed predictions in the order of their numbers, whatever segments they were in: `ends` (uint64) are
    where each one ends in the `content`."""

    ends: bytes
    content: bytes


class PackedPredictions:
    """Predictions in segments. Those that have a label key are found by an index; the next to fall due by a
    heap of the segments' first ones."""

    def __init__(self, packing: Packing) -> None:
        self._packing = packing
        self._segments: dict[int, Segment] = {}
        self._made = 0
        self._firsts: list[tuple[float, int, int]] = []
        self._index = LabelIndex()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[PendingPrediction]:
        """What is left, each unpacked for whoever asks."""
        for segment in self._segments.values():
            for slot in segment.slots():
                yield segment.prediction(slot)

    def add(self, predictions: Sequence[PendingPrediction]) -> None:
        """Pack predictions, at most `SEGMENT`, which are in order of their deadlines."""
        number = self._made
        self._made += 1
        segment = self._segments[number] = Segment.of(self._packing, predictions)
        self._count += len(segment)
        for place, pending in enumerate(predictions, number << SEGMENT_BITS):
            self._index.add(pending.label_key, place)
        self._index.clean(len(segment), self._count, self._is_gone)
        self._line_up(number, segment)

    def _is_gone(self, place: int) -> bool:
        segment = self._segments.get(place >> SEGMENT_BITS)
        return segment is None or segment.is_taken(place & SEGMENT - 1)

    def _line_up(self, number: int, segment: Segment) -> None:
        if segment.first is not None:
            heappush(self._firsts, (*in_order_of_deadlines(segment.first), number))

    @property
    def first(self) -> PendingPrediction | None:
        """The next to fall due."""
        firsts = self._firsts
        while firsts:
            _, number, of = firsts[0]
            segment = self._segments.get(of)
            if segment is not None and segment.first is not None and segment.first.number == number:
                return segment.first
            heappop(firsts)  # it was taken out by its label key
        return None

    def take_first(self) -> PendingPrediction:
        """Take out the next to fall due."""
        first = self.first
        assert first is not None
        number = self._firsts[0][2]
        self._take(number, self._segments[number].at)
        return first

    def take(self, label_key: Any) -> list[PendingPrediction]:
        """Take out all that have a label key."""
        found = []
        for place in self._index.places(label_key):
            if not self._is_gone(place):
                number, slot = place >> SEGMENT_BITS, place & SEGMENT - 1
                pending = self._segments[number].prediction(slot)
                if pending.label_key == label_key:
                    found.append(pending)
                    self._take(number, slot)
        return found

    def _take(self, number: int, slot: int) -> None:
        segment = self._segments[number]
        was_first = slot == segment.at
        segment.take(slot)
        self._count -= 1
        if not segment.left:
            del self._segments[number]
        elif was_first:
            self._line_up(number, segment)

    def revise(self, change: Callable[[PendingPrediction], None]) -> None:
        """Let something be changed of each prediction that no order depends on."""
        for number in list(self._segments):
            segment = self._segments.pop(number)
            self._count -= segment.left
            left = [segment.prediction(slot) for slot in segment.slots()]
            for pending in left:
                change(pending)
            self.add(left)

    def state(self, others: Iterable[PendingPrediction]) -> PackedState:
        """What is left, and `others` with it."""
        parts = [
            (number, segment.packed(slot))
            for segment in self._segments.values()
            for number, slot in segment.numbered()
        ]
        parts += [(pending.number, self._packing.pack(pending)) for pending in others]
        parts.sort()
        ends = array("Q", accumulate(len(packed) for _, packed in parts))
        return PackedState(ends.tobytes(), b"".join([packed for _, packed in parts]))

    def restore(self, state: PackedState) -> None:
        """Go on from what `state` gave."""
        ends = array("Q", state.ends)
        begin = 0
        for at in range(0, len(ends), SEGMENT):
            predictions = []
            for end in ends[at : at + SEGMENT]:
                predictions.append(self._packing.unpack(state.content[begin:end]))
                begin = end
            self.add(sorted(predictions, key=in_order_of_deadlines))
