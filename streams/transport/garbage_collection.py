"""When a worker collects garbage: seldom, since a collection walks through all that partitions hold."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

TIDY_EVERY = 60.0
"""Seconds between garbage collections that set apart what survives: those to come need not walk through all
windows and waiting predictions."""
COLLECT_EVERY = 3600.0
"""Seconds between collections of everything, for which answers wait: a tenth of a second and more."""


@contextmanager
def none_collected() -> Iterator[None]:
    """Within, nothing is collected: imports make much, and next to nothing of it becomes garbage. Collections
    would be a sixth of the seconds of CPU that a worker's start takes."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Garbage:
    """The rhythm of one process's collections."""

    def __init__(self) -> None:
        self._tidied = float("-inf")
        self._collected = time.monotonic()

    def look(self) -> None:
        """Collect what is due."""
        now = time.monotonic()
        if now - self._tidied <= TIDY_EVERY:
            return
        if now - self._collected > COLLECT_EVERY:
            gc.unfreeze()
            self._collected = now
        gc.collect()
        gc.freeze()
        self._tidied = now
