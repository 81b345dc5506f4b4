"""When a partition of a live log was silent for longer than its workers let it be: an outage.

Whoever could not reach the broker meanwhile sends afterwards what happened then. By the append times of the
log, which are the same for every reader, time stands still until they have had the time to.
"""

from __future__ import annotations

from math import inf

LONGEST = 15.0
"""Seconds that a partition is silent for where nobody is cut off: workers tell idle ones the time, every few
seconds while requests wait there."""
MOST_TO_CATCH_UP = 60.0
"""Seconds that producers have, at most, to send what they held: clients wait for up to half of that before
they try again. After a shorter outage they have as long as it lasted."""


class Silence:
    """The silences between the records of one partition; all times are append times, in seconds."""

    __slots__ = ("_began", "_ends", "_heard")

    def __init__(self) -> None:
        self._heard = inf
        self._began = inf
        self._ends = -inf

    @property
    def holds_at(self) -> float:
        """The time that may not be passed yet, as others may still send what is of then; else infinite."""
        return self._began

    def hear(self, appended: float) -> None:
        """A record was appended."""
        lasted = appended - self._heard
        if lasted > LONGEST:
            self._began = min(self._began, self._heard)
            self._ends = max(self._ends, appended + min(lasted, MOST_TO_CATCH_UP))
        elif appended >= self._ends:
            self._began = inf
        self._heard = appended if self._heard == inf else max(self._heard, appended)
