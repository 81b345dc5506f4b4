"""The fold over one partition of a stage: pure, deterministic, from records to outputs and records for other
stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from driftline.errors import StateUnreadable, pass_interrupt
from driftline.features.state.feature_state import FeatureState
from driftline.features.state.online_view import RowKey, StampedRow
from driftline.features.state.segment_store import IN_MEMORY, SegmentStore
from driftline.features.state.windows.paged_table import PagedTables
from driftline.object_size import StateSize
from driftline.online_models.errors import reason_of
from driftline.online_models.pool.pool import Pool
from driftline.streams.between.activations import Sealing
from driftline.streams.between.sender import Sender, SenderState
from driftline.streams.between.stage_record import Writer
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import FoldFault, StreamsError
from driftline.streams.fold.label_join import LabelTally
from driftline.streams.fold.learner_input import Staleness, Witness
from driftline.streams.fold.processor import pickled
from driftline.streams.fold.reference_spread import KnownReferences
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.record import Record
from driftline.streams.stages.feature_stage import FeatureStage
from driftline.streams.stages.intake_stage import IntakeStage
from driftline.streams.stages.itinerary import Itinerary
from driftline.streams.stages.last_stage import LastStage
from driftline.streams.stages.publication import Publication
from driftline.streams.stages.replica_stage import ReplicaStage
from driftline.streams.stages.stage_features import features_of
from driftline.streams.stages.stage_work import StageWork

TICKS_IN_A_WAIT = 1024
"""How often at least, within the wait for a label, a stage sends the time to each of its targets."""
SHORTEST_TICK = 1.0
"""Seconds of event time between two ticks, at least."""


def tick_of(case: UseCase) -> float:
    """Seconds of event time after which a stage sends the time to targets without a record."""
    return max(SHORTEST_TICK, case.task.label.wait / TICKS_IN_A_WAIT)


class StageState(NamedTuple):
    """The state of one partition of a stage after the records before `next_offset`."""

    next_offset: int
    sender: SenderState
    work: Any


class StageFold:
    """State and step of one partition of a stage.

    However the same records are cut into steps, what is sent and put out has the same bytes. Pools that a
    learner publishes to replicas are under the `seal`. `first_position` is the source position of offset 0.
    """

    def __init__(
        self,
        case: UseCase,
        itinerary: Itinerary,
        number: int,
        partition: int,
        *,
        rows: bool = False,
        store: SegmentStore = IN_MEMORY,
        seal: Sealing | None = None,
        first_position: int = 0,
    ) -> None:
        self.number = number
        self.partition = partition
        self.next_offset = 0
        self._sender = Sender(Writer(number, partition), itinerary.targets(number), tick_of(case))
        self.first_position = first_position
        self.work = _work(case, itinerary, number, partition, self._sender, rows, store, seal, first_position)

    def step(self, records: Sequence[Record]) -> Outputs:
        """Fold records of this partition, in its order, and return their outputs. Raises FoldFault, after
        which the state must not be used; a refused event never does that."""
        out = Outputs()
        try:
            self.work.fold(records, out)
        except (StreamsError, StateUnreadable):
            raise
        except BaseException as error:
            pass_interrupt(error)
            raise FoldFault(self.partition, self.work.offset, reason_of(error)) from error
        if records:
            self.next_offset = records[-1].offset + 1
        out.sends = self._sender.take()
        return out

    def state(self) -> StageState:
        """Everything that later steps depend on; nothing is copied."""
        return StageState(self.next_offset, self._sender.state(), self.work.state())

    def snapshot(self, packed: list[list[str]] | None = None) -> bytes:
        """The pickled state; see `pickled`."""
        return pickled(self.state(), packed)

    @property
    def paged(self) -> PagedTables:
        """Its windows that may be in pages."""
        return self.work.paged

    def segments(self) -> list[str]:
        """The files that a snapshot refers to."""
        return self.work.segments()

    def restore(self, state: StageState) -> None:
        """Continue from what `state` returned."""
        self.next_offset = state.next_offset
        self._sender.restore(state.sender)
        self.work.restore(state.work)

    def every_row(self) -> Iterator[tuple[RowKey, StampedRow]]:
        """The online row of every key of this stage's windows, as of now."""
        return self.work.every_row()

    def pools_watched_by(self, witness: Witness | None) -> None:
        """From now on, report to a witness what the answers to requests do not show; for the last stage."""
        self.work.pools_watched_by(witness)

    @property
    def last_stranger(self) -> str:
        """The reason given for the last record in the wrong partition; empty if there was none."""
        return self.work.last_stranger

    @property
    def warming(self) -> bool:
        """Whether a warm-up is under way."""
        return self.work.warming

    @property
    def watermark(self) -> float:
        """No output of the folded records is before it; in seconds since the epoch."""
        return self.work.watermark

    @property
    def max_at(self) -> float | None:
        """Event time so far, in seconds since the epoch; None before the first event."""
        return self.work.max_at

    @property
    def open(self) -> int:
        """Predictions that wait for their label here."""
        return self.work.open

    @property
    def staleness(self) -> Staleness | None:
        """How old the pool was that gave the newest answer, where replicas answer; the learner knows."""
        return self.work.staleness

    @property
    def window_keys(self) -> dict[str, int]:
        """How many keys the windows hold, by event and what they are by."""
        return self.work.window_keys

    @property
    def accepted(self) -> Mapping[str, int]:
        """Events of each type since this object was made: the first stage accepts them."""
        return self.work.accepted

    @property
    def labels(self) -> LabelTally:
        """What became of labels since this object was made: the last stage joins them."""
        return self.work.labels

    def sizes(self) -> dict[str, StateSize]:
        """How many windows and predictions there are, and what each takes of memory."""
        return self.work.sizes()

    def known_references(self) -> dict[str, KnownReferences]:
        """What is known of each kind of reference, by the kind's name: the first stage knows them all."""
        return self.work.known_references()

    def counts(self) -> dict[str, int]:
        """What came of the records so far, of what this stage knows."""
        return self.work.counts()

    def pools(self) -> list[Pool]:
        """Its pools, in order."""
        return self.work.pools()


def _work(
    case: UseCase,
    itinerary: Itinerary,
    number: int,
    partition: int,
    sender: Sender,
    rows: bool,
    store: SegmentStore,
    seal: Sealing | None,
    first_position: int,
) -> StageWork:
    if number == 0:
        return IntakeStage(case, itinerary, partition, sender, rows, store)
    if number == itinerary.last:
        publication = None
        if itinerary.is_replicated:
            publication = Publication(case, sender, _needed(seal))
        return LastStage(case, itinerary, partition, store, publication, first_position)
    if number == itinerary.serving:
        return ReplicaStage(case, itinerary, number, sender, _needed(seal))
    features = features_of(case, itinerary.plan.stages[number], rows, FeatureState, store)
    return FeatureStage(case, itinerary, number, sender, features)


def _needed(seal: Sealing | None) -> Sealing:
    if seal is None:
        raise StreamsError("replicas need a seal for the pools that they are sent")
    return seal
