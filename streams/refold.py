"""Folds a partition's log again as the code of this process did.

Where it took over from other code, what that had published stood: its predictions kept their values and
outcomes their revisions. So the fold is given the same again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple, TypeVar

import msgspec

from streams.archive import ArchivedRecord
from streams.broker import StoredRecord
from streams.epochs import Code, CodeEpoch, Stretches
from streams.errors import StreamsError
from streams.history import Past
from streams.messages import Outcome, Prediction
from streams.outputs import Outputs
from streams.positions import NOTHING, Position, position_of
from streams.processor import PartitionProcessor
from streams.published import PRUNE_AT
from streams.topics import Topics
from streams.usecase import UseCase

_Message = TypeVar("_Message", Prediction, Outcome)


class _Cursor:
    """The records of one output partition in the order of source positions."""

    def __init__(self, past: Past, topic: str, partition: int) -> None:
        begin, end = past.begin(topic, partition), past.end(topic, partition)
        if begin > 0:
            raise StreamsError(
                f"{topic}-{partition}: offsets [0, {begin}) are missing. This code took over from other code "
                "and went on from what that had published: name an archive that has them"
            )
        self._records = chain.from_iterable(past.records(topic, partition, begin, end))
        self._ahead: tuple[Position, ArchivedRecord] | None = None

    def through(self, position: Position) -> Iterator[tuple[Position, ArchivedRecord]]:
        """The records not given yet, up to a source position."""
        while True:
            if self._ahead is None:
                record = next(self._records, None)
                if record is None:
                    return
                self._ahead = position_of(record.headers), record
            if self._ahead[0] > position:
                return
            yield self._ahead
            self._ahead = None


class _TakeOver(NamedTuple):
    """How far other code had published when this code took over from it."""

    predictions: Position
    outcomes: Position


class Refold:
    """The fold of one partition from its start, as this code folded it; `epochs` are the partition's.

    Raises StreamsError when published records that this code went on from have been deleted.
    """

    def __init__(
        self,
        case: UseCase,
        past: Past,
        topics: Topics,
        partition: int,
        code: Code,
        epochs: Sequence[CodeEpoch],
    ) -> None:
        self._processor = PartitionProcessor(case, partition)
        self._take_overs = deque(
            _TakeOver(epoch.tails.get("predictions", NOTHING), epoch.tails.get("outcomes", NOTHING))
            for number, epoch in enumerate(epochs)
            if epoch.code == code and any(before.code != code for before in epochs[:number])
        )
        self._stretches = Stretches("predictions", epochs, code)
        self._prediction = msgspec.json.Decoder(Prediction)
        self._outcome = msgspec.json.Decoder(Outcome)
        self._revisions: dict[str, int] = {}
        self._inherited = NOTHING
        if self._take_overs:
            self._inherited = self._take_overs[-1].predictions
            self._predictions = _Cursor(past, topics.predictions, partition)
            self._outcomes = _Cursor(past, topics.outcomes, partition)

    def step(self, records: Sequence[StoredRecord]) -> Outputs:
        """As `PartitionProcessor.step`."""
        out = Outputs()
        while self._take_overs and records:
            through = self._take_overs[0].outcomes
            before = [record for record in records if record.offset <= through[0]]
            records = records[len(before) :]
            if before:
                own = self._fold(before)
                self._note(before[-1].offset, through, own)
                out.extend(own)
            if records:
                self._processor.scorer.reconcile(self._revisions)
                self._take_overs.popleft()
        if records:
            out.extend(self._fold(records))
        return out

    def _fold(self, records: Sequence[StoredRecord]) -> Outputs:
        """Fold records; what other code answered to their requests stands."""
        if self._inherited < (records[0].offset, 0):
            return self._processor.step(records)
        through = min(self._inherited, (records[-1].offset + 1, -1))
        published = {
            position[0]: _decoded(self._prediction, record.value)
            for position, record in self._predictions.through(through)
            if self._stretches.reason(position) is not None
        }
        return self._processor.step(records, published)

    def _note(self, offset: int, through: Position, own: Outputs) -> None:
        """Take note of the outcomes published up to an offset, and of the own ones beyond those."""
        for _, record in self._outcomes.through(min(through, (offset + 1, -1))):
            self._keep(record.value)
        for output in own.outcomes:
            if (output.offset, output.ordinal) > through:
                self._keep(output.value)
        if len(self._revisions) > 2 * PRUNE_AT:
            waiting = self._processor.scorer.waiting()
            self._revisions = {name: known for name, known in self._revisions.items() if name in waiting}

    def _keep(self, outcome: bytes | None) -> None:
        found = _decoded(self._outcome, outcome)
        self._revisions[found.prediction_id] = found.revision


def _decoded(decoder: msgspec.json.Decoder[_Message], value: bytes | None) -> _Message:
    try:
        return decoder.decode(value or b"")
    except msgspec.MsgspecError as error:
        raise StreamsError(
            f"a published record from before this code took over from other code cannot be read: {error}. "
            "What was published since went on from it, and cannot be recomputed"
        ) from error
