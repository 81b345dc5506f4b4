"""A tally of the references that are known, kept as they change: equal tallies, equal references.

References are looked up in every partition, so every partition has to know the same ones. To compare all of
them, all partitions would have to be in one place; to compare tallies, they need not be.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, floor, isinf
from typing import Any
from zlib import crc32

STRETCHES = 8
"""Parts of a ttl: references are counted by spans of event time, since each partition drops references that
are older than their ttl at a moment of its own."""
FIRST = -(2**53)
"""A stretch before all others."""


Cell = tuple[int, int]
"""The references of one stretch: how many, and the sum of their CRC-32, which guards against mistakes."""


class Tally:
    """Of each key the newest reference's time; `ttl` is in seconds, infinite where they hold for good."""

    __slots__ = ("_stretch", "cells", "newest", "ttl")

    def __init__(self, ttl: float) -> None:
        self.ttl = ttl
        self._stretch = ttl / STRETCHES
        self.cells: dict[int, Cell] = {}
        self.newest: tuple[float, str] | None = None

    def count(self, known: Iterable[tuple[Any, float]]) -> None:
        """Begin again with these keys, each with the time of its newest reference."""
        self.cells.clear()
        self.newest = None
        for key, at in known:
            self.move(key, None, at)

    def move(self, key: Any, before: float | None, after: float | None) -> None:
        """The time of a key's newest reference changes from `before` to `after`; None where there is none."""
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
        """The first span of which nothing has been dropped at this watermark (seconds)."""
        if isinf(self._stretch) or isinf(watermark):
            return FIRST
        return ceil((watermark - self.ttl) / self._stretch)
