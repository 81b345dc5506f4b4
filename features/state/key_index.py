"""Where what is packed under a key may be: ten bytes for each, where a dict takes a hundred and more.

A hash table of bytes: the low bits of a key's hash choose a bucket, and an entry in it has further bits of
the hash and the place. It holds no keys, so a caller compares the key with that of what is at the place. An
entry of something that is gone stays in the table until its bucket is cleaned. While there are few entries,
there are few buckets, as an empty one takes 65 bytes.

It is built again at a restore, from the hashes of the keys, which are written beside what is packed: to read
millions of keys would take longer than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from sys import getsizeof
from typing import Any

import numpy as np

Hashes = np.ndarray[tuple[int], np.dtype[np.int64]]
"""Hashes of keys, or places."""
Entries = np.ndarray[tuple[int, int], np.dtype[np.uint8]]
"""Entries of an index, a row of bytes each."""

MOST_ENTRIES = 1.25
"""Entries for each thing that is left, above which an index is cleaned: while all are left, none goes."""
_FEWEST_BITS = 8
_MORE_BITS = 3
_MOST_BITS = 14
"""Bits of the hash that choose a bucket: so many at first, so many more at a time, so many at most."""
_FULL = 64
"""Entries in each bucket, beyond which there are more buckets."""
_TAG_BYTES = 4
_PLACE_BYTES = 5
_ENTRY = _TAG_BYTES + _PLACE_BYTES
_TAGS = (1 << 8 * _TAG_BYTES) - 1
_HASH = 8
_HASHED_ALIKE = frozenset((str, int, float, bool, bytes))
"""Types whose hashes are the same in every process with this one's hash seed; that of None is not."""
_PROBE = "driftline"
_AT_ONCE = 1 << 20
"""Entries that are added at a time at a restore; that takes a hundred bytes each for a moment."""


def hashes_of(keys: Iterable[Any]) -> Hashes:
    """The hashes of keys, for `KeyIndex.add`."""
    return np.fromiter(map(hash, keys), np.int64)


def stored_hashes(hashes: Hashes, *, alike: bool) -> bytes:
    """Hashes as they are written: `read_hashes` reads them. `alike` is whether other processes with this
    one's hash seed have the same: see `are_hashed_alike`."""
    probe = hash(_PROBE) if alike else 0
    return probe.to_bytes(_HASH, "little", signed=True) + hashes.tobytes()


def stored_size(count: int) -> int:
    """How many bytes so many hashes take as they are written."""
    return _HASH * (1 + count)


def are_hashed_alike(keys: Iterable[Any]) -> bool:
    """Whether every process with this one's hash seed has the same hashes of these keys."""
    return all(map(_is_hashed_alike, keys))


def read_hashes(stored: bytes) -> Hashes | None:
    """What `stored_hashes` has written; None if this process has others."""
    if int.from_bytes(stored[:_HASH], "little", signed=True) != hash(_PROBE):
        return None
    return np.frombuffer(stored, np.int64, offset=_HASH)


def hashes_left(
    taken: bytes | bytearray, stored: bytes, keys: Callable[[], Iterable[Any]]
) -> tuple[Hashes, Hashes]:
    """The slots of which `taken` has a 0, and the hashes of their keys: as they were stored for all slots, or
    of the `keys` of these, which are asked for only if they are needed."""
    slots = np.flatnonzero(np.frombuffer(taken, np.uint8) == 0)
    hashes = read_hashes(stored)
    return slots, hashes_of(keys()) if hashes is None else hashes[slots]


def _is_hashed_alike(key: Any) -> bool:
    kind = key.__class__
    return kind in _HASHED_ALIKE or (kind is tuple and all(map(_is_hashed_alike, key)))


