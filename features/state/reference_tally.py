"""A tally of a partition's references, updated as they change: partitions with equal tallies have equal
references.

References are looked up in every partition, so every partition must have the same ones. Tallies are compared
between partitions without bringing all references to one place.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, floor, isinf
from typing import Any
from zlib import crc32

STRETCHES = 8
"""Spans of event time in a ttl. References are counted by span, since each partition drops references that
are older than their ttl at a different moment."""
FIRST = -(2**53)
"""The number of the span before all others."""


Cell = tuple[int, int]
"""The references of one span: their number, and the sum of their CRC-32, which detects accidental
differences."""


class Tally:
    """Counts the time of each key's newest reference. `ttl` is in seconds, infinite for references without
    one."""

    __slots__ = ("_stretch", "cells", "newest", "ttl")

    def __init__(self, ttl: float) -> None:
        self.ttl = ttl
        self._stretch = ttl / STRETCHES
        self.cells: dict[int, Cell] = {}
        self.newest: tuple[float, str] | None = None

    def count(self, known: Iterable[tuple[Any, float]]) -> None:
        """Start anew with these keys, each with the time of its newest reference."""
        self.cells.clear()
        self.newest = None
        for key, at in known:
            self.move(key, None, at)

    def move(self, key: Any, before: float | None, after: float | None) -> None:
        """Change the time of a key's newest reference from `before` to `after`. None: there is no
        reference."""
        if before == after:
            return
        if before is not None:
            self._add(key, before, -1)
        if after is not None:
            self._add(key, after, 1)
            newest = (after, str(key))
            if self.newest is None or newest > self.newest:
                self.newest = newest

    def _add(self, key: Any, at: float, by: int) -> None:
        number = 0 if isinf(self._stretch) else floor(at / self._stretch)
        size, total = self.cells.get(number, (0, 0))
        if size + by:
            self.cells[number] = size + by, total + by * crc32(f"{key}\0{at!r}".encode())
        else:
            del self.cells[number]
        if not self.cells:
            self.newest = None

    def whole_from(self, watermark: float) -> int:
        """The number of the first span that is still complete at this watermark (seconds)."""
        if isinf(self._stretch) or isinf(watermark):
            return FIRST
        return ceil((watermark - self.ttl) / self._stretch)
