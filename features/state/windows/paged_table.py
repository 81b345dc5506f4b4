"""Tables whose windows are in memory while their keys have events, within a budget, and in pages of a store
when they had none for long. What is read is the same: only where a window is differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from driftline.features.state.segment_store import MemoryBudget, SegmentStore
from driftline.features.state.windows.cold_windows import WindowPacking
from driftline.features.state.windows.window import EventWindow
from driftline.features.state.windows.window_columns import as_columns
from driftline.features.state.windows.window_eviction import WindowEviction
from driftline.features.state.windows.window_table import (
    BoundedTable,
    SavedTable,
    WindowTable,
    saved_table,
)
from driftline.object_size import StateSize


class _Paged(WindowTable):
    """What the paged tables have in common."""

    __slots__ = ()
    eviction: WindowEviction
    plain: type[WindowTable]

    def page(self, store: SegmentStore, budget: MemoryBudget) -> None:
        """From now on, windows may leave for the store."""
        self.eviction = WindowEviction(WindowPacking(self.kind(*self.arguments)), store, budget)

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
        cold = self.eviction.cold
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
        return self.eviction.cold.peek(key) if window is None else window

    def windows(self) -> Iterator[tuple[Any, EventWindow]]:
        """See `WindowTable`."""
        return chain(self.items(), self.eviction.cold.items())

    @property
    def held(self) -> int:
        """See `WindowTable`."""
        return len(self) + len(self.eviction.cold)

    @property
    def packed_size(self) -> StateSize:
        """See `WindowTable`."""
        return self.eviction.cold.size

    def segments(self) -> list[str]:
        """See `WindowTable`."""
        return self.eviction.cold.names()

    def retain(self, watermark: float) -> None:
        """As `WindowTable.retain`; then windows leave, if there are too many."""
        super().retain(watermark)
        if self.held and self.eviction.shed(self, watermark - self.over):
            self._clear_due()

    def restore(self, stored: WindowTable | SavedTable, store: SegmentStore) -> None:
        """See `WindowTable`."""
        table, pages = stored.saved()
        self._continue_from(table)
        self.eviction.cold.restore(pages)

    def saved(self) -> SavedTable:
        """See `WindowTable`."""
        return SavedTable(self, self.eviction.cold.stored())

    def _beside(self) -> dict[str, Any]:
        return {name: value for name, value in super()._beside().items() if name != "eviction"}

    def __reduce__(self) -> tuple[Any, ...]:
        columns = as_columns(self.kind(*self.arguments), self.values())
        return saved_table, (self.plain, self._beside(), list(self), columns, self.eviction.cold.stored())


class PagedTable(_Paged):
    """A table of which any number of keys may leave."""

    __slots__ = ("eviction",)
    plain = WindowTable


class PagedBoundedTable(_Paged, BoundedTable):
    """A table that follows each value, of which any number of keys may leave."""

    __slots__ = ("eviction",)
    plain = BoundedTable