class KeyIndex:
    """Places by the hash of a key. `entries` is how many it holds, those of what is gone included."""

    def __init__(self) -> None:
        self._bits = _FEWEST_BITS
        self._buckets: list[bytearray | None] = [None] * (1 << self._bits)
        self._next = 0
        self.entries = 0

    def add(self, places: Hashes, hashes: Hashes) -> None:
        """At each of these places is something whose key has the hash beside it."""
        count = len(places)
        if self.entries + count > _FULL << self._bits and self._bits < _MOST_BITS:
            self._make_room(self.entries + count)
        entries = np.empty((count, _ENTRY), np.uint8)
        entries[:, :_TAG_BYTES] = _big_endian((hashes >> _FEWEST_BITS) & _TAGS)[:, -_TAG_BYTES:]
        entries[:, _TAG_BYTES:] = _big_endian(places)[:, -_PLACE_BYTES:]
        self._deal(hashes, entries)
        self.entries += count

    def _deal(self, hashes: Hashes, entries: Entries) -> None:
        """Add entries to the buckets of their hashes, of which the low bits are looked at."""
        numbers = (hashes & len(self._buckets) - 1).astype(np.uint16)
        order = np.argsort(numbers, kind="stable")
        numbers, content = numbers[order], entries[order].tobytes()
        begins = np.flatnonzero(np.diff(numbers, prepend=np.uint16(1 << _MOST_BITS))).tolist()
        chosen = numbers[begins].tolist()
        for number, (begin, end) in zip(chosen, pairwise((*begins, len(order))), strict=True):
            bucket = self._buckets[number]
            if bucket is None:
                bucket = self._buckets[number] = bytearray()
            bucket += content[begin * _ENTRY : end * _ENTRY]

    def _make_room(self, entries: int) -> None:
        """Have so many buckets that so many entries fit in."""
        before = self._buckets
        while entries > _FULL << self._bits and self._bits < _MOST_BITS:
            self._bits += _MORE_BITS
        self._buckets, self._next = [None] * (1 << self._bits), 0
        counts = [0 if bucket is None else len(bucket) // _ENTRY for bucket in before]
        content = b"".join(bucket for bucket in before if bucket is not None)
        dealt = np.frombuffer(content, np.uint8).reshape(-1, _ENTRY)
        tags = np.ascontiguousarray(dealt[:, :_TAG_BYTES]).view(">u4").ravel().astype(np.int64)
        lowest = np.repeat(np.arange(len(before)) & (1 << _FEWEST_BITS) - 1, counts)
        self._deal(tags << _FEWEST_BITS | lowest, dealt)

    def places(self, hashed: int) -> list[int]:
        """Where something whose key has this hash may be, in the order in which it was added."""
        bucket = self._buckets[hashed & len(self._buckets) - 1]
        if not bucket:
            return []
        tag = (hashed >> _FEWEST_BITS & _TAGS).to_bytes(_TAG_BYTES, "big")
        found = []
        at = bucket.find(tag)
        while at >= 0:
            beyond = at % _ENTRY
            if beyond == 0:
                found.append(int.from_bytes(bucket[at + _TAG_BYTES : at + _ENTRY], "big"))
            at = bucket.find(tag, at + _ENTRY - beyond)
        return found

    @property
    def least(self) -> int:
        """Bytes of its entries: known at once, where `memory` looks at each bucket."""
        return self.entries * _ENTRY

    @property
    def memory(self) -> int:
        """Bytes of memory that it takes."""
        return getsizeof(self._buckets) + sum(getsizeof(one) for one in self._buckets if one is not None)

    def clean(self, added: int, living: int, is_gone: Callable[[int], bool]) -> None:
        """After so many entries were `added`, clean the next buckets: all buckets are cleaned by the time
        that as many entries were added as are `living`."""
        count = len(self._buckets)
        for _ in range(min(count, count * added // max(living, 1) + 1)):
            bucket = self._buckets[self._next]
            if bucket:
                self._clean(bucket, is_gone)
            self._next = (self._next + 1) % count

    def _clean(self, bucket: bytearray, is_gone: Callable[[int], bool]) -> None:
        kept = bytearray()
        for at in range(0, len(bucket), _ENTRY):
            entry = bucket[at : at + _ENTRY]
            if not is_gone(int.from_bytes(entry[_TAG_BYTES:], "big")):
                kept += entry
        self.entries -= (len(bucket) - len(kept)) // _ENTRY
        bucket[:] = kept


class IndexedLater:
    """Adds to an index what several segments have, very many at a time: one by one takes three times as
    long."""

    def __init__(self, index: KeyIndex) -> None:
        self._index = index
        self._places: list[Hashes] = []
        self._hashes: list[Hashes] = []
        self._count = 0

    def add(self, places: Hashes, hashes: Hashes) -> None:
        """As of `KeyIndex`, at once or later."""
        self._places.append(places)
        self._hashes.append(hashes)
        self._count += len(places)
        if self._count >= _AT_ONCE:
            self.finish()

    def finish(self) -> None:
        """All is added."""
        if self._count:
            self._index.add(np.concatenate(self._places), np.concatenate(self._hashes))
            self._places, self._hashes, self._count = [], [], 0


def _big_endian(numbers: Hashes) -> Entries:
    """The eight bytes of each number."""
    return numbers.astype(">u8").view(np.uint8).reshape(len(numbers), 8)
