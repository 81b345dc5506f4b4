"""Detects a served partition that gets no records although its log grows: its worker has lost the
connection."""

from __future__ import annotations

import asyncio

from driftline.streams.owner.owned_partition import OwnedPartition

IDLE_STUCK_AFTER = 15.0
STUCK_AFTER = 120.0
"""Seconds with waiting records and no progress after which the worker's connection counts as lost: for a
partition that got no records, and for one that has some, since folding those may take time."""


class Standstill:
    """How long records of one partition have waited, measured by looks at its log."""

    def __init__(self, partition: str) -> None:
        self._now = asyncio.get_running_loop().time
        self._partition = partition
        self._stood_at = -1
        self._waits_since: float | None = None
        self.reason = ""
        """Why the partition counts as stalled; empty if it does not."""

    def over(self) -> None:
        """The partition makes progress, or that is unknown."""
        self._waits_since = None

    async def look(self, owned: OwnedPartition, *, idle: bool) -> None:
        """Look whether the log has more records although nothing has been answered since the last look.
        `idle`: the partition was given no records. Called for a partition that is served.
        """
        stood_at, self._stood_at = self._stood_at, owned.acknowledged
        if stood_at != owned.acknowledged:
            self.over()
            return
        now = self._now()
        if not await owned.goes_on() or owned.acknowledged != stood_at:
            self.over()
            return
        if self._waits_since is None:
            self._waits_since = now
        seconds = now - self._waits_since
        if seconds > (IDLE_STUCK_AFTER if idle else STUCK_AFTER):
            why = "they are not handed over" if idle else "their outputs are not accepted"
            self.reason = (
                f"partition {self._partition}: records from offset {stood_at} on have been in the log for "
                f"{seconds:.0f} s and more, and {why}"
            )
