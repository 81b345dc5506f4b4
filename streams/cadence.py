"""When to take a checkpoint: by what the last ones cost."""

from __future__ import annotations

SHARE = 0.05
"""Largest share of the worker's time that checkpoints may take."""
LEAST = 5.0
"""Seconds between checkpoints while there is work; more where the share asks for it."""


class Cadence:
    """Says when the next checkpoint is due; `now` and costs are seconds of one monotonic clock.

    `taken_at` is when the partition was taken over: a first checkpoint comes `LEAST` seconds later.
    """

    def __init__(self, taken_at: float, share: float = SHARE) -> None:
        self._share = share
        self._due = taken_at + LEAST

    def due(self, now: float) -> bool:
        """Whether a checkpoint should be taken, if anything has been folded since the last."""
        return now >= self._due

    def taken(self, now: float, cost: float) -> None:
        """A checkpoint held the worker up for `cost` seconds."""
        self._due = now + max(LEAST, cost / self._share)
