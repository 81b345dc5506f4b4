"""Packed predictions in one piece of bytes: they are taken out one by one, and none is put in or changed."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

from driftline.streams.waiting.packing import Packing
from driftline.streams.waiting.prediction import PendingPrediction


class Segment:
    """Predictions in order of their deadlines; `first` is the first that is left, None when none is."""

    __slots__ = ("_content", "_ends", "_numbers", "_packing", "_taken", "at", "first", "left")

    def __init__(self, packing: Packing, numbers: Iterable[int], ends: Iterable[int], content: bytes) -> None:
        self._packing = packing
        self._numbers = array("q", numbers)
        self._ends = array("I", ends)
        self._content = content
        self._taken = bytearray(len(self._ends))
        self.left = len(self._ends)
        self.at = -1
        self.first: PendingPrediction | None = None
        self._advance()

    @classmethod
    def of(cls, packing: Packing, predictions: Sequence[PendingPrediction]) -> Segment:
        """Pack predictions that are in order of their deadlines."""
        parts = [packing.pack(pending) for pending in predictions]
        end, ends = 0, []
        for part in parts:
            end += len(part)
            ends.append(end)
        return cls(packing, [pending.number for pending in predictions], ends, b"".join(parts))

    def __len__(self) -> int:
        """How many there were to begin with."""
        return len(self._ends)

    def packed(self, slot: int) -> bytes:
        """The bytes of the prediction in a slot."""
        return self._content[self._ends[slot - 1] if slot else 0 : self._ends[slot]]

    def prediction(self, slot: int) -> PendingPrediction:
        """The prediction in a slot."""
        return self._packing.unpack(self.packed(slot))

    def is_taken(self, slot: int) -> bool:
        """Whether the prediction of a slot was taken out."""
        return bool(self._taken[slot])

    def take(self, slot: int) -> None:
        """The prediction of this slot is taken out."""
        self._taken[slot] = 1
        self.left -= 1
        if slot == self.at:
            self._advance()

    def slots(self) -> Iterator[int]:
        """The slots of what is left."""
        return (slot for slot, taken in enumerate(self._taken) if not taken)

    def numbered(self) -> Iterator[tuple[int, int]]:
        """Number and slot of each prediction that is left."""
        return ((self._numbers[slot], slot) for slot in self.slots())

    def _advance(self) -> None:
        self.at = self._taken.find(0, self.at + 1)
        self.first = self.prediction(self.at) if self.at >= 0 else None
