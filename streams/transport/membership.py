"""Detects a worker that is not a member of its group. After an outage Faust's consumer may never join again,
without an error. It may have partitions all the same, which it takes over again whenever their new owner has
fenced it; and when the others end, it is given none of theirs. A worker may have no partitions because others
have them all; then it is a member of the group.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

log = logging.getLogger("driftline.worker")

LOST_AFTER = 30.0
"""Seconds without membership, while the broker answers, after which the worker will not join by itself."""


class Membership:
    """A worker's membership in its group. `is_member` asks the broker; it may block."""

    def __init__(self, is_member: Callable[[], bool], now: Callable[[], float] = time.monotonic) -> None:
        self._is_member = is_member
        self._now = now
        self._missed_since: float | None = None
        self.lost = ""
        """The problem; empty if there is none."""

    async def look(self) -> None:
        """Ask the broker."""
        from kafka.errors import KafkaError

        try:
            is_member = await asyncio.to_thread(self._is_member)
        except (KafkaError, OSError, TimeoutError) as error:
            # a worker that cannot ask cannot join either
            log.info("the group could not be asked for: %s: %s", type(error).__name__, error)
            is_member = True
        if is_member:
            self._missed_since = None
            return
        now = self._now()
        if self._missed_since is None:
            self._missed_since = now
        if now - self._missed_since >= LOST_AFTER:
            seconds = now - self._missed_since
            self.lost = f"its consumer has not been in its group for {seconds:.0f} s, though Kafka answers"
