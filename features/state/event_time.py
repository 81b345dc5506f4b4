"""Event time as the fold counts it: seconds since the epoch, to the microsecond."""

from __future__ import annotations

from typing import Protocol

MICROSECOND = 1e-6
"""In seconds."""
MICROSECONDS = 1_000_000
"""A second's."""
NEVER = -1e18
"""Before all event times, in seconds; finite, so that differences stay numbers."""


class Time(Protocol):
    """How far event time has come."""

    @property
    def likely(self) -> float:
        """Where it is likely to be, in seconds."""
        ...
