"""Where what is packed under a key may be: ten bytes for each, where a dict takes a hundred and more.

A hash table of bytes: the low bits of a key's hash choose a bucket, and an entry in it has further bits of
the hash and the place. It holds no keys, so a caller compares the key with that of what is at the place. An
entry of something that is gone stays in the table until its bucket is cleaned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from sys import getsizeof
from typing import Any

MOST_ENTRIES = 1.25
"""Entries for each thing that is left, above which an index is cleaned: while all are left, none goes."""
_BUCKET_BITS = 14
_BUCKETS = 1 << _BUCKET_BITS
_TAG_BYTES = 4
_PLACE_BYTES = 5
_ENTRY = _TAG_BYTES + _PLACE_BYTES
_TAGS = (1 << 8 * _TAG_BYTES) - 1


class KeyIndex:
    """Places by key. It is built again from what is packed, never stored: hashes of text differ between
    processes. `entries` is how many it holds, those of what is gone included."""

    def __init__(self) -> None:
        self._buckets: list[bytearray | None] = [None] * _BUCKETS
        self._next = 0
        self.entries = 0

    def add(self, places: Iterable[tuple[int, Any]]) -> None:
        """At each of these places is something with this key."""
        buckets, entries = self._buckets, self.entries
        for place, key in places:
            hashed = hash(key)
            entry = (hashed >> _BUCKET_BITS & _TAGS) << 8 * _PLACE_BYTES | place
            number = hashed & _BUCKETS - 1
            bucket = buckets[number]
            if bucket is None:
                bucket = buckets[number] = bytearray()
            bucket += entry.to_bytes(_ENTRY, "big")
            entries += 1
        self.entries = entries

    def places(self, key: Any) -> list[int]:
        """Where something with this key may be, in the order in which it was added."""
        hashed = hash(key)
        bucket = self._buckets[hashed & _BUCKETS - 1]
        if not bucket:
            return []
        tag = (hashed >> _BUCKET_BITS & _TAGS).to_bytes(_TAG_BYTES, "big")
        found = []
        at = bucket.find(tag)
        while at >= 0:
            beyond = at % _ENTRY
            if beyond == 0:
                found.append(int.from_bytes(bucket[at + _TAG_BYTES : at + _ENTRY], "big"))
            at = bucket.find(tag, at + _ENTRY - beyond)
        return found

    @property
    def memory(self) -> int:
        """Bytes of memory that it takes."""
        return getsizeof(self._buckets) + sum(getsizeof(one) for one in self._buckets if one is not None)

    def clean(self, added: int, living: int, is_gone: Callable[[int], bool]) -> None:
        """After so many entries were `added`, clean the next buckets: all buckets are cleaned by the time
        that as many entries were added as are `living`."""
        for _ in range(min(_BUCKETS, _BUCKETS * added // max(living, 1) + 1)):
            bucket = self._buckets[self._next]
            if bucket:
                self._clean(bucket, is_gone)
            self._next = (self._next + 1) % _BUCKETS

    def _clean(self, bucket: bytearray, is_gone: Callable[[int], bool]) -> None:
        kept = bytearray()
        for at in range(0, len(bucket), _ENTRY):
            entry = bucket[at : at + _ENTRY]
            if not is_gone(int.from_bytes(entry[_TAG_BYTES:], "big")):
                kept += entry
        self.entries -= (len(bucket) - len(kept)) // _ENTRY
        bucket[:] = kept
