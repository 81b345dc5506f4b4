"""What one partition of a stage sends to another, beside what comes there: compared as both go on. Of a
learner and a replica these are pools, else records.

Neither side is held. Records of each are digested as they are read, a digest of every `DIGEST_EVERY` is kept
until the other side is as far, and where both have as many records their digests are compared at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque

from driftline.streams.between.activations import Sealing
from driftline.streams.between.stage_record import StageRecord, decode_record
from driftline.streams.proof.audit import PartitionAudit
from driftline.streams.proof.published_pools import PoolHashes, PoolsSent, pool_difference
from driftline.streams.proof.sent_records import DIGEST_EVERY, RunningDigest, SentDifference
from driftline.streams.records.outputs import Target
from driftline.streams.records.positions import SourcePosition
from driftline.streams.stages.places import StagePlaces


class _Side:
    """Records as they are digested, and the digests of blocks that the other side has not come to, each with
    the source position of its last record."""

    def __init__(self) -> None:
        self.digest = RunningDigest()
        self.blocks: deque[tuple[bytes, SourcePosition]] = deque()
        self.source: SourcePosition = (-1, 0)

    def add(self, sent: StageRecord, value: bytes) -> None:
        """The next record."""
        self.source = (sent.offset, sent.ordinal)
        if self.digest.add(value):
            self.blocks.append((self.digest.short, self.source))


class Crossing(ABC):
    """What one writer sends to one reader; what is compared is counted in the writer's audit."""

    @abstractmethod
    def send(self, value: bytes) -> None:
        """The next record that the writer's topic gives."""

    @abstractmethod
    def arrive(self, sent: StageRecord, value: bytes) -> None:
        """The next record in the reader's topic; one that has come before is passed over."""

    @abstractmethod
    def compare(self) -> None:
        """Compare as far as both sides are known."""

    @abstractmethod
    def finish(self) -> None:
        """All that the writer's topic holds is folded: more than it gives cannot have come."""


class RecordCrossing(Crossing):
    """The records of one writer to one reader; what is compared is counted in the writer's `audit`."""

    def __init__(self, places: StagePlaces, writer: Target, reader: Target, audit: PartitionAudit) -> None:
        self._difference = SentDifference(places, writer, reader)
        self._audit = audit
        self._sent, self._arrived = _Side(), _Side()
        self._compared = 0
        self._is_equal = True

    def send(self, value: bytes) -> None:
        """The next record that the writer's topic gives."""
        if self._is_equal:
            self._sent.add(decode_record(value), value)

    def arrive(self, sent: StageRecord, value: bytes) -> None:
        """The next record in the reader's topic; one that has come before is passed over."""
        if self._is_equal and sent.number == self._arrived.digest.records + 1:
            self._arrived.add(sent, value)

    def compare(self) -> None:
        """Compare as far as both sides are known."""
        sent, arrived = self._sent, self._arrived
        while self._is_equal and sent.blocks and arrived.blocks:
            (made, source), (came, _) = sent.blocks.popleft(), arrived.blocks.popleft()
            self._note((self._compared // DIGEST_EVERY + 1) * DIGEST_EVERY, made, came, source)
        if self._is_equal and sent.digest.records == arrived.digest.records:
            self._note(sent.digest.records, sent.digest.short, arrived.digest.short, sent.source)

    def finish(self) -> None:
        """All that the writer's topic holds is folded: more than it gives cannot have come."""
        self.compare()
        made, came = self._sent.digest.records, self._arrived.digest.records
        if self._is_equal and came > made:
            self._is_equal = False
            span = f"records {made + 1} to {came}"
            self._audit.differs(self._difference.of("not recomputed", self._arrived.source, span))

    def _note(self, until: int, made: bytes, came: bytes, source: SourcePosition) -> None:
        if made != came:
            self._is_equal = False  # all digests that follow are others too
            span = f"one of the records {self._compared + 1} to {until}"
            self._audit.differs(self._difference.of("different", source, span, came.hex(), made.hex()))
            return
        self._audit.checked += until - self._compared
        self._audit.equal += until - self._compared
        self._compared = until


class PoolCrossing(Crossing):
    """The pools of a learner to one replica, compared by what they answer by; what is compared is counted in
    the learner's `audit`. `hashes` are shared by all its replicas."""

    def __init__(
        self,
        places: StagePlaces,
        learner: Target,
        reader: Target,
        audit: PartitionAudit,
        pools: tuple[str, Sealing, PoolHashes],
    ) -> None:
        self._places, self._learner, self._reader = places, learner, reader
        self._audit = audit
        self._made, self._came = PoolsSent(*pools), PoolsSent(*pools)
        self._is_equal = True

    def send(self, value: bytes) -> None:
        """As of any crossing."""
        self._made.take(value)

    def arrive(self, sent: StageRecord, value: bytes) -> None:
        """As of any crossing."""
        self._came.take(value)

    def compare(self) -> None:
        """As of any crossing; after a difference all later pools may be others too."""
        made, came = self._made.content, self._came.content
        both = min(len(made), len(came))
        for own, known in zip(made[:both], came[:both], strict=True):
            difference = pool_difference(self._places, self._learner, self._reader, own, known)
            if difference is None:
                self._audit.checked += 1
                self._audit.equal += 1
            elif self._is_equal:
                self._is_equal = False
                self._audit.differs(difference)
        del made[:both], came[:both]

    def finish(self) -> None:
        """As of any crossing."""
        self.compare()
        if self._is_equal and self._came.content:
            self._is_equal = False
            more = self._came.content[-1]
            span = f"pools up to {more.number}"
            describe = SentDifference(self._places, self._learner, self._reader)
            self._audit.differs(describe.of("not recomputed", (more.offset, 0), span))
