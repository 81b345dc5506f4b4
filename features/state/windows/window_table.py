"""The windows of one declaration, by key: of all keys, or of a bounded number of the newest ones."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from driftline.features.state.event_time import NEVER
from driftline.features.state.segment_store import SegmentStore
from driftline.features.state.windows.window import DistinctWindow, EventWindow
from driftline.features.state.windows.window_columns import WindowColumn, as_columns, from_columns
from driftline.features.state.windows.window_pages import StoredPage, WindowPacking, WindowPages
from driftline.object_size import SAMPLED, StateSize


class WindowTable(dict[Any, EventWindow]):
    """The windows of one declaration, by key. `table[key]` makes a window where there is none. Windows
    without values are dropped.

    Each window is cleaned up once in `over` seconds, since following every value would cost more than adding
    it. So a window holds values of at most the last two `over`. `due` lists the keys to clean up, with the
    watermark at which they were listed.
    """

    __slots__ = ("arguments", "due", "kind", "over", "watermark")

    def __init__(self, kind: type[EventWindow], arguments: tuple[Any, ...] = ()) -> None:
        self.kind: Callable[..., EventWindow] = kind
        self.over = 0.0
        self.arguments = arguments
        self.watermark = NEVER
        self.due: deque[tuple[float, list[Any]]] = deque()

    def keep_for(self, over: float) -> None:
        """Keep values for at least `over` seconds."""
        self.over = max(self.over, over)

    def __missing__(self, key: Any) -> EventWindow:
        window = self[key] = self.kind(*self.arguments)
        self._look_later(key)
        return window

    def _look_later(self, key: Any) -> None:
        due = self.due
        if not due or due[-1][0] != self.watermark:
            due.append((self.watermark, []))
        due[-1][1].append(key)

    def retain(self, watermark: float) -> None:
        """Drop values that no event at or after the watermark can see, of the keys that are due."""
        self.watermark = watermark
        bound = watermark - self.over
        # a key listed now is cleaned up at the next call, however small `over` is
        while self.due and self.due[0][0] <= bound and self.due[0][0] < watermark:
            for key in self.due.popleft()[1]:
                window = dict.get(self, key)
                if window is None:
                    continue  # it was evicted
                # a window without newer values is dropped as a whole, which is the usual case
                if window.ats[-1] > bound and window.retain(bound, watermark):
                    self._look_later(key)
                else:
                    del self[key]

    def peeker(self) -> Callable[[Any], EventWindow | None]:
        """A function that gives a key's window, or None, and leaves it where it is."""
        return self.get

    def windows(self) -> Iterator[tuple[Any, EventWindow]]:
        """All keys with their windows, in memory or not."""
        return iter(self.items())

    def in_memory(self) -> Iterator[tuple[Any, EventWindow]]:
        """The keys whose windows are in memory, with those."""
        return iter(self.items())

    @property
    def held_in_memory(self) -> int:
        """How many keys have a window in memory."""
        return len(self)

    @property
    def held(self) -> int:
        """How many keys have a window, in memory or not."""
        return len(self)

    @property
    def packed_size(self) -> StateSize:
        """How many windows are in pages, and how much each takes of memory and on disk."""
        return StateSize(0, 0.0)

    def packed_bytes(self) -> float:
        """Bytes of a window in a page, by a sample of those in memory, of which there must be one."""
        packing = WindowPacking(self.kind(*self.arguments))
        sizes = [len(packing.pack(key, window)) for key, window in islice(self.items(), SAMPLED)]
        return sum(sizes) / len(sizes)

    def segments(self) -> list[str]:
        """The files that a snapshot refers to."""
        return []

    def saved(self) -> SavedTable:
        """All of it, as a snapshot has it; nothing is copied."""
        return SavedTable(self, ())

    def restore(self, stored: WindowTable | SavedTable, store: SegmentStore) -> None:
        """Take over another one's windows, also those in pages of the `store`, and all that it has beside
        them; nothing of its own is left."""
        table, pages = stored.saved()
        self._continue_from(table)
        if pages:
            packed = WindowPages(WindowPacking(self.kind(*self.arguments)), store)
            packed.restore(pages)
            for key, window in packed.items():
                self[key] = window
                self._look_later(key)

    def _continue_from(self, table: WindowTable) -> None:
        windows = dict(table)
        self.clear()
        self.update(windows)
        for name, value in table._beside().items():
            setattr(self, name, value)

    def _clear_due(self) -> None:
        """Leave out the keys that are gone, and all but the last note of each."""
        seen: set[Any] = set()
        kept: deque[tuple[float, list[Any]]] = deque()
        for since, keys in reversed(self.due):
            left = []
            for key in reversed(keys):
                if key in self and key not in seen:
                    seen.add(key)
                    left.append(key)
            if left:
                kept.appendleft((since, left[::-1]))
        self.due = kept

    def _beside(self) -> dict[str, Any]:
        """The attributes of the table by name, without its windows."""
        return {
            name: getattr(self, name)
            for kind in type(self).__mro__
            for name in getattr(kind, "__slots__", ())
        }

    def __reduce__(self) -> tuple[Any, ...]:
        columns = as_columns(self.kind(*self.arguments), self.values())
        return _unpickled, (type(self), self._beside(), list(self), columns)


