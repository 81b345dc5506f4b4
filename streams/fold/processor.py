"""The fold over one partition of the log: pure, deterministic, the same in simulation and production."""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from typing import Any, NamedTuple, Self

from driftline.errors import StateUnreadable, pass_interrupt
from driftline.features.state.online_view import RowKey, StampedRow
from driftline.features.state.segment_store import IN_MEMORY, SegmentStore
from driftline.features.state.windows.paged_table import PagedTables, reducers
from driftline.object_size import StateSize
from driftline.online_models.errors import reason_of
from driftline.online_models.pool.pool import Pool
from driftline.online_models.pool.report import merged_report
from driftline.streams.declare.plan import refuse_chain
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import FoldFault, StreamsError
from driftline.streams.fold.deduplication import SeenEvents, StoredEvents
from driftline.streams.fold.intake import Intake
from driftline.streams.fold.intake_state import Counts, IntakeParts
from driftline.streams.fold.label_join import LabelTally
from driftline.streams.fold.learner import Learner, LearnerParts, Results
from driftline.streams.fold.learner_input import Answered, Staleness, Witness
from driftline.streams.fold.reference_spread import KnownReferences
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.record import Record
from driftline.streams.waiting.queue_state import QueueState, StoredQueue


def pickled(state: Any, packed: list[list[str]] | None = None) -> bytes:
    """A snapshot of a state: one pickle, so that objects shared within it stay shared. With `packed`, windows
    that have changed are packed into pages, which it names; their files are added to the list, table by
    table."""
    buffer = BytesIO()
    pickler = pickle.Pickler(buffer, protocol=5)
    table: dict[type, Any] = {
        QueueState: lambda queue: (StoredQueue, tuple(queue.stored())),
        SeenEvents: lambda seen: (StoredEvents, tuple(seen.stored())),
    }
    if packed is not None:
        table |= reducers(packed)
    pickler.dispatch_table = copyreg.dispatch_table | table
    pickler.dump(state)
    return buffer.getvalue()


class ProcessorState(NamedTuple):
    """The state of one partition after the records before `next_offset`."""

    next_offset: int
    intake: IntakeParts
    learner: LearnerParts


