"""Which windows leave the memory for pages of a store, when a partition's windows take more than they may."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from driftline.features.state.event_time import NEVER
from driftline.features.state.segment_store import MemoryBudget, SegmentStore
from driftline.features.state.windows.cold_windows import PAGE, ColdWindows, WindowPacking
from driftline.features.state.windows.window import EventWindow
from driftline.features.state.windows.window_table import WindowTable
from driftline.object_size import SAMPLED, size_of

SHRINK_TO = 0.75
"""A table that has too much memory goes down to this part of what it may have, so that it seldom has to look
through all of its windows."""
MEASURED_EVERY = 64
"""Clean-ups between two measurements of the windows' size."""
LOOKED_AT = 1_000
"""Windows by which it is decided how long ago the newest event of one must be for it to leave."""


class WindowEviction:
    """Lets the windows of a table leave the memory, those first whose newest event is the longest ago."""

    def __init__(self, packing: WindowPacking, store: SegmentStore, budget: MemoryBudget) -> None:
        self.cold = ColdWindows(packing, store)
        self._share = budget.share()
        self._each = 0.0
        self._looks = 0
        self._mark = NEVER
        self._leaving: list[Any] = []

    def shed(self, table: WindowTable, bound: float) -> bool:
        """Pack the next windows that are to leave; whether those were the last ones of many."""
        if self._looks % MEASURED_EVERY == 0:
            self._each = size_of(len(table), islice(table.items(), SAMPLED)).bytes_each
            self.cold.tidy(bound)
        self._looks += 1
        self._share.bytes = self._each * len(table)
        if not self._leaving:
            excess = self._share.excess
            if not excess:
                return False
            self._plan(table, SHRINK_TO * (self._share.bytes - excess))
        page = [(key, window) for key, window in self._next(table) if window.ats[-1] <= self._mark]
        if page:
            self.cold.put(page)
            for key, _ in page:
                del table[key]
        return not self._leaving

    def _plan(self, table: WindowTable, left: float) -> None:
        """Choose what is to leave, so that `left` bytes are."""
        times = sorted(
            window.ats[-1] for window in islice(table.values(), 0, None, len(table) // LOOKED_AT + 1)
        )
        going = 1.0 - left / self._share.bytes
        self._mark = times[min(int(going * len(times)), len(times) - 1)]
        self._leaving = [key for key, window in table.items() if window.ats[-1] <= self._mark]
        self._leaving.reverse()

    def _next(self, table: WindowTable) -> Iterator[tuple[Any, EventWindow]]:
        for _ in range(min(PAGE, len(self._leaving))):
            key = self._leaving.pop()
            if key in table:  # else it went by itself meanwhile
                yield key, table[key]
