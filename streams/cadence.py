"""When to take a checkpoint: by how much work it would save, and by what the last one cost."""

from __future__ import annotations

SHARE = 0.05
"""Largest share of the worker's time that checkpoints may take."""
LEAST = 5.0
"""Seconds of folding that make a checkpoint worth its fork, for which answers wait."""
MOST = 60.0
"""Seconds after which even less folding makes it worth that."""


class Cadence:
    """Says when the next checkpoint is due; times and costs are seconds of one monotonic clock.

    `now` is when the partition was taken over.
    """

    def __init__(self, now: float, share: float = SHARE) -> None:
        self._share = share
        self._taken = now
        self._affordable = now
        self._folding = 0.0

    def folded(self, seconds: float) -> None:
        """The partition was folded on for so long."""
        self._folding += seconds

    def due(self, now: float) -> bool:
        """Whether a checkpoint should be taken, if anything has been folded since the last."""
        return now >= self._affordable and (self._folding >= LEAST or now - self._taken >= MOST)

    def taken(self, now: float, cost: float) -> None:
        """A checkpoint was written, for `cost` seconds of CPU."""
        self._taken = now
        self._affordable = now + cost / self._share
        self._folding = 0.0
