"""Outages of a live log: a partition was silent for longer than its workers allow. Producers that could not
reach the broker send their events afterwards. So event time stands still until they have had the time to,
judged by the log's append times, which are the same for every reader.
"""

from __future__ import annotations

from math import inf

LONGEST = 15.0
"""Seconds for which a partition may be silent without an outage: workers send a clock event to idle ones
every few seconds while requests wait there."""
MOST_TO_CATCH_UP = 60.0
"""Seconds that producers have, at most, to send their backlog: clients wait for up to half of that before
they retry. After a shorter outage they have as long as it lasted."""


class Silence:
    """The silences between the records of one partition; all times are append times, in seconds."""

    __slots__ = ("_began", "_ends", "_heard")

    def __init__(self) -> None:
        self._heard = inf
        self._began = inf
        self._ends = -inf

    @property
    def holds_at(self) -> float:
        """The time that may not be passed yet, as producers may still send events from then; else
        infinite."""
        return self._began

    def observe(self, appended: float) -> None:
        """A record was appended."""
        lasted = appended - self._heard
        if lasted > LONGEST:
            self._began = min(self._began, self._heard)
            self._ends = max(self._ends, appended + min(lasted, MOST_TO_CATCH_UP))
        elif appended >= self._ends:
            self._began = inf
        self._heard = appended if self._heard == inf else max(self._heard, appended)
