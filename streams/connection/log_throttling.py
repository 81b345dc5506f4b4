"""Keeps the log readable while a broker is away: libraries then repeat the same line many times a second."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

REPORT_EVERY = 30.0
"""Seconds between two lines of a library that differ only in their numbers."""
LIBRARIES = ("aiokafka", "faust", "kafka", "mode")
_NUMBERS = re.compile(r"\d+")
_LENGTH = 120
"""Characters by which lines are compared; beyond them they differ only in addresses of objects."""


class Repeats(logging.Filter):
    """Lets a library's line through once in a while, with the number of repeats in between."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._reported: dict[tuple[str, str], float] = {}
        self._held: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged."""
        if record.name.partition(".")[0] not in LIBRARIES:
            return True
        text = record.getMessage()
        kind = (record.name, _NUMBERS.sub("#", text)[:_LENGTH])
        now = self._now()
        if now - self._reported.get(kind, float("-inf")) < REPORT_EVERY:
            self._held[kind] = self._held.get(kind, 0) + 1
            return False
        self._reported[kind] = now
        held = self._held.pop(kind, 0)
        if held:
            record.msg, record.args = f"{text} (and {held:,} times more since it was last said)", ()
        return True


def hold_back_repeats(root: logging.Logger) -> None:
    """Filter what the root logger's handlers write."""
    repeats = Repeats()
    for handler in root.handlers:
        handler.addFilter(repeats)
