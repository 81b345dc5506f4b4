"""Where the bytes of segments are: in memory, or where the fold's caller keeps them. A segment never changes,
so reading it gives what was kept, and the fold stays a function of its records.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import accumulate, pairwise
from pickle import Pickler
from typing import Any, Protocol
from weakref import WeakSet

from driftline.errors import StateUnreadable

_END = 4
_CHECK = 4
KNOWN_OF_PIECE = _END + _CHECK + 1
"""Bytes in memory of each piece, with the one that says whether it was taken out."""


class SegmentBytes(Protocol):
    """The bytes of one segment."""

    @property
    def name(self) -> str:
        """The file that has them; empty if a snapshot holds them itself."""
        ...

    @property
    def stored(self) -> Any:
        """What a snapshot holds, so that `SegmentStore.again` finds them."""
        ...

    @property
    def memory(self) -> int:
        """How many of them are in memory."""
        ...

    def read(self, begin: int, end: int) -> bytes:
        """A part of them; raises StateUnreadable."""
        ...


class Share:
    """The part of a `MemoryBudget` that one user of it takes: `bytes` of memory."""

    __slots__ = ("__weakref__", "_budget", "bytes")

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.bytes: float = 0

    @property
    def excess(self) -> float:
        """How many of its bytes should go: those above an equal part, where all users together take too
        many."""
        return self._budget.excess(self.bytes)

    @property
    def room(self) -> float:
        """How many bytes more all users together may take."""
        return self._budget.room


class MemoryBudget:
    """Bytes of memory that several users take together, `limit` of them at most; they look at it now and
    then. What the fold puts out depends on none of this."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._shares: WeakSet[Share] = WeakSet()

    def share(self) -> Share:
        """The part of one more user; it is given back when that object is gone."""
        share = Share(self)
        self._shares.add(share)
        return share

    @property
    def taken(self) -> float:
        """How many bytes its users take together."""
        return sum(share.bytes for share in self._shares)

    @property
    def room(self) -> float:
        """How many bytes are left."""
        return self._limit - self.taken

    @property
    def users(self) -> int:
        """How many share it."""
        return len(self._shares)

    def excess(self, taken: float) -> float:
        """How many bytes a user that takes so many has to give back."""
        if self.room >= 0.0:
            return 0.0
        return max(0.0, taken - self._limit / len(self._shares))


UNLIMITED = MemoryBudget(sys.maxsize)
"""Of what is all in memory."""


class SegmentStore(Protocol):
    """Keeps the bytes of segments while they are in use, or a checkpoint names them."""

    @property
    def budget(self) -> MemoryBudget | None:
        """The memory for what may be in segments or not; None if all of it may be in memory."""
        ...

    def share(self) -> Share:
        """The memory that a user of the store takes beside the bytes of its segments, to find them: so much
        fewer of these are held in memory."""
        ...

    def keep(self, content: bytes, *, held: bool = True) -> SegmentBytes:
        """Keep these bytes; they may be `held` in memory too."""
        ...

    def again(self, stored: Any, *, held: bool = True) -> SegmentBytes:
        """The bytes that a snapshot holds or names; they may be `held` in memory too."""
        ...


class _Held:
    __slots__ = ("stored",)

    name = ""

    def __init__(self, content: bytes) -> None:
        self.stored = content

    @property
    def memory(self) -> int:
        return len(self.stored)

    def read(self, begin: int, end: int) -> bytes:
        return self.stored[begin:end]


class MemoryStore:
    """Keeps segments in memory."""

    @property
    def budget(self) -> MemoryBudget | None:
        """See `SegmentStore`."""
        return None

    def share(self) -> Share:
        """See `SegmentStore`."""
        return UNLIMITED.share()

    def keep(self, content: bytes, *, held: bool = True) -> SegmentBytes:
        """See `SegmentStore`."""
        return _Held(content)

    def again(self, stored: Any, *, held: bool = True) -> SegmentBytes:
        """See `SegmentStore`."""
        return _Held(stored)


IN_MEMORY = MemoryStore()


class PiecePickler:
    """Pickles one value after another. It remembers nothing of those before, so equal values have equal
    bytes."""

    def __init__(self) -> None:
        self._buffer = BytesIO()
        self._pickler = Pickler(self._buffer, protocol=5)
        self._pickler.fast = True

    def pickled(self, value: Any) -> bytes:
        """The bytes of a value, which `pickle.loads` reads."""
        buffer = self._buffer
        buffer.seek(0)
        buffer.truncate()
        self._pickler.dump(value)
        return buffer.getvalue()


class Pieces:
    """Pieces of bytes in a segment, one after another; their `piece_columns` are before them, at `at`. Each
    is read alone and checked: a file that was changed since it was written raises StateUnreadable, and gives
    no other piece."""

    __slots__ = ("_begin", "_checks", "_content", "_ends")

    def __init__(self, content: SegmentBytes, at: int, count: int) -> None:
        self._content = content
        self._begin = at + count * (_END + _CHECK)
        columns = content.read(at, self._begin)
        cut = count * _END
        self._ends, self._checks = array("I", columns[:cut]), array("I", columns[cut:])

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, slot: int) -> bytes:
        ends = self._ends
        begin = self._begin + (ends[slot - 1] if slot else 0)
        return self._checked(slot, self._content.read(begin, self._begin + ends[slot]))

    def __iter__(self) -> Iterator[bytes]:
        """All of them, read at once."""
        if not self._ends:
            return
        whole = self._content.read(self._begin, self._begin + self._ends[-1])
        for slot, piece in enumerate(_cut(whole, self._ends)):
            yield self._checked(slot, piece)

    def _checked(self, slot: int, piece: bytes) -> bytes:
        if zlib.crc32(piece) != self._checks[slot]:
            raise StateUnreadable(f"segment {self._content.name} was changed while it was in use")
        return piece

    @property
    def size(self) -> int:
        """Bytes of all of them together."""
        return self._ends[-1] if self._ends else 0

    @property
    def memory(self) -> int:
        """Bytes of memory that they take."""
        return self._content.memory + sys.getsizeof(self._ends) + sys.getsizeof(self._checks)


def piece_columns(parts: Sequence[bytes]) -> bytes:
    """Where each piece ends, put one after another, and its checksum: four bytes each, all ends first."""
    return array("I", accumulate(map(len, parts))).tobytes() + array("I", map(zlib.crc32, parts)).tobytes()


def _cut(whole: bytes, ends: array[int]) -> Iterator[bytes]:
    return (whole[begin:end] for begin, end in pairwise((0, *ends)))
