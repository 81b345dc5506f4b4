"""The audit of a case of several stages beside its workers: each partition of a stage, as its topic goes on.

The records that a stage sends are compared with those that its readers got, as soon as both are folded here.
So are the pools that a learner sends to its replicas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from driftline.streams.archive.epochs import Code
from driftline.streams.archive.topic_history import Past
from driftline.streams.between.activations import Sealing
from driftline.streams.between.stage_record import Writer, decode_record
from driftline.streams.declare.usecase import UseCase
from driftline.streams.proof.audit import AuditedRange, PartitionAuditor, PublishedTopic
from driftline.streams.proof.crossing import Crossing, PoolCrossing, RecordCrossing
from driftline.streams.proof.partition_follow import PartitionFollower
from driftline.streams.proof.published_pools import PoolHashes
from driftline.streams.proof.stage_refold import StageRefold, stage_epochs
from driftline.streams.records.outputs import Outputs, Target
from driftline.streams.records.ports import StoredRecord
from driftline.streams.stages.places import StagePlaces


class StageFollower(PartitionFollower):
    """The audit of one partition of a stage, with the records that it sends and receives."""

    def __init__(
        self,
        case: UseCase,
        places: StagePlaces,
        code: Code,
        past: Past,
        target: Target,
        seal: Sealing | None,
    ) -> None:
        itinerary = places.itinerary
        assert itinerary is not None
        self._places, self._code, self._target = places, code, target
        self._fold = StageRefold(case, places, code, past, target, seal)
        super().__init__(past, places.name(target), places.input(target), places.outputs(target))
        publishes = itinerary.is_replicated and target.stage == itinerary.last
        pools = (case.name, seal, PoolHashes()) if publishes and seal is not None else None
        self.sent = {reader: self._crossing(reader, pools) for reader in itinerary.targets(target.stage)}
        self.arriving: dict[Writer, Crossing] = {}

    def _crossing(self, reader: Target, pools: tuple[str, Sealing, PoolHashes] | None) -> Crossing:
        places, writer, audit = self._places, self._target, self._auditor.audit
        if pools is None:
            return RecordCrossing(places, writer, reader, audit)
        return PoolCrossing(places, writer, reader, audit, pools)

    def _new_auditor(self, published: Mapping[str, PublishedTopic]) -> PartitionAuditor:
        epochs = stage_epochs(self._places, self._past, self._target)
        return PartitionAuditor(
            self._target.partition,
            self._code,
            epochs,
            published,
            self._step,
            AuditedRange(),
            is_complete=True,
            number=self._places.number,
            first_position=self._fold.first_position,
        )

    def look(self, folded: int) -> bool:
        """As of any partition; then what it sent and what came to it is compared with the other side's."""
        before = self.next_offset
        is_done = super().look(folded)
        if self.next_offset > before:
            for crossing in (*self.sent.values(), *self.arriving.values()):
                crossing.compare()
        return is_done

    def _step(self, records: Sequence[StoredRecord]) -> Outputs:
        out = self._fold.step(records)
        if self._target.stage:
            for record in records:
                stage_record = decode_record(record.value)
                self.arriving[stage_record.writer].arrive(stage_record, record.value or b"")
        for reader, value in out.sends:
            self.sent[reader].send(value)
        return out


class StageFollowers:
    """The followers of all partitions of all stages, the last stage's first. `seal` is that of the pools of
    replicas."""

    def __init__(
        self, case: UseCase, places: StagePlaces, code: Code, past: Past, seal: Sealing | None = None
    ) -> None:
        self._past = past
        self._by_target = {
            target: StageFollower(case, places, code, past, target, seal)
            for stage in reversed(range(places.count))
            for target in places.targets_of(stage)
        }
        for target, follower in self._by_target.items():
            for reader, crossing in follower.sent.items():
                self._by_target[reader].arriving[Writer(*target)] = crossing

    def __iter__(self) -> Iterator[StageFollower]:
        return iter(self._by_target.values())

    def rest(self) -> None:
        """All is compared as far as it was folded. Where a partition is at the end of its topic, nothing more
        than it gives can have come to its readers, which were folded before."""
        for follower in self:
            if follower.next_offset >= self._past.end(*follower.place):
                for crossing in follower.sent.values():
                    crossing.finish()
