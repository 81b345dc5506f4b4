"""Records that this process has appended to partitions that it reads itself.

When the broker has acknowledged records and given their offsets, a reader in the same process knows them and
need not wait for a fetch. Where all who write to a partition are in this process, it is not fetched from as
long as what they append has no gap. Once a second it is, for a moment: only the broker knows all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from faust.types import TP

KEPT = 64
"""Chunks of one partition that are kept until those before them are known."""
GAP_WITHIN = 0.05
"""Seconds within which a gap is usually closed by an acknowledgement that was overtaken by another one; after
that the records are fetched."""
FETCH_EVERY = 1.0
FETCH_FOR = 0.1
"""Seconds between two looks at a partition that need not be fetched from, and the length of one."""


class _Partition:
    """The chunks of one partition that are not handed over, by offset."""

    __slots__ = ("chunks", "fetch_from", "gap_since")

    def __init__(self) -> None:
        self.chunks: dict[int, Sequence[Any]] = {}
        self.gap_since: float | None = None
        self.fetch_from: float | None = None
        """When it is fetched from again; None while that has not stopped."""


class AppendedRecords:
    """What was appended here and not handed over yet, and which partitions need no fetch. Times are those of
    `now`, in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._partitions: dict[TP, _Partition] = {}
        self._own: Collection[TP] = ()

    def write_alone(self, partitions: Collection[TP]) -> None:
        """From now on, only this process writes to these partitions."""
        self._own = partitions

    def add(self, tp: TP, records: Sequence[Any]) -> None:
        """The broker has acknowledged these records, at offsets one after the other."""
        chunks = self._partitions.setdefault(tp, _Partition()).chunks
        if len(chunks) >= KEPT:
            chunks.clear()  # what is before them does not come from here
        chunks[records[0].offset] = records

    def take(self, tp: TP, read: int) -> Sequence[Any] | None:
        """The records at offset `read`, up to which the partition is read, if they are known."""
        partition = self._partitions.get(tp)
        if partition is None or not partition.chunks:
            return None
        records = partition.chunks.pop(read, None)
        if records is None:
            for offset in [offset for offset in partition.chunks if offset < read]:
                del partition.chunks[offset]  # fetched meanwhile
        elif partition.fetch_from is None and tp in self._own:
            partition.fetch_from = self._now() + FETCH_EVERY
        if not partition.chunks:
            partition.gap_since = None
        elif partition.gap_since is None:
            partition.gap_since = self._now()
        return records

    def unfetched(self) -> set[TP]:
        """The partitions that need no fetch now."""
        return {tp for tp in self._own if self._is_unfetched(tp)}

    def _is_unfetched(self, tp: TP) -> bool:
        partition = self._partitions.get(tp)
        if partition is None or partition.fetch_from is None:
            return False
        now = self._now()
        has_gap = partition.gap_since is not None and now - partition.gap_since > GAP_WITHIN
        if has_gap or now > partition.fetch_from + FETCH_FOR:
            partition.fetch_from = None  # until records are known without a gap again
            return False
        return now < partition.fetch_from

    def forget(self, partitions: Iterable[TP]) -> None:
        """These partitions are no longer read here."""
        for tp in partitions:
            self._partitions.pop(tp, None)
