"""Digests of output topics: equal ones mean equal source positions and bytes, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from driftline.streams.records.outputs import Outputs


class PartitionDigest:
    """sha256 over the (offset, ordinal, content) of one partition's records of one topic."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0

    def update(self, offset: int, ordinal: int, value: bytes) -> None:
        """Add the next record."""
        self._hash.update(b"%d:%d:%d:" % (offset, ordinal, len(value)))
        self._hash.update(value)
        self.count += 1

    def digest(self) -> bytes:
        """The 32 bytes so far."""
        return self._hash.digest()


def combined(partitions: Sequence[PartitionDigest]) -> str:
    """sha256, in hex, over the partitions' digests in their order."""
    return hashlib.sha256(b"".join(p.digest() for p in partitions)).hexdigest()


DIGESTED = ("predictions", "drift", "models")
"""The kinds of output that a run has a digest of: the answers, and what decided which member answers."""


class Digests:
    """Of every partition's records of each of the `DIGESTED` kinds; of predictions there may be more
    partitions than of the others: those `predicting`."""

    def __init__(self, partitions: int, predicting: int | None = None) -> None:
        counts = dict.fromkeys(DIGESTED, partitions) | {"predictions": predicting or partitions}
        self._of = {kind: [PartitionDigest() for _ in range(counts[kind])] for kind in DIGESTED}

    def update(self, kind: str, partition: int, offset: int, ordinal: int, value: bytes) -> None:
        """Add the next record of a kind's topic in a partition."""
        self._of[kind][partition].update(offset, ordinal, value)

    def add(self, partition: int, out: Outputs) -> None:
        """Add what comes next in a partition of each kind's topic."""
        for kind in DIGESTED:
            for output in getattr(out, kind):
                self.update(kind, partition, output.offset, output.ordinal, output.value)

    def as_dict(self) -> dict[str, str]:
        """{kind: digest of its topic so far, in hex}."""
        return {kind: combined(partitions) for kind, partitions in self._of.items()}
