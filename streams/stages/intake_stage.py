"""The first stage: the intake of the fold, whose accepted events are sent to later stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from driftline.features.state.online_view import RowKey, StampedRow
from driftline.features.state.segment_store import IN_MEMORY, SegmentStore
from driftline.features.state.windows.paged_table import PagedTables
from driftline.object_size import StateSize
from driftline.streams.between.sender import Sender
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import Refused
from driftline.streams.fold.intake import Intake
from driftline.streams.fold.intake_state import IntakeParts
from driftline.streams.fold.learner_input import Turn
from driftline.streams.fold.reference_spread import KnownReferences
from driftline.streams.records.outputs import Outputs, Target
from driftline.streams.records.record import Record
from driftline.streams.stages.itinerary import Itinerary
from driftline.streams.stages.stage_features import AcceptedFeatures, features_of
from driftline.streams.stages.stage_work import StageWork


class IntakeStage(StageWork):
    """Validates, drops repeats, keeps event time, and reads features of the request itself, of references and
    of windows by the log's key. Events that it refuses are its dead letters; accepted ones are sent on.

    Ranges of features and refusals by a schema are judged by the last stage, which knows all of them.
    """

    def __init__(
        self,
        case: UseCase,
        itinerary: Itinerary,
        partition: int,
        sender: Sender,
        rows: bool,
        store: SegmentStore = IN_MEMORY,
    ) -> None:
        self._itinerary = itinerary
        self._is_first = partition == 0
        self._features = features_of(case, itinerary.plan.stages[0], rows, AcceptedFeatures, store)
        self.intake = Intake(replace(case, refusals=None), self._features, partition, joins=False)
        self._sender = sender
        self._was_warming = False

    @property
    def offset(self) -> int:
        """The offset of the record at hand, -1 before the first."""
        return self.intake.offset

    def fold(self, records: Sequence[Record], out: Outputs) -> None:
        """Take records of the log in."""
        self.intake.fold(records, out, after=self._send)
        self.intake.put_rows(out)

    def _send(self, record: Record, turn: Turn) -> None:
        """Send on what the record is about, before the next one is taken in."""
        sender = self._sender
        event, x = self._features.take()
        stop = None if event is None else self._itinerary.next_stop(event, 0)
        reached = _watermark_with(None if stop is None else event, self.intake.watermark)
        was_warming, self._was_warming = self._was_warming, self.intake.warming
        ended = was_warming and not self.intake.warming
        sender.begin(record.offset, reached, silent=self.intake.warming, ended=ended)
        if turn.work:  # a command: nothing else makes work here
            turn.work.clear()
            if self._is_first:  # every partition has it, and the models must get it once
                self._send_to_all(record.value or b"")
        if event is not None and stop is not None:
            self._pass_on(event, stop, record.value or b"", x)
        sender.end()

    def _pass_on(self, event: Event, stop: Target, value: bytes, x: dict[str, Any] | None) -> None:
        try:
            self._sender.send(stop, value, x)
        except Refused as refused:
            self._sender.send(self._itinerary.refusals_of(event), value, refused=refused)

    @property
    def watermark(self) -> float:
        """Events before it are refused as late; `NEVER` before the first confirmed event."""
        return self.intake.watermark

    @property
    def warming(self) -> bool:
        """Whether a warm-up is under way."""
        return self.intake.warming

    @property
    def max_at(self) -> float | None:
        """Event time so far."""
        return self.intake.max_at

    @property
    def last_stranger(self) -> str:
        """The reason given for the last record in the wrong partition."""
        return self.intake.last_stranger

    @property
    def accepted(self) -> Mapping[str, int]:
        """Events of each type since this object was made: behind the log they are accepted already."""
        return self.intake.accepted

    def known_references(self) -> dict[str, KnownReferences]:
        """What is known of each kind of reference: they stay in the partitions of the log."""
        return self.intake.known_references()

    @property
    def window_keys(self) -> dict[str, int]:
        """How many keys its windows hold."""
        return self.intake.window_keys

    def sizes(self) -> dict[str, StateSize]:
        """How many windows and predictions there are, and what each takes of memory."""
        return self.intake.sizes()

    @property
    def paged(self) -> PagedTables:
        """Its windows that may be in pages."""
        return self.intake.paged

    def segments(self) -> list[str]:
        """The files that a snapshot refers to."""
        return self.intake.segments()

    def every_row(self) -> Iterator[tuple[RowKey, StampedRow]]:
        """The online row of every key of its windows."""
        return self.intake.every_row()

    def counts(self) -> dict[str, int]:
        """Counts of the records of the log by result. Requests are answered by the last stage, and counted
        there."""
        intake = self.intake
        counted = {"ahead": intake.ahead, "evicted_keys": intake.evicted_keys}
        return asdict(intake.counts) | counted | {"predictions": 0}

    def _send_to_all(self, event: bytes) -> None:
        last = self._itinerary.last
        for partition in range(self._itinerary.plan.stages[last].partitions):
            self._sender.send(Target(last, partition), event)

    def state(self) -> IntakeParts:
        """Everything that later records depend on; nothing is copied."""
        return self.intake.state()

    def restore(self, state: IntakeParts) -> None:
        """Continue from what `state` returned."""
        self.intake.restore(state)
        self._was_warming = self.intake.warming


def _watermark_with(sent: Event | None, watermark: float) -> float:
    """The watermark sent with the records that a record causes. An event that confirms others may move time
    beyond itself, but must not be before the watermark sent with it: the next record sends the rest."""
    return watermark if sent is None else min(watermark, sent.at.timestamp())
