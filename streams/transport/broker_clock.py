"""What time it is by the broker, for a worker that tells it."""

from __future__ import annotations

import time


class BrokerClock:
    """This machine's clock, corrected by what the broker's said last; times in seconds since the epoch.

    The fold takes no clock event as later than its append time. One from a clock that is behind would say
    nothing, and a partition without events would wait for ever.
    """

    def __init__(self) -> None:
        self._behind = 0.0

    def now(self) -> float:
        """The time, right from the first correction on."""
        return time.time() + self._behind

    def correct(self, told: float, appended: float) -> None:
        """What was sent at `told`, by `now`, was appended at `appended`, by the broker."""
        self._behind += appended - told
