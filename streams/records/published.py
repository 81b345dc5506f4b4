"""What other code has published of one partition, read along with the log."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import msgspec

from driftline.streams.records.messages import Prediction
from driftline.streams.records.ports import Broker, Place, StoredRecord
from driftline.streams.records.positions import SourcePosition, position_of

PIECE = 4_000
"""Offsets of an output that are read at once."""


class CursorState(NamedTuple):
    """How far an output has been read, and what is read ahead of what was asked for."""

    at: int
    ahead: list[tuple[SourcePosition, StoredRecord]]


class _Cursor:
    """Reads an output partition in the order of source positions, up to offset `end`."""

    def __init__(self, broker: Broker, place: Place) -> None:
        self._broker = broker
        self._place = place
        self._at = 0
        self._ahead: deque[tuple[SourcePosition, StoredRecord]] = deque()
        self.end = 0

    def state(self) -> CursorState:
        return CursorState(self._at, list(self._ahead))

    def restore(self, state: CursorState) -> None:
        self._at = state.at
        self._ahead = deque(state.ahead)

    async def through(self, position: SourcePosition) -> list[tuple[SourcePosition, StoredRecord]]:
        """The records not given yet, up to a source position."""
        ahead = self._ahead
        while self._at < self.end and (not ahead or ahead[-1][0] <= position):
            until = min(self._at + PIECE, self.end)
            async for records in self._broker.read(self._place, self._at, until):
                ahead.extend((position_of(record.headers), record) for record in records)
            self._at = until
        passed = []
        while ahead and ahead[0][0] <= position:
            passed.append(ahead.popleft())
        return passed


class PublishedOutputs:
    """Predictions and outcomes of one partition that are on the broker or in the archive."""

    def __init__(self, broker: Broker, predictions: Place, outcomes: Place) -> None:
        self._predictions = _Cursor(broker, predictions)
        self._outcomes = _Cursor(broker, outcomes)
        self._prediction = msgspec.json.Decoder(Prediction)

    def state(self) -> tuple[CursorState, CursorState]:
        """How far both have been given; nothing of what `reach` said."""
        return self._predictions.state(), self._outcomes.state()

    def restore(self, state: tuple[CursorState, CursorState]) -> None:
        """Go on from what `state` gave."""
        self._predictions.restore(state[0])
        self._outcomes.restore(state[1])

    def reach(self, predictions: int, outcomes: int) -> None:
        """From now on, both can be read up to these offsets."""
        self._predictions.end = predictions
        self._outcomes.end = outcomes

    async def predictions(self, through: SourcePosition) -> dict[int, Prediction]:
        """Published predictions not given yet, by the offset of their request."""
        return {
            position[0]: self._prediction.decode(record.value or b"")
            for position, record in await self._predictions.through(through)
        }

    async def outcomes(self, through: SourcePosition) -> list[bytes]:
        """Published outcomes not given yet."""
        return [record.value or b"" for _, record in await self._outcomes.through(through)]
