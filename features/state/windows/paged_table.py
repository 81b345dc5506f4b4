"""Tables whose windows are in memory while their keys have events, within a budget, and in pages of a store
when they had none for long. What is read is the same: only where a window is differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

from driftline.features.state.event_time import NEVER
from driftline.features.state.segment_store import MemoryBudget, SegmentStore
from driftline.features.state.windows.cold_windows import PAGE, ColdWindows, WindowPacking
from driftline.features.state.windows.window import EventWindow
from driftline.features.state.windows.window_columns import as_columns
from driftline.features.state.windows.window_table import (
    BoundedTable,
    SavedTable,
    WindowTable,
    saved_table,
)
from driftline.object_size import SAMPLED, StateSize, size_of

SHRINK_TO = 0.75
"""A table that has too much memory goes down to this part of what it may have, so that it seldom has to look
through all of its windows."""
MEASURED_EVERY = 64
"""Clean-ups between two measurements of the windows' size."""
LOOKED_AT = 1_000
"""Windows by which it is decided how long ago the newest event of one must be for it to leave."""


class Pager:
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


class _Paged(WindowTable):
    """What the paged tables have in common."""

    __slots__ = ()
    pager: Pager
    plain: type[WindowTable]

    def page(self, store: SegmentStore, budget: MemoryBudget) -> None:
        """From now on, windows may leave for the store."""
        self.pager = Pager(WindowPacking(self.kind(*self.arguments)), store, budget)

    def get(self, key: Any, default: Any = None) -> Any:
        """As of a dict; a window that is found in a page is in memory again."""
        window = dict.get(self, key)
        if window is None:
            window = self._again(key)
        return default if window is None else window

    def __missing__(self, key: Any) -> EventWindow:
        window = self._again(key)
        return super().__missing__(key) if window is None else window

    def _again(self, key: Any) -> EventWindow | None:
        cold = self.pager.cold
        window = cold.take(key) if cold else None
        if window is not None:
            self[key] = window
            self._look_later(key)
        return window

    def peeker(self) -> Callable[[Any], EventWindow | None]:
        """See `WindowTable`."""
        return self._peek

    def _peek(self, key: Any) -> EventWindow | None:
        window = dict.get(self, key)
        return self.pager.cold.peek(key) if window is None else window

    def windows(self) -> Iterator[tuple[Any, EventWindow]]:
        """See `WindowTable`."""
        return chain(self.items(), self.pager.cold.items())

    @property
    def held(self) -> int:
        """See `WindowTable`."""
        return len(self) + len(self.pager.cold)

    @property
    def packed_size(self) -> StateSize:
        """See `WindowTable`."""
        return self.pager.cold.size

    def segments(self) -> list[str]:
        """See `WindowTable`."""
        return self.pager.cold.names()

    def retain(self, watermark: float) -> None:
        """As `WindowTable.retain`; then windows leave, if there are too many."""
        super().retain(watermark)
        if self.held and self.pager.shed(self, watermark - self.over):
            self._clear_due()

    def restore(self, stored: WindowTable | SavedTable, store: SegmentStore) -> None:
        """See `WindowTable`."""
        table, pages = stored.saved()
        self._continue_from(table)
        self.pager.cold.restore(pages)

    def saved(self) -> SavedTable:
        """See `WindowTable`."""
        return SavedTable(self, self.pager.cold.stored())

    def _beside(self) -> dict[str, Any]:
        return {name: value for name, value in super()._beside().items() if name != "pager"}

    def __reduce__(self) -> tuple[Any, ...]:
        columns = as_columns(self.kind(*self.arguments), self.values())
        return saved_table, (self.plain, self._beside(), list(self), columns, self.pager.cold.stored())


class PagedTable(_Paged):
    """A table of which any number of keys may leave."""

    __slots__ = ("pager",)
    plain = WindowTable


class PagedBoundedTable(_Paged, BoundedTable):
    """A table that follows each value, of which any number of keys may leave."""

    __slots__ = ("pager",)
    plain = BoundedTable
