"""Event time in the fold: seconds since the epoch, exact to the microsecond."""

from __future__ import annotations

from typing import Protocol

MICROSECOND = 1e-6
"""One microsecond, in seconds."""
MICROSECONDS = 1_000_000
"""Microseconds in a second."""
NEVER = -1e18
"""A time in seconds that is before every event time. It is finite, so that differences are numbers."""


class Time(Protocol):
    """The current event time of a partition."""

    @property
    def likely(self) -> float:
        """The likely current time in seconds: later events may still contradict it."""
        ...
