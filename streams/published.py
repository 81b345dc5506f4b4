"""What other code has published of one partition, read along with the log.

New code that takes over folds the log from its start, but what is published stays: predictions that
still wait for their label keep their published values, and outcomes their revisions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from streams.broker import Broker, Place, StoredRecord
from streams.messages import Outcome, Prediction
from streams.positions import Position, position_of

PRUNE_AT = 100_000
"""Revisions in memory beyond which those of forgotten predictions are dropped."""


class _Cursor:
    """Reads an output partition in the order of source positions."""

    def __init__(self, broker: Broker, place: Place) -> None:
        self._broker = broker
        self._place = place
        self._at: int | None = None
        self._ahead: deque[tuple[Position, StoredRecord]] = deque()

    async def through(self, position: Position) -> list[tuple[Position, StoredRecord]]:
        """The records not given yet, up to a source position."""
        if not self._ahead or self._ahead[-1][0] <= position:
            await self._read(position)
        found = []
        while self._ahead and self._ahead[0][0] <= position:
            found.append(self._ahead.popleft())
        return found

    async def _read(self, position: Position) -> None:
        extent = (await self._broker.extents([self._place]))[self._place]
        begin = extent.begin if self._at is None else self._at
        self._at = extent.end
        async for records in self._broker.read(self._place, begin, extent.end):
            self._ahead.extend((position_of(record.headers), record) for record in records)
            if self._ahead and self._ahead[-1][0] > position:
                self._at = records[-1].offset + 1
                break


class PublishedOutputs:
    """Predictions and outcomes of one partition that are on the broker, up to their tails."""

    def __init__(self, broker: Broker, predictions: Place, outcomes: Place) -> None:
        self._predictions = _Cursor(broker, predictions)
        self._outcomes = _Cursor(broker, outcomes)
        self._prediction = msgspec.json.Decoder(Prediction)
        self._outcome = msgspec.json.Decoder(Outcome)
        self.revisions: dict[str, int] = {}
        """The newest published revision of each prediction's outcome."""

    async def predictions(self, through: Position) -> Mapping[int, Prediction]:
        """Published predictions not given yet, by the offset of their request."""
        return {
            position[0]: self._prediction.decode(record.value or b"")
            for position, record in await self._predictions.through(through)
        }

    async def outcomes(self, through: Position, waiting: Mapping[str, object]) -> None:
        """Take note of published outcomes; `waiting` are the predictions that may still get one."""
        for _, record in await self._outcomes.through(through):
            self.note(record.value or b"")
        if len(self.revisions) > PRUNE_AT + len(waiting):
            self.revisions = {name: known for name, known in self.revisions.items() if name in waiting}

    def note(self, outcome: bytes) -> None:
        """Take note of one published outcome."""
        found = self._outcome.decode(outcome)
        self.revisions[found.prediction_id] = found.revision
