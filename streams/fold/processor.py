"""The fold over one partition of the log: pure, deterministic, the same in simulation and production."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

from driftline.errors import pass_interrupt
from driftline.online_models.errors import reason_of
from driftline.online_models.pool.pool import Pool
from driftline.online_models.pool.report import merged_report
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import FoldFault, StreamsError
from driftline.streams.fold.intake import Intake
from driftline.streams.fold.intake_state import Counts, IntakeParts
from driftline.streams.fold.learner import Learner, LearnerParts, Results
from driftline.streams.fold.work import Answered, Witness
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.record import Record


class ProcessorState(NamedTuple):
    """The state of one partition after the records before `next_offset`."""

    next_offset: int
    intake: IntakeParts
    learner: LearnerParts


class PartitionProcessor:
    """State and step of one partition.

    However the same records are cut into steps, the outputs have the same bytes. With `rows` the
    outputs also carry the newest online feature row of each key touched.
    """

    def __init__(self, case: UseCase, partition: int, *, rows: bool = False) -> None:
        self.case = case
        self.partition = partition
        self.next_offset = 0
        self.learner = Learner(case, partition, case.partitions)
        self.intake = Intake(case, case.feature_state(case.views() if rows else ()), partition)

    def watched_by(self, witness: Witness | None) -> None:
        """From now on, tell a witness what the outputs do not say."""
        self.intake.witness = self.learner.witness = witness

    def state(self) -> ProcessorState:
        """Everything that later steps depend on; nothing is copied."""
        return ProcessorState(self.next_offset, self.intake.state(), self.learner.state())

    def snapshot(self) -> bytes:
        """The pickled state. One pickle, so that what is shared within it stays shared."""
        return pickle.dumps(self.state(), protocol=5)

    @classmethod
    def restored(cls, case: UseCase, partition: int, snapshot: bytes, *, rows: bool = False) -> Self:
        """A processor that goes on from a snapshot, which must come from a trusted place."""
        processor = cls(case, partition, rows=rows)
        processor.restore(pickle.loads(snapshot))
        return processor

    def restore(self, state: ProcessorState) -> None:
        """Go on from what `state` gave."""
        self.next_offset = state.next_offset
        self.learner.restore(state.learner)
        self.intake.restore(state.intake)

    def step(self, records: Sequence[Record], answered: Answered | None = None) -> Outputs:
        """Fold records of this partition, in the log's order, and return what they cause.

        `answered` is what other code has answered to them. Raises FoldFault, after which the state is not
        whole; no record that is refused does that.
        """
        out = Outputs()
        half: Intake | Learner = self.intake
        try:
            work = self.intake.fold(records, out, answered)
            half = self.learner
            self.learner.fold(work)
            if records:
                self.next_offset = records[-1].offset + 1
            self.intake.put_rows(out)
        except StreamsError:
            raise
        except BaseException as error:
            pass_interrupt(error)
            raise FoldFault(self.partition, half.offset, reason_of(error)) from error
        return out


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts and progressive metrics over a set of partitions."""

    counts: dict[str, int]
    models: dict[str, dict[str, Any]]


def counts_of(processors: Sequence[PartitionProcessor]) -> dict[str, int]:
    """Counts added over the partitions."""

    def added(kind: type[Counts] | type[Results], of: Sequence[Counts] | Sequence[Results]) -> dict[str, int]:
        return {field.name: sum(getattr(one, field.name) for one in of) for field in fields(kind)}

    counts = added(Counts, [p.intake.counts for p in processors])
    counts["unmatched"] = sum(p.intake.label_join.unmatched for p in processors)
    counts["ahead"] = sum(p.intake.ahead for p in processors)
    counts["evicted_keys"] = sum(p.intake.evicted_keys for p in processors)
    counts |= added(Results, [p.learner.results for p in processors])
    counts["pending"] = sum(p.intake.label_join.open for p in processors)
    return counts


def pools_of(processors: Sequence[PartitionProcessor]) -> list[Pool]:
    """All pools of the partitions, in order."""
    return [p.learner.pools[key] for p in processors for key in sorted(p.learner.pools)]


def summarize(processors: Sequence[PartitionProcessor]) -> Summary:
    """Counts added over the partitions, and metrics merged."""
    return Summary(counts_of(processors), merged_report(pools_of(processors)))
