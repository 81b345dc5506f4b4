"""When a process that folds collects garbage: seldom, since a collection walks through all that partitions
hold, and a fold makes next to none that is not freed at once."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

NEW_OBJECTS = 50_000
"""Objects made and not freed after which the newest are walked through. Python's own 700 are fewer than what
a step of some hundred records holds until its outputs are out: it would be walked through more than once."""
TIDY_EVERY = 1.0
"""Seconds between garbage collections that set apart what survives: those to come need not walk through it,
and what a minute makes would take a tenth of a second, for which answers wait."""
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


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Within, a collection comes after `NEW_OBJECTS`: by Python's own rhythm, they are up to a tenth of
    the CPU that a fold takes."""
    thresholds = gc.get_threshold()
    gc.set_threshold(NEW_OBJECTS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


class Garbage:
    """The rhythm of one process's collections. What there is at its beginning, which imports have made, is
    set apart at once: to walk through it takes a fifth of a second."""

    def __init__(self) -> None:
        gc.freeze()
        self._tidied = self._collected = time.monotonic()

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
