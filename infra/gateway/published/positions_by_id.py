"""Where the prediction of each request is, for as long as the fold remembers the request's id."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

GENERATIONS = 24
"""Parts of the horizon, each of which is forgotten as a whole: up to a part longer than the horizon."""
_PARTITION_BITS = 20


class AnswerPlace(NamedTuple):
    """Where a prediction is in its topic."""

    partition: int
    offset: int


class PositionsById:
    """Positions by event id, of what was appended within the horizon (seconds).

    A busy case has millions of them, so each costs a dictionary's entry, its id and one number: 140 bytes.
    """

    def __init__(self, horizon: float) -> None:
        self._horizon = horizon * 1_000
        self._generations: deque[tuple[int, dict[str, int]]] = deque()
        """The newest last, each with the append time in ms at which it began."""

    def put(self, event_id: str, place: AnswerPlace, appended: int) -> None:
        """Note a prediction, and forget what is older than the horizon. `appended` is in ms."""
        if not self._generations or appended - self._generations[-1][0] > self._horizon / GENERATIONS:
            self._generations.append((appended, {}))
            while len(self._generations) > 1 and appended - self._generations[1][0] > self._horizon:
                self._generations.popleft()
        self._generations[-1][1][event_id] = place.offset << _PARTITION_BITS | place.partition

    def find(self, event_id: str) -> AnswerPlace | None:
        """Where the newest prediction with this id is; None if none is known."""
        for _, positions in reversed(self._generations):
            packed = positions.get(event_id)
            if packed is not None:
                return AnswerPlace(packed & (1 << _PARTITION_BITS) - 1, packed >> _PARTITION_BITS)
        return None
