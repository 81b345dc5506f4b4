"""Folds a partition's log again as the code of this process did.

If it took over from other code, that code's published predictions kept their values, and outcomes their
revisions. So the fold gets the same again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from driftline.streams.archive.epochs import Code, CodeEpoch, Stretches, stretches_asked
from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.archive.topic_history import Past
from driftline.streams.declare.events import tag_of
from driftline.streams.declare.topics import Topics
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import StreamsError
from driftline.streams.fold.inheritance import Bequest, Inheritance
from driftline.streams.fold.learner_input import Answered
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.messages import Prediction
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.ports import StoredRecord
from driftline.streams.records.positions import NOTHING, SourcePosition, position_of


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
        self._ahead: tuple[SourcePosition, ArchivedRecord] | None = None

    def through(self, position: SourcePosition) -> Iterator[tuple[SourcePosition, ArchivedRecord]]:
        """The records not returned yet, up to a source position."""
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
    """What other code had published when this code took over from it, and the last log offset that this
    code itself had answered before that; -1 when it had not served yet."""

    bequest: Bequest
    own_until: int


def _take_overs(code: Code, epochs: Sequence[CodeEpoch], asks: str) -> Iterator[_TakeOver]:
    own_until = NOTHING[0]
    before: CodeEpoch | None = None
    for number, epoch in enumerate(epochs):
        if before is not None and before.code != epoch.code:
            if before.code == code:
                own_until = epoch.from_offset - 1
            elif epoch.code == code and epoch.from_offset > 0:
                asked = stretches_asked(epochs[:number], asks)
                yield _TakeOver(Bequest.up_to(epoch.tails, asked), own_until)
        before = epoch


class Refold:
    """The fold of one partition from its start, as this code folded it; `epochs` are the partition's.

    Raises StreamsError if published records that this code continued from have been deleted.
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
        self._take_overs = deque(_take_overs(code, epochs, tag_of(case.task.ask)))
        self._stretches = Stretches("predictions", epochs, code)
        self._prediction = msgspec.json.Decoder(Prediction)
        if self._take_overs:
            self._inheritance = Inheritance(self._processor)
            self._predictions = _Cursor(past, topics.predictions, partition)
            self._outcomes = _Cursor(past, topics.outcomes, partition)

    def step(self, records: Sequence[StoredRecord]) -> Outputs:
        """As `PartitionProcessor.step`."""
        out = Outputs()
        while self._take_overs and records:
            bequest, own_until = self._take_overs[0]
            until = own_until if records[0].offset <= own_until else bequest.furthest
            some = [record for record in records if record.offset <= until]
            records = records[len(some) :]
            if some:
                out.extend(self._fold(some, bequest, own=until == own_until))
            if until == bequest.furthest and (records or some[-1].offset == until):
                self._take_overs.popleft()
                if self._take_overs:
                    self._processor.intake.label_join.inherit()
        if records:
            out.extend(self._processor.step(records))
        return out

    def _fold(self, records: Sequence[StoredRecord], bequest: Bequest, *, own: bool) -> Outputs:
        """Fold records; other code's answers to their requests stand."""
        beyond = (records[-1].offset + 1, -1)
        predictions, own_answers = {}, set()
        for position, record in self._predictions.through(min(bequest.predictions, beyond)):
            if self._stretches.reason(position) is None:
                own_answers.add(position[0])
            else:
                predictions[position[0]] = _decoded(self._prediction, record.value)
        outcomes = [
            record.value or b"" for _, record in self._outcomes.through(min(bequest.outcomes, beyond))
        ]
        if own:
            answered = Answered(predictions, bequest.answered, bequest.asked, own_answers)
            return self._inheritance.fold(records, answered, outcomes)
        return self._inheritance.step(records, bequest, predictions, outcomes)


def _decoded(decoder: msgspec.json.Decoder[Prediction], value: bytes | None) -> Prediction:
    try:
        return decoder.decode(value or b"")
    except msgspec.MsgspecError as error:
        raise StreamsError(
            f"a published record from before this code took over from other code cannot be read: {error}. "
            "What was published since went on from it, and cannot be recomputed"
        ) from error
