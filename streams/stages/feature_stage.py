"""A stage in the middle: windows by its key. A request continues with the features read here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from driftline.errors import pass_interrupt
from driftline.features.errors import FeatureValueError
from driftline.features.state.online_view import RowKey, StampedRow
from driftline.features.state.windows.paged_table import PagedTables
from driftline.object_size import StateSize
from driftline.online_models.errors import reason_of
from driftline.streams.between.sender import Sender
from driftline.streams.between.stage_record import StageRecord, decode_record
from driftline.streams.between.writers import WriterProgress, Writers
from driftline.streams.declare.events import Event
from driftline.streams.declare.retirement import EventDecoder
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import Refused
from driftline.streams.fold import refusal_reasons
from driftline.streams.fold.intake import RETAIN_EVERY
from driftline.streams.fold.intake_state import Features
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.record import Record
from driftline.streams.stages.itinerary import Itinerary
from driftline.streams.stages.stage_work import LaterStage

HeldRows = dict[RowKey, StampedRow]


class FeatureStageParts(NamedTuple):
    """The state of a feature stage: the progress of its writers, how many records, its features, and the
    online rows that a warm-up holds back."""

    heard: WriterProgress
    records: int
    features: Any
    held_rows: HeldRows


class FeatureStage(LaterStage):
    """Reads and feeds the windows of one stage. `offset` is that of the record at hand, -1 before the first.

    An event that cannot be read or counted here goes to the last stage as refused, which reports it; earlier
    stages have counted it.
    """

    offset: int = -1

    def __init__(
        self, case: UseCase, itinerary: Itinerary, number: int, sender: Sender, features: Features
    ) -> None:
        self._number = number
        self._itinerary = itinerary
        self._ask = case.task.ask
        self._decode = EventDecoder[Event](tuple(case.events)).decode
        self._features = features
        self._writers = Writers(itinerary.writers(number))
        self._sender = sender
        self._records = 0
        self._held_rows: HeldRows = {}

    @property
    def window_keys(self) -> dict[str, int]:
        """How many keys its windows hold."""
        return self._features.keys_held()

    def sizes(self) -> dict[str, StateSize]:
        """How many windows there are, and what each takes of memory."""
        return self._features.sizes()

    @property
    def paged(self) -> PagedTables:
        """Its windows that may be in pages."""
        return self._features.paged

    def segments(self) -> list[str]:
        """The files that a snapshot refers to."""
        return self._features.segments()

    def every_row(self) -> Iterator[tuple[RowKey, StampedRow]]:
        """The online row of every key of its windows, as of the watermark; none during a warm-up."""
        return iter(()) if self.warming else self._features.every_row(self.watermark)

    def counts(self) -> dict[str, int]:
        """Keys of windows dropped so far to make room for others."""
        return {"evicted_keys": self._features.evicted()}

    def fold(self, records: Sequence[Record], out: Outputs) -> None:
        """Take records of the stage's topic in."""
        writers, sender = self._writers, self._sender
        for record in records:
            self.offset = record.offset
            stage_record, was_warming = decode_record(record.value), writers.warming
            if not writers.take(stage_record):
                continue
            self._records += 1
            if self._records % RETAIN_EVERY == 0:
                self._put_rows(out)
                self._features.retain(writers.watermark)
            ended = was_warming and not writers.warming
            sender.begin(record.offset, writers.watermark, silent=stage_record.silent, ended=ended)
            if stage_record.event:
                self._pass_on(stage_record)
            sender.end()
        self._put_rows(out)

    def _put_rows(self, out: Outputs) -> None:
        """Put out the online rows that have changed; a warm-up holds them back."""
        if self.warming:
            self._features.put_rows(self._held_rows)
            return
        self._features.put_rows(out.rows)
        if self._held_rows:
            out.rows = self._held_rows | out.rows
            self._held_rows = {}

    def _pass_on(self, stage_record: StageRecord) -> None:
        event = self._decode(stage_record.event)
        try:
            read = stage_record.read | self._read(event)
            stop = self._itinerary.next_stop(event, self._number)
            if stop is not None:
                self._sender.send(stop, stage_record.event, read)
        except Refused as refused:
            place = self._itinerary.refusals_of(event)
            self._sender.send(place, stage_record.event, refused=refused)

    def _read(self, event: Event) -> dict[str, Any]:
        """The values of the windows for a request, none for another event; then they count it."""
        at = event.at.timestamp()
        try:
            read = self._features.gather(event, at) if event.__class__ is self._ask else {}
            self._features.update(event, at)
        except FeatureValueError as error:
            raise refusal_reasons.without_features(error, ()) from error
        except (
            BaseException
        ) as error:  # such as a key that cannot be hashed, or a value that cannot be compared
            pass_interrupt(error)
            raise Refused("features", reason_of(error)) from error
        return read

    def state(self) -> FeatureStageParts:
        """Everything that later records depend on; nothing is copied."""
        return FeatureStageParts(
            self._writers.state(), self._records, self._features.state(), self._held_rows
        )

    def restore(self, state: FeatureStageParts) -> None:
        """Continue from what `state` returned."""
        self._writers.restore(state.heard)
        self._records, self._held_rows = state.records, state.held_rows
        self._features.restore(state.features)
