"""How new code continues the last stage of a chain whose outputs so far are from other code. Pure, like it.

The new code folds the log anew, into topics of its own. So requests come to its last stage at other places
and in another order. What is published stays all the same: it is known by the event of its request, and what
is still to be published follows from event times.

- A request that the other code has answered keeps that answer.
- Another one before the time at which that code was settled was refused there. If it came while that code
  still served, it stays refused, and the first stage takes it for a new one when it is sent again.
  Any other one is answered by the new code.
- When time has passed all that the other code has published, the outcomes that it did not publish are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple

import msgspec

from driftline.features.state.event_time import NEVER
from driftline.streams.between.stage_record import StageRecord, decode_record
from driftline.streams.declare.events import SYSTEM_EVENTS, Event, tag_of
from driftline.streams.declare.retirement import EventDecoder
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import StreamsError
from driftline.streams.records.messages import Outcome, Prediction
from driftline.streams.records.outputs import Output, Outputs
from driftline.streams.records.ports import StoredRecord
from driftline.streams.stages.intake_stage import IntakeStage
from driftline.streams.stages.last_stage import LastStage
from driftline.streams.stages.stage_fold import StageFold

UNANSWERED_BYTES = 256 * 1024
"""Bytes of the ids of refused requests that a code epoch names."""


class Legacy(NamedTuple):
    """How far the other code has come: see `CodeEpoch`, whose `from_offset` is `begins` here. Times are
    seconds since the epoch; `NEVER` where none is known, or nothing is published. `unanswered` are the newest
    requests that it has refused, by their ids."""

    begins: int
    settled: float
    reached: float
    unanswered: tuple[str, ...] = ()


def beside(settled: float) -> Legacy:
    """That of code which still serves, and was settled up to this time when it was looked at."""
    return Legacy(2**62, settled, inf)


class Succession:
    """The steps of new code over the last stage's partition, until all of other code's outputs are passed.

    Before a step, all that is published of requests before the legacy's `settled` must have been noted; after
    the other code has ended, all that is published. `asks` is the type of the requests that the other code
    answered, "" if that is not recorded.
    """

    def __init__(self, case: UseCase, fold: StageFold, asks: str) -> None:
        if not isinstance(fold.work, LastStage):
            raise StreamsError("only the last stage has outputs to inherit")
        self._fold, self._stage = fold, fold.work
        self._stage.predecessor = self
        self._stage.label_join.inherit()
        self._ask = case.task.ask
        self._asked_alike = asks in ("", tag_of(case.task.ask))
        self._refused: dict[str, None] = {}
        self._decode = EventDecoder[Event]((*case.events, *SYSTEM_EVENTS)).decode
        self._heard = dict.fromkeys(fold.work.writers, NEVER)
        self._prediction = msgspec.json.Decoder(Prediction)
        self._outcome = msgspec.json.Decoder(Outcome)
        self._published: dict[str, bytes] = {}
        self._by_time: list[tuple[float, str]] = []
        self._revisions: dict[str, int] = {}
        self._own: set[str] = set()
        self._standing: set[int] = set()
        self._legacy = beside(NEVER)
        self.withheld: list[Output] = []
        """Dead letters that are not published, as the other code has judged these records."""
        self.reached = NEVER
        """The newest event time of all that is published."""

    @property
    def is_over(self) -> bool:
        """Whether the fold goes on by itself."""
        return self._stage.predecessor is None

    def tell(self, predictions: Iterable[bytes], outcomes: Iterable[bytes]) -> None:
        """More that the other code has published."""
        for value in predictions:
            prediction = self._prediction.decode(value)
            at = prediction.at.timestamp()
            self._published[prediction.event_id] = value
            heappush(self._by_time, (at, prediction.event_id))
            self.reached = max(self.reached, at)
        for value in outcomes:
            outcome = self._outcome.decode(value)
            self._revisions[outcome.prediction_id] = outcome.revision
            self.reached = max(self.reached, outcome.at.timestamp())

    def decided(self, records: Sequence[StoredRecord], settled: float) -> int:
        """How many of the next records may be folded while the other code, which was settled up to this time,
        still serves: those of which it is known what that code has answered. All records of the topic have to
        come here in turn, each until it may be folded.
        """
        heard = self._heard
        for number, record in enumerate(records):
            stage_record = decode_record(record.value)
            before = heard[stage_record.writer]
            heard[stage_record.writer] = max(before, stage_record.watermark)
            if min(heard.values()) > settled or (stage_record.event and self._is_open(stage_record, settled)):
                heard[stage_record.writer] = before
                return number
        return len(records)

    def _is_open(self, stage_record: StageRecord, settled: float) -> bool:
        """Whether a record is a request that the other code may still answer."""
        event = self._decode(stage_record.event)
        is_request = event.__class__ is self._ask and stage_record.refused is None and not stage_record.silent
        return is_request and event.id not in self._published and event.at.timestamp() >= settled

    @property
    def unanswered(self) -> tuple[str, ...]:
        """The ids of the newest requests that the other code has refused."""
        newest, room = [], UNANSWERED_BYTES
        for event_id in reversed(self._refused):
            room -= len(event_id.encode())
            if room < 0:
                break
            newest.append(event_id)
        return tuple(reversed(newest))

    def published(self, event_id: str, offset: int) -> Prediction | None:
        """See `Predecessor`."""
        value = self._published.pop(event_id, None)
        if value is None:
            return None
        self._refused.pop(event_id, None)
        self._standing.add(offset)
        return self._prediction.decode(value)

    def is_passed(self, at: float, offset: int) -> bool:
        """See `Predecessor`."""
        return at < self._legacy.settled and offset < self._legacy.begins

    def refuses(self, event_id: str) -> bool:
        """See `Predecessor`."""
        if self._asked_alike:
            self._refused[event_id] = None
        return self._asked_alike

    def unseen_before(self, watermark: float) -> Iterator[Prediction]:
        """See `Predecessor`."""
        while self._by_time and self._by_time[0][0] < watermark:
            event_id = heappop(self._by_time)[1]
            value = self._published.pop(event_id, None)
            if value is not None:
                self._refused.pop(event_id, None)  # it was sent again, and answered then
                yield self._prediction.decode(value)

    def step(self, records: Sequence[StoredRecord], legacy: Legacy) -> Outputs:
        """As `StageFold.step`; only what this code has to add is put out."""
        out = Outputs()
        # where time may pass all that was published, the record that does it is to be known
        may_end = any(decode_record(record.value).watermark > legacy.reached for record in records)
        pieces = [records[n : n + 1] for n in range(len(records))] if may_end else [records]
        for piece in pieces:
            out.extend(self._fold.step(piece) if self.is_over else self._inherit(piece, legacy))
        return out

    def _inherit(self, records: Sequence[StoredRecord], legacy: Legacy) -> Outputs:
        self._legacy = legacy
        out = self._fold.step(records)
        standing, self._standing = self._standing, set()
        out.predictions = [one for one in out.predictions if one.offset not in standing]
        self._own.update(self._prediction.decode(one.value).id for one in out.predictions)
        self._settle()
        self.withheld += [one for one in out.dead_letters if one.offset < legacy.begins]
        # what a pool that never served has changed is not published
        for kind in ("drift", "models", "dead_letters"):
            setattr(out, kind, [one for one in getattr(out, kind) if one.offset >= legacy.begins])
        out.outcomes = []
        if self._fold.watermark > legacy.reached:
            self._complete(records[-1].offset + self._fold.first_position, out)
        return out

    def _settle(self) -> None:
        """Forget predictions that are over here and have their outcome."""
        join = self._stage.label_join
        corrected = [one.prediction_id for one in join.forgotten if one.prediction_id in self._revisions]
        join.settle(self._revisions, self._own)
        for name in corrected:
            if name not in self._own:
                del self._revisions[name]

    def _complete(self, position: int, out: Outputs) -> None:
        """All that is published has been passed: add the outcomes that the other code did not publish."""
        lacking = self._stage.label_join.reconcile(self._revisions, self._own)
        outcome = self._stage.learner.outcome
        out.outcomes = [outcome(one, position, number) for number, one in enumerate(lacking)]
        self._stage.predecessor = None


class IntakeSuccession:
    """The steps of new code over a partition of the log: at offset `at`, where the other code has ended, it
    forgets the requests that are `unanswered`, so that they are new when they are sent again."""

    def __init__(self, fold: StageFold, at: int, unanswered: Iterable[str]) -> None:
        if not isinstance(fold.work, IntakeStage):
            raise StreamsError("only the first stage knows the requests that came before")
        self._fold, self._intake = fold, fold.work.intake
        self._at, self._unanswered = at, tuple(unanswered)
        self.is_over = False
        """Whether the fold goes on by itself."""
        if fold.next_offset >= at:
            self._end()

    def step(self, records: Sequence[StoredRecord]) -> Outputs:
        """As `StageFold.step`."""
        before = [record for record in records if record.offset < self._at]
        after = records[len(before) :]
        out = self._fold.step(before) if before else Outputs()
        if self._fold.next_offset >= self._at or after:
            self._end()
        if after:
            out.extend(self._fold.step(after))
        return out

    def _end(self) -> None:
        if not self.is_over and self._fold.next_offset <= self._at:
            self._intake.forget(self._unanswered)
        self.is_over = True