def _unpickled(
    kind: type[WindowTable], beside: dict[str, Any], keys: list[Any], columns: dict[str, WindowColumn]
) -> WindowTable:
    table = kind.__new__(kind)
    for name, value in beside.items():
        setattr(table, name, value)
    empty = table.kind(*table.arguments)
    table.update(zip(keys, from_columns(empty, columns, len(keys)), strict=True))
    return table


def saved_table(
    kind: type[WindowTable],
    beside: dict[str, Any],
    keys: list[Any],
    columns: dict[str, WindowColumn],
    pages: Sequence[StoredPage],
) -> SavedTable:
    """A snapshot of a table with windows in pages."""
    return SavedTable(_unpickled(kind, beside, keys, columns), pages)


class SavedTable(NamedTuple):
    """A table in a snapshot: what was in memory, and the pages of the rest."""

    table: WindowTable
    pages: Sequence[StoredPage]

    def saved(self) -> SavedTable:
        """Itself, as of any stored table."""
        return self


class BoundedTable(WindowTable):
    """A table whose size is bounded: it follows each value.

    With `most_keys`, a new key evicts the key whose newest event is the oldest; of equal times, the key whose
    text sorts first. Expired keys are the oldest of all, so reads depend on the events alone. Windows that
    can drop more than expired values do so at every clean-up.
    """

    __slots__ = ("evicted", "line", "most_keys", "touched")

    def __init__(self, kind: type[EventWindow], arguments: tuple[Any, ...], most_keys: int | None) -> None:
        super().__init__(kind, arguments)
        self.most_keys = most_keys
        self.line: list[tuple[float, str, Any]] = []
        self.touched: dict[Any, None] = {}
        self.evicted = 0

    def put(self, key: Any, at: float, value: Any) -> Any:
        """Add a value; returns the key that was evicted for it, or None."""
        is_new = key not in self
        self[key].add(at, value)
        if self.kind is DistinctWindow:
            self.touched[key] = None
        if not is_new or self.most_keys is None:
            return None
        heapq.heappush(self.line, (at, repr(key), key))
        return self._evict() if len(self) > self.most_keys else None

    def _evict(self) -> Any:
        """Drop the key whose newest event is the oldest.

        `line` is a heap with the time of some event of each key. A key that has a newer event is put back
        with the time of that.
        """
        line = self.line
        while True:
            at, text, key = line[0]
            window = self.get(key)
            if window is None:
                heapq.heappop(line)
            elif window.ats[-1] > at:
                heapq.heapreplace(line, (window.ats[-1], text, key))
            else:
                heapq.heappop(line)
                del self[key]
                self.evicted += 1
                return key

    def retain(self, watermark: float) -> None:
        """As `WindowTable.retain`, and clean up the windows with new values."""
        bound = watermark - self.over
        for key in self.touched:
            window = dict.get(self, key)
            if window is None or (len(window.ats) == 1 and window.ats[0] > bound):
                continue  # it is gone, or has nothing to forget
            if not window.retain(bound, watermark):
                del self[key]
        self.touched.clear()
        super().retain(watermark)
        # `line` and `due` may still have keys that were dropped
        if len(self.line) > 2 * len(self):
            self.line = [(self[key].ats[-1], repr(key), key) for key in self]
            heapq.heapify(self.line)
        if sum(len(keys) for _, keys in self.due) > 2 * len(self):
            self._clear_due()
