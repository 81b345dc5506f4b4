"""When a checkpoint is taken: depending on the work that it would save, and on the cost of the last ones."""

from __future__ import annotations

CHECKPOINT_SHARE = 0.05
"""Largest share of a worker's time that its checkpoints may take."""
LEAST_FOLDED = 5.0
"""Seconds of folding that make a checkpoint worth its fork, which delays answers."""
MOST_FOLDED = 60.0
"""Seconds after which a checkpoint is worth it with less folding, too; after so many seconds of folding it is
due at any cost."""
SPREAD = 0.25
"""Share of `MOST_FOLDED` over which a worker spreads the checkpoints of its partitions that are due after it:
each delays answers a little, and one after the other without a pause would delay them by the sum."""


class CheckpointBudget:
    """What the checkpoints of one worker may cost: a share of its time, divided equally among its
    `partitions`. One is taken at a time, unless a partition has had none for long. `busy` is how many are
    being taken."""

    def __init__(self, share: float = CHECKPOINT_SHARE) -> None:
        self._share = share
        self.partitions = 1
        self.busy = 0
        self._rested = float("-inf")

    def begin(self) -> None:
        """One is being taken."""
        self.busy += 1

    def taken(self, now: float) -> None:
        """One was written, or could not be."""
        self.busy -= 1
        self._rested = now + SPREAD * MOST_FOLDED / self.partitions

    def is_rested(self, now: float) -> bool:
        """Whether the pause after the last one is over."""
        return now >= self._rested

    def pause_after(self, cost: float) -> float:
        """Seconds until a partition can afford the next one."""
        return cost * self.partitions / self._share


class Cadence:
    """Says when the next checkpoint of one partition is due; times and costs are seconds of one monotonic
    clock, and `now` is when the partition was taken over."""

    def __init__(self, budget: CheckpointBudget, now: float) -> None:
        self._budget = budget
        self._taken = now
        self._affordable = now
        self._folding = 0.0

    def folded(self, seconds: float) -> None:
        """The partition was folded for so many seconds of CPU."""
        self._folding += seconds

    def due(self, now: float) -> bool:
        """Whether a checkpoint should be taken, if anything has been folded since the last."""
        if self._folding >= MOST_FOLDED:
            return True
        if now < self._affordable:
            return False
        waited = now - self._taken
        if waited >= 2.0 * MOST_FOLDED:
            return True
        if self._budget.busy:
            return False
        return self._folding >= LEAST_FOLDED or (waited >= MOST_FOLDED and self._budget.is_rested(now))

    def begin(self) -> None:
        """One is being taken."""
        self._budget.begin()
        self._folding = 0.0

    def taken(self, now: float, cost: float) -> None:
        """It was written, or could not be, for `cost` seconds of CPU."""
        self._budget.taken(now)
        self._taken = now
        self._affordable = now + self._budget.pause_after(cost)
