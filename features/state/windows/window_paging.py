"""Where the windows of a table are when memory is bounded.

Those that have changed since the last checkpoint are in the table itself. A checkpoint packs them into pages
of a store, which it names, so it costs what changed. A window in a page is in memory too, as a copy, until
memory is needed. When the key has an event again, its window goes back into the table, and the one in the
page counts no more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from driftline.features.state.segment_store import MemoryBudget, SegmentStore
from driftline.features.state.windows.window import EventWindow
from driftline.features.state.windows.window_pages import PAGE, StoredPage, WindowPacking, WindowPages
from driftline.object_size import SAMPLED, size_of

MEASURED_EVERY = 64
"""Clean-ups between two measurements of the windows' size."""
DROPPED_PAGES = 4
"""As many windows as are in so many pages leave the memory at a time: the dict of them is then looked through
from its beginning, where it has the places of those that left before."""
READ_AHEAD = 256
"""Windows that come into memory at a time after a restore, in a millisecond: several in a page are read in a
tenth of what each costs alone."""
PARTS = 4
"""The work is done in so many parts, in turns, one at a clean-up: each takes some milliseconds, for which
events wait."""


class _Written:
    """What one checkpoint has packed: `pages` by file and keys, which the fold has not taken over yet, and
    those of their `windows` that have not changed since."""

    def __init__(self, windows: dict[Any, EventWindow]) -> None:
        self.windows = windows
        self.pages: deque[tuple[str, list[Any]]] = deque()

    def stored(self) -> Iterator[StoredPage]:
        """What a snapshot holds of the pages."""
        for name, keys in self.pages:
            taken = bytes(key not in self.windows for key in keys)
            if 0 in taken:
                yield StoredPage(name, taken)


