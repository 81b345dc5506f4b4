"""The position of each request's prediction, for as long as the fold remembers the request's id."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

GENERATIONS = 24
"""Parts of the horizon. Entries are dropped a part at a time, so they are kept up to one part longer."""
_PARTITION_BITS = 20


class AnswerPlace(NamedTuple):
    """The position of a prediction in its topic."""

    partition: int
    offset: int


class PositionsById:
    """Positions by event id, of predictions appended within the horizon (seconds).

    A busy case has millions of them. Each takes a dictionary entry, its id and one number: 140 bytes.
    """

    def __init__(self, horizon: float) -> None:
        self._horizon = horizon * 1_000
        self._generations: deque[tuple[int, dict[str, int]]] = deque()
        """The parts, the newest last, each with the append time in ms at its start."""

    def put(self, event_id: str, place: AnswerPlace, appended: int) -> None:
        """Add a prediction, and drop entries older than the horizon. `appended` is its append time in ms."""
        if not self._generations or appended - self._generations[-1][0] > self._horizon / GENERATIONS:
            self._generations.append((appended, {}))
            while len(self._generations) > 1 and appended - self._generations[1][0] > self._horizon:
                self._generations.popleft()
        self._generations[-1][1][event_id] = place.offset << _PARTITION_BITS | place.partition

    def find(self, event_id: str) -> AnswerPlace | None:
        """The position of the newest prediction with this id; None if unknown."""
        for _, positions in reversed(self._generations):
            packed = positions.get(event_id)
            if packed is not None:
                return AnswerPlace(packed & (1 << _PARTITION_BITS) - 1, packed >> _PARTITION_BITS)
        return None
