"""Tables whose windows are in memory while their keys have events, and in pages of a store when they had none
for long. What is read is the same: only where a window is differs. The dict holds the windows that have
changed since the last checkpoint packed them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from driftline.features.state.segment_store import MemoryBudget, SegmentStore
from driftline.features.state.windows.window import EventWindow
from driftline.features.state.windows.window_columns import as_columns
from driftline.features.state.windows.window_pages import PAGE, StoredPage, WindowPacking
from driftline.features.state.windows.window_paging import WindowPaging
from driftline.features.state.windows.window_table import (
    BoundedTable,
    SavedTable,
    WindowTable,
    saved_table,
)
from driftline.object_size import StateSize


class _Paged(WindowTable):
    """What the paged tables have in common. `due` lists each key of the dict once, those first that are in it
    for the longest time."""

    __slots__ = ()
    paging: WindowPaging
    plain: type[WindowTable]

    def page(self, store: SegmentStore, budget: MemoryBudget) -> None:
        """From now on, windows may leave for the store."""
        self.paging = WindowPaging(WindowPacking(self.kind(*self.arguments)), store, budget)

    def get(self, key: Any, default: Any = None) -> Any:
        """As of a dict; the window is read only. One that is found in a page is in memory from now on."""
        window = dict.get(self, key)
        if window is None:
            window = self.paging.read(key)
        return default if window is None else window

    def __missing__(self, key: Any) -> EventWindow:
        window = self.paging.take(key)
        if window is None:
            return super().__missing__(key)
        self[key] = window
        self._look_later(key)
        return window

    def peeker(self) -> Callable[[Any], EventWindow | None]:
        """See `WindowTable`."""
        return self._peek

    def _peek(self, key: Any) -> EventWindow | None:
        window = dict.get(self, key)
        return self.paging.peek(key) if window is None else window

    def windows(self) -> Iterator[tuple[Any, EventWindow]]:
        """See `WindowTable`."""
        return chain(self.items(), self.paging.windows())

    def in_memory(self) -> Iterator[tuple[Any, EventWindow]]:
        """See `WindowTable`."""
        return chain(self.items(), self.paging.in_memory())

    @property
    def held_in_memory(self) -> int:
        """See `WindowTable`."""
        return len(self) + self.paging.count_in_memory

    @property
    def held(self) -> int:
        """See `WindowTable`."""
        return len(self) + self.paging.count

    @property
    def packed_size(self) -> StateSize:
        """See `WindowTable`."""
        return self.paging.pages.size

    def segments(self) -> list[str]:
        """See `WindowTable`."""
        return self.paging.names()

    def retain(self, watermark: float) -> None:
        """As `WindowTable.retain`; then windows are packed, if memory is needed."""
        super().retain(watermark)
        bound = watermark - self.over
        if self.paging.tidy(self, bound, watermark):
            self._pack_oldest(bound, watermark)

    def _pack_oldest(self, bound: float, watermark: float) -> None:
        """Pack the windows that have been in the dict for the longest time."""
        leaving = {}
        for key in self._oldest():
            window = self.pop(key, None)
            if window is not None and window.ats[-1] > bound and window.retain(bound, watermark):
                leaving[key] = window
        if leaving:
            self.paging.put(leaving)

    def _oldest(self) -> list[Any]:
        """The first `PAGE` keys that are listed; they are listed no more."""
        oldest: list[Any] = []
        while self.due and len(oldest) < PAGE:
            keys = self.due[0][1]
            some = PAGE - len(oldest)
            oldest += keys[:some]
            del keys[:some]
            if not keys:
                self.due.popleft()
        return oldest

    def restore(self, stored: WindowTable | SavedTable, store: SegmentStore) -> None:
        """See `WindowTable`."""
        table, pages = stored.saved()
        self._continue_from(table)
        self._clear_due()  # of a table that is not paged, or was stored before `due` had each key once
        self.paging.restore(pages)

    def read_ahead(self) -> bool:
        """See `WindowPaging`."""
        return self.paging.read_ahead(self)

    def set_aside(self) -> None:
        """A checkpoint is going to pack the windows that have changed."""
        self.paging.set_aside(self)
        self.clear()
        self.due.clear()

    def packed(self, names: Sequence[str]) -> None:
        """It has packed them into these files, empty where one could not be written."""
        self._put_back(self.paging.packed(names))

    def put_back(self) -> None:
        """It has not."""
        self._put_back(self.paging.put_back())

    def _put_back(self, windows: dict[Any, EventWindow]) -> None:
        if windows:
            self.update(windows)
            self.due.append((self.watermark, list(windows)))

    def saved(self) -> SavedTable:
        """See `WindowTable`."""
        table = self.plain.__new__(self.plain)
        for name, value in self._beside().items():
            setattr(table, name, value)
        table.update(self._changed())
        return SavedTable(table, self.paging.stored())

    def _changed(self) -> dict[Any, EventWindow]:
        """The windows that are not in pages."""
        return self.paging.aside | self

    def _beside(self) -> dict[str, Any]:
        beside = {name: value for name, value in super()._beside().items() if name != "paging"}
        if self.paging.aside:
            beside["due"] = deque((*self.due, (self.watermark, list(self.paging.aside))))
        return beside

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced(self._changed(), self._beside(), self.paging.stored())

    def reduced_apart(self, names: list[list[str]]) -> tuple[Any, ...]:
        """As `__reduce__`, of a checkpoint, which packs what has changed into new pages; the list of their
        files is added to `names`."""
        written, pages = self.paging.apart(self)
        names.append(written)
        return self._reduced({}, self._beside() | {"due": deque()}, self.paging.stored() + pages)

    def _reduced(
        self, windows: dict[Any, EventWindow], beside: dict[str, Any], pages: list[StoredPage]
    ) -> tuple[Any, ...]:
        columns = as_columns(self.kind(*self.arguments), windows.values())
        return saved_table, (self.plain, beside, list(windows), columns, pages)


class PagedTable(_Paged):
    """A table of which any number of keys may leave."""

    __slots__ = ("paging",)
    plain = WindowTable


class PagedBoundedTable(_Paged, BoundedTable):
    """A table that follows each value, of which any number of keys may leave."""

    __slots__ = ("paging",)
    plain = BoundedTable


class PagedTables:
    """The paged tables of one fold, for its checkpoints, and for who continues from one."""

    def __init__(self, tables: Iterable[WindowTable] = ()) -> None:
        self._tables = [table for table in tables if isinstance(table, _Paged)]
        self._are_aside = False

    def set_aside(self) -> bool:
        """Set aside what has changed, for a checkpoint to pack; whether that could be done. It cannot while
        another one has not said what it has packed; the checkpoint is whole nevertheless."""
        if self._are_aside or not self._tables:
            return False
        self._are_aside = True
        for table in self._tables:
            table.set_aside()
        return True

    def read_ahead(self) -> bool:
        """After a restore, have more windows of one table in memory, for a millisecond; whether there may be
        more to come. What the fold puts out does not depend on it."""
        return any(table.read_ahead() for table in self._tables)

    def packed(self, names: Sequence[Sequence[str]]) -> None:
        """The checkpoint has packed what was set aside into these files, by table."""
        self._are_aside = False
        for table, files in zip(self._tables, names, strict=True):
            table.packed(files)

    def put_back(self) -> None:
        """The checkpoint could not be written."""
        self._are_aside = False
        for table in self._tables:
            table.put_back()


def reducers(names: list[list[str]]) -> dict[type, Callable[[Any], tuple[Any, ...]]]:
    """How a checkpoint pickles paged tables: what has changed is packed, and `names` gets the files, a list
    for each table."""
    return dict.fromkeys((PagedTable, PagedBoundedTable), lambda table: table.reduced_apart(names))
