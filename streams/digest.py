"""Digest of predictions: equal digests mean equal source positions and bytes, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


class PartitionDigest:
    """sha256 over the (offset, ordinal, content) of one partition's predictions."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0

    def update(self, offset: int, ordinal: int, value: bytes) -> None:
        """Add the next prediction."""
        self._hash.update(b"%d:%d:%d:" % (offset, ordinal, len(value)))
        self._hash.update(value)
        self.count += 1

    def digest(self) -> bytes:
        """The 32 bytes so far."""
        return self._hash.digest()


def combined(partitions: Sequence[PartitionDigest]) -> str:
    """sha256, in hex, over the partitions' digests in their order."""
    return hashlib.sha256(b"".join(p.digest() for p in partitions)).hexdigest()
