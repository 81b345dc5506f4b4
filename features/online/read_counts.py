"""How often online features are read, and with which result."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

FAILED = "failed"
"""The result of a read when the store cannot be read; otherwise rows are present, missing or expired."""


class ReadCounts:
    """What a client has read since it was made, by view. It may be used by several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._rows: Counter[tuple[str, str]] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def exchange(self, view: str) -> Iterator[None]:
        """Count the time of one exchange with the store, and its failure."""
        begun = time.perf_counter()
        try:
            yield
        except BaseException:  # who does not wait any longer has cancelled it
            self.add(view, {FAILED: 1})
            raise
        finally:
            with self._lock:
                self._seconds[view] += time.perf_counter() - begun

    def add(self, view: str, results: dict[str, int]) -> None:
        """Count rows by result."""
        with self._lock:
            for result, count in results.items():
                self._rows[view, result] += count

    def rows(self) -> dict[tuple[str, str], int]:
        """Rows by view and result: present, missing, expired; exchanges that failed count as one."""
        with self._lock:
            return dict(self._rows)

    def seconds(self) -> dict[str, float]:
        """Seconds spent on exchanges with the store, by view."""
        with self._lock:
            return dict(self._seconds)
