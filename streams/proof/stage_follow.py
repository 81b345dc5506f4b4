"""The audit of a case of several stages beside its workers: each partition of a stage, as its topic goes on.

What a stage sends is compared with what comes to its readers as soon as both are folded here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from driftline.streams.archive.epochs import Code, is_epoch
from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.archive.topic_history import Past
from driftline.streams.between.stage_record import Writer, decode_record
from driftline.streams.declare.usecase import UseCase
from driftline.streams.proof.audit import AuditedRange, PartitionAuditor, PublishedTopic
from driftline.streams.proof.crossing import Crossing
from driftline.streams.proof.stage_audit import stage_epochs
from driftline.streams.records.difference import Difference
from driftline.streams.records.outputs import Outputs, Target
from driftline.streams.records.ports import Place, StoredRecord
from driftline.streams.stages.places import StagePlaces
from driftline.streams.stages.stage_fold import StageFold

OFFSETS_AT_ONCE = 20_000
"""Offsets of one partition that are folded before the others have their turn."""


class EpochAdded(Exception):
    """Other code has taken over, or this one: what may be compared is another stretch now."""


class StageFollower:
    """The audit of one partition of a stage, which goes on as its topic does."""

    def __init__(self, case: UseCase, places: StagePlaces, code: Code, past: Past, target: Target) -> None:
        assert places.itinerary is not None
        self._past = past
        self._target = target
        self.name = places.name(target)
        self.place = places.input(target)
        self._outputs = places.outputs(target)
        self._read = {kind: past.begin(*place) for kind, place in self._outputs.items()}
        epochs = stage_epochs(places, code, past, target)
        published = {kind: self._topic(kind, place) for kind, place in self._outputs.items()}
        self._fold = StageFold(case, places.itinerary, *target)
        self._auditor = PartitionAuditor(
            target.partition, code, epochs, published, self._step, AuditedRange(), is_complete=True
        )
        readers = places.itinerary.targets(target.stage)
        self.sent = {reader: Crossing(places, target, reader, self._auditor.audit) for reader in readers}
        self.arriving: dict[Writer, Crossing] = {}
        self.next_offset = 0

    def _topic(self, kind: str, place: Place) -> PublishedTopic:
        begin = self._read[kind]
        self._read[kind] = end = self._past.end(*place)
        return PublishedTopic(place.topic, begin, self._past.records(*place, begin, end), place.partition)

    @property
    def verified(self) -> int:
        """The offset before which all that was published and sent is proved, or is of other code."""
        found = self.difference
        return self.next_offset if found is None else found.log_offset

    @property
    def difference(self) -> Difference | None:
        """The first one."""
        return self._auditor.audit.first_difference

    @property
    def counts(self) -> tuple[int, int, int]:
        """Records compared, different, and not compared."""
        found = self._auditor.audit
        return found.checked, found.checked - found.equal, sum(found.unchecked.values())

    def look(self, folded: int) -> bool:
        """Compare what the topic gives before the offset `folded`, a piece of it at most; whether all is
        done. Raises EpochAdded."""
        until = min(folded, self.next_offset + OFFSETS_AT_ONCE)
        if until <= self.next_offset:
            return True
        for kind, place in self._outputs.items():
            self._auditor.published(kind, self._published_since(kind, place))
        for records in self._past.records(*self.place, self.next_offset, until):
            self._auditor.folded(records)
        self.next_offset = until
        for crossing in (*self.sent.values(), *self.arriving.values()):
            crossing.compare()
        return until == folded

    def _published_since(self, kind: str, place: Place) -> Iterable[list[ArchivedRecord]]:
        begin = self._read[kind]
        self._read[kind] = end = self._past.end(*place)
        chunks = list(self._past.records(*place, begin, end))
        if kind == "models" and any(is_epoch(record) for chunk in chunks for record in chunk):
            raise EpochAdded
        return chunks

    def _step(self, records: Sequence[StoredRecord]) -> Outputs:
        out = self._fold.step(records)
        if self._target.stage:
            for record in records:
                told = decode_record(record.value)
                self.arriving[told.writer].arrive(told, record.value or b"")
        for reader, value in out.sends:
            self.sent[reader].send(value)
        return out


class StageFollowers:
    """The followers of all partitions of all stages, the last stage's first."""

    def __init__(self, case: UseCase, places: StagePlaces, code: Code, past: Past) -> None:
        self._past = past
        self._by_target = {
            target: StageFollower(case, places, code, past, target)
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
