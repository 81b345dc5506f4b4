"""The windows of one declaration, by key: all of them, or those of the newest keys."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any

from driftline.features.state.event_time import NEVER
from driftline.features.state.window import DistinctWindow, EventWindow


class WindowTable(dict[Any, EventWindow]):
    """The windows of one declaration, by key. A key that is asked for with `[]` gets a window; one
    without values is forgotten.

    Each window is due to be looked at once in `over`: to follow every value would cost more than
    to add it. So a window holds what lies less than two `over` back, at most.
    """

    __slots__ = ("arguments", "due", "kind", "over", "watermark")

    def __init__(self, kind: type[EventWindow], over: float, arguments: tuple[Any, ...] = ()) -> None:
        self.kind: Callable[..., EventWindow] = kind
        self.over = over
        self.arguments = arguments
        self.watermark = NEVER
        self.due: deque[tuple[float, Any]] = deque()

    def __missing__(self, key: Any) -> EventWindow:
        window = self[key] = self.kind(self.over, *self.arguments)
        self.due.append((self.watermark, key))
        return window

    def retain(self, watermark: float) -> None:
        """Drop what no event at or after the watermark can see, where it is due."""
        self.watermark = watermark
        bound = watermark - self.over
        due = self.due
        for _ in range(len(due)):
            if due[0][0] > bound:
                break
            key = due.popleft()[1]
            window = self.get(key)
            if window is None:
                continue  # it was evicted
            # most go as a whole: the values of a window that has nothing newer need not go one by one
            if window.ats[-1] > bound and window.retain(bound):
                due.append((watermark, key))
            else:
                del self[key]

    def restore(self, saved: WindowTable) -> None:
        """Take over another one's windows, and all that it has beside them; nothing of its own is left."""
        windows = dict(saved)
        self.clear()
        self.update(windows)
        for kind in type(self).__mro__:
            for name in getattr(kind, "__slots__", ()):
                setattr(self, name, getattr(saved, name))


class BoundedTable(WindowTable):
    """A table that follows each value, to keep what it holds within a bound.

    With `most_keys`, the key whose newest event is the oldest is evicted when a new one comes; of equal
    times the one whose text comes first. Expired keys are the oldest of all, so that what is read depends on
    the events alone. Windows that can forget more than what expired do so at every clean-up.
    """

    __slots__ = ("evicted", "line", "most_keys", "touched")

    def __init__(
        self, kind: type[EventWindow], over: float, arguments: tuple[Any, ...], most_keys: int | None
    ) -> None:
        super().__init__(kind, over, arguments)
        self.most_keys = most_keys
        self.line: list[tuple[float, str, Any]] = []
        self.touched: dict[Any, None] = {}
        self.evicted = 0

    def put(self, key: Any, at: float, value: Any) -> Any:
        """Add a value; returns the key that had to go for it, None when none had."""
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

        The line holds a key as of some event of its; one that has a newer event goes back behind it.
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
        """As of every table."""
        for key in self.touched:
            window = self.get(key)
            if window is not None and not window.retain(watermark - self.over):
                del self[key]
        self.touched.clear()
        super().retain(watermark)
        # keys that are gone are in both still
        if len(self.line) > 2 * len(self):
            self.line = [(self[key].ats[-1], repr(key), key) for key in self]
            heapq.heapify(self.line)
        if len(self.due) > 2 * len(self):
            kept: dict[Any, float] = {}
            for since, key in reversed(self.due):
                if key in self:
                    kept.setdefault(key, since)
            self.due = deque((since, key) for key, since in reversed(kept.items()))