class PartitionProcessor:
    """State and step of one partition.

    However the same records are cut into steps, the outputs have the same bytes. With `rows` the outputs also
    carry the newest online feature row of each key touched. Packed predictions are kept in the `store`.
    Raises DeclarationError for a case of several stages, which is not one fold.
    """

    def __init__(
        self, case: UseCase, partition: int, *, rows: bool = False, store: SegmentStore = IN_MEMORY
    ) -> None:
        refuse_chain(case)
        self.case = case
        self.partition = partition
        self.next_offset = 0
        self.learner = Learner(case, partition, case.partitions)
        features = case.feature_state(case.views() if rows else (), store)
        self.intake = Intake(case, features, partition, store=store)

    def watched_by(self, witness: Witness | None) -> None:
        """From now on, report to a witness what the outputs do not show."""
        self.intake.witness = self.learner.witness = witness

    def state(self) -> ProcessorState:
        """Everything that later steps depend on; nothing is copied."""
        return ProcessorState(self.next_offset, self.intake.state(), self.learner.state())

    def snapshot(self, packed: list[list[str]] | None = None) -> bytes:
        """The pickled state; see `pickled`."""
        return pickled(self.state(), packed)

    @property
    def paged(self) -> PagedTables:
        """Its windows that may be in pages."""
        return self.intake.paged

    def segments(self) -> list[str]:
        """The files that a snapshot refers to."""
        return self.intake.segments()

    @classmethod
    def restored(cls, case: UseCase, partition: int, snapshot: bytes, *, rows: bool = False) -> Self:
        """A processor that continues from a snapshot, which must come from a trusted place."""
        processor = cls(case, partition, rows=rows)
        processor.restore(pickle.loads(snapshot))
        return processor

    def restore(self, state: ProcessorState) -> None:
        """Continue from what `state` returned."""
        self.next_offset = state.next_offset
        self.learner.restore(state.learner)
        self.intake.restore(state.intake)

    def step(self, records: Sequence[Record], answered: Answered | None = None) -> Outputs:
        """Fold records of this partition, in the log's order, and return their outputs. `answered` is what
        other code has answered to them. Raises FoldFault, after which the state must not be used; a refused
        record never does that.
        """
        out = Outputs()
        half: Intake | Learner = self.intake
        try:
            work = self.intake.fold(records, out, answered)
            half = self.learner
            self.learner.fold(work)
            self.intake.label_join.pack()
            if records:
                self.next_offset = records[-1].offset + 1
            self.intake.put_rows(out)
        except (StreamsError, StateUnreadable):
            raise
        except BaseException as error:
            pass_interrupt(error)
            raise FoldFault(self.partition, half.offset, reason_of(error)) from error
        return out

    def every_row(self) -> Iterator[tuple[RowKey, StampedRow]]:
        """The online row of every key, as of now; none in a warm-up."""
        return self.intake.every_row()

    @property
    def last_stranger(self) -> str:
        """The reason given for the last record in the wrong partition; empty if there was none."""
        return self.intake.last_stranger

    @property
    def staleness(self) -> Staleness | None:
        """None: the pool itself answers."""
        return None

    @property
    def warming(self) -> bool:
        """Whether a warm-up is under way."""
        return self.intake.warming

    @property
    def watermark(self) -> float:
        """Events before it are refused as late; in seconds since the epoch."""
        return self.intake.watermark

    @property
    def max_at(self) -> float | None:
        """Event time so far, in seconds since the epoch; None before the first event."""
        return self.intake.max_at

    @property
    def open(self) -> int:
        """Predictions that wait for their label."""
        return self.intake.label_join.open

    @property
    def window_keys(self) -> dict[str, int]:
        """How many keys the windows hold, by event and what they are by."""
        return self.intake.window_keys

    @property
    def accepted(self) -> Mapping[str, int]:
        """Events of each type since this object was made."""
        return self.intake.accepted

    @property
    def labels(self) -> LabelTally:
        """What became of labels since this object was made."""
        return self.intake.label_join.tally

    def sizes(self) -> dict[str, StateSize]:
        """How many windows and predictions there are, and what each takes of memory."""
        return self.intake.sizes()

    def packed_sizes(self) -> dict[str, float]:
        """The bytes of a window or prediction in a file, by the names in `sizes`."""
        return self.intake.packed_sizes()

    def known_references(self) -> dict[str, KnownReferences]:
        """What is known of each kind of reference, by the kind's name."""
        return self.intake.known_references()

    def counts(self) -> dict[str, int]:
        """How many of the records so far were accepted, refused and so on, by `COUNT_NAMES`."""
        intake = self.intake
        return {
            **asdict(intake.counts),
            "unmatched": intake.label_join.unmatched,
            "ahead": intake.ahead,
            "evicted_keys": intake.evicted_keys,
            **asdict(self.learner.results),
            "pending": intake.label_join.open,
        }

    def pools(self) -> list[Pool]:
        """The pools, in order."""
        return self.learner.pools_in_order()


COUNT_NAMES = (
    *(field.name for field in fields(Counts)),
    "unmatched",
    "ahead",
    "evicted_keys",
    *(field.name for field in fields(Results)),
    "pending",
)
"""The names of all counts. A stage knows some of them."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts, what became of labels, and progressive metrics over a set of partitions."""

    counts: dict[str, int]
    labels: LabelTally
    models: dict[str, dict[str, Any]]


def added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts of several partitions or stages, added; a count that none of them has is 0."""
    each = list(counts)
    return {name: sum(one.get(name, 0) for one in each) for name in COUNT_NAMES}


def counts_of(processors: Sequence[PartitionProcessor]) -> dict[str, int]:
    """Counts added over the partitions."""
    return added(processor.counts() for processor in processors)


def summarize(processors: Sequence[PartitionProcessor]) -> Summary:
    """Counts added over the partitions, and metrics merged."""
    pools = [pool for processor in processors for pool in processor.pools()]
    labels = sum((processor.labels for processor in processors), LabelTally())
    return Summary(counts_of(processors), labels, merged_report(pools))