class WindowPaging:
    """The windows of one table that have not changed since they were packed, or are being packed: `aside` are
    those that a checkpoint is packing; `copied` those of the pages that are in memory, first those that have
    been for the longest time."""

    def __init__(self, packing: WindowPacking, store: SegmentStore, budget: MemoryBudget) -> None:
        self.pages = WindowPages(packing, store)
        self.copied: dict[Any, EventWindow] = {}
        self.aside: dict[Any, EventWindow] = {}
        self._listed: list[Any] = []  # the keys of what is aside, when it was set aside
        self._written: deque[_Written] = deque()
        self._ahead: Iterator[tuple[Any, EventWindow]] | None = None
        self._share = budget.share()
        self._each = 0.0
        self._looks = 0
        self._turn = budget.users  # so that tables do not do the same part at the same time

    def read(self, key: Any) -> EventWindow | None:
        """A key's window, to be read only; it is in memory from now on. None if there is none."""
        window = self._in_memory(key)
        if window is None and self.pages:
            window = self.pages.peek(key)
            if window is not None:
                self.copied[key] = window
        return window

    def peek(self, key: Any) -> EventWindow | None:
        """A key's window, to be read only, which stays where it is."""
        return self._in_memory(key) or self.pages.peek(key)

    def _in_memory(self, key: Any) -> EventWindow | None:
        window = self.copied.get(key) or self.aside.get(key)
        for written in self._written:
            window = window or written.windows.get(key)
        return window

    def take(self, key: Any) -> EventWindow | None:
        """Take a key's window out, to be changed; None if there is none."""
        window = self.aside.pop(key, None)
        for written in self._written:
            window = window or written.windows.pop(key, None)
        if window is not None or not self.pages:
            return window
        window = self.copied.pop(key, None)
        if window is None:
            return self.pages.take(key)
        self.pages.forget(key)
        return window

    def windows(self) -> Iterator[tuple[Any, EventWindow]]:
        """Each key and its window, to be read only."""
        written = chain.from_iterable(written.windows.items() for written in self._written)
        return chain(self.aside.items(), written, self.pages.items())

    def in_memory(self) -> Iterator[tuple[Any, EventWindow]]:
        """Those that are in memory."""
        written = chain.from_iterable(written.windows.items() for written in self._written)
        return chain(self.aside.items(), written, self.copied.items())

    @property
    def count(self) -> int:
        """How many windows there are."""
        return len(self.pages) + self._count_apart

    @property
    def count_in_memory(self) -> int:
        """How many of them are in memory."""
        return len(self.copied) + self._count_apart

    @property
    def _count_apart(self) -> int:
        return len(self.aside) + sum(len(written.windows) for written in self._written)

    def names(self) -> list[str]:
        """The files that a snapshot refers to."""
        return [*self.pages.names(), *(name for written in self._written for name, _ in written.pages)]

    def stored(self) -> list[StoredPage]:
        """What a snapshot holds of the pages."""
        return [*self.pages.stored(), *(page for written in self._written for page in written.stored())]

    def put(self, windows: dict[Any, EventWindow]) -> None:
        """Pack windows, at most `PAGE`; they stay in memory."""
        self.pages.put(windows.items())
        self.copied.update(windows)

    def set_aside(self, changed: dict[Any, EventWindow]) -> None:
        """A checkpoint is going to pack these. Nothing is aside."""
        self.aside = dict(changed)
        self._listed = list(self.aside)

    def apart(self, changed: dict[Any, EventWindow]) -> tuple[list[str], list[StoredPage]]:
        """Pack what is aside and these into new pages, and leave them where they are; returns their files,
        an empty one if a page could not be written, and what a snapshot holds."""
        windows = chain(self.aside.items(), changed.items())
        pages = [self.pages.apart(some) for some in _cut(windows)]
        return [name for name, _ in pages], [page for _, page in pages]

    def packed(self, names: Sequence[str]) -> dict[Any, EventWindow]:
        """What was set aside is in these pages now; returns the windows of those that could not be
        written."""
        written, back = _Written(self.aside), dict[Any, EventWindow]()
        for name, keys in zip(names, _cut(iter(self._listed)), strict=True):
            if name:
                written.pages.append((name, keys))
            else:
                back.update((key, self.aside.pop(key)) for key in keys if key in self.aside)
        if written.pages:
            self._written.append(written)
        self.aside, self._listed = {}, []
        return back

    def put_back(self) -> dict[Any, EventWindow]:
        """What was set aside was not packed; returns it."""
        back, self.aside = self.aside, {}
        return back

    def tidy(self, changed: dict[Any, EventWindow], bound: float, watermark: float) -> bool:
        """Do the next part of the work. Whether some of the changed windows should be packed now, as
        memory is needed."""
        if not self._each or self._looks % MEASURED_EVERY == 0:
            self._measure(changed)
        self._looks += 1
        part = (self._looks + self._turn) % PARTS
        if part % 2 == 0 and self._written:
            self._take_over(bound, watermark)
        elif part == 0:
            return bool(changed) and not self.copied and self._needs_memory(len(changed))
        elif part == 1:
            self._drop_copies(len(changed))
        elif part == 2:
            for key in self.pages.drop_expired(bound):
                self.copied.pop(key, None)
        else:
            self.pages.pack_worn()
        return False

    def _take_over(self, bound: float, watermark: float) -> None:
        """Take over the next page that a checkpoint has written."""
        written = self._written[0]
        name, keys = written.pages.popleft()
        left = {}
        for key in keys:
            window = written.windows.pop(key, None)
            if window is not None and window.ats[-1] > bound and window.retain(bound, watermark):
                left[key] = window
        self.pages.add(name, keys, left)
        self.copied.update(left)
        if not written.pages:
            self._written.popleft()

    def _measure(self, changed: dict[Any, EventWindow]) -> None:
        sample = chain(islice(changed.items(), SAMPLED), islice(self.in_memory(), SAMPLED))
        self._each = size_of(0, sample).bytes_each

    def _needs_memory(self, changed: int) -> bool:
        self._share.bytes = self._each * (changed + self.count_in_memory) + self.pages.least
        return self._share.excess > 0

    def read_ahead(self, changed: dict[Any, EventWindow]) -> bool:
        """After a restore, have `READ_AHEAD` more windows in memory, if there is room; whether there may be
        more to come."""
        if self._ahead is None:
            return False
        some = dict(islice(self._ahead, READ_AHEAD))
        self.copied.update(some)
        if not self._each:
            self._measure(changed)
        is_full = self._needs_memory(len(changed)) or self._share.room < self._each * PAGE
        if is_full or len(some) < READ_AHEAD:
            self._ahead = None
        return self._ahead is not None

    def _drop_copies(self, changed: int) -> None:
        if self.copied and self._needs_memory(changed):
            for key in list(islice(self.copied, DROPPED_PAGES * PAGE)):
                del self.copied[key]

    def restore(self, pages: Sequence[StoredPage]) -> None:
        """Continue from pages of a snapshot, and from nothing else."""
        self.copied, self.aside, self._listed = {}, {}, []
        self._written.clear()
        self.pages.restore(pages)
        self._ahead = self.pages.ahead()


def _cut(things: Iterator[Any]) -> Iterator[list[Any]]:
    """A page of them at a time."""
    while some := list(islice(things, PAGE)):
        yield some
