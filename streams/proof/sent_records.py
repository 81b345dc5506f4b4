"""Compares the records that one stage sent to another without holding them: by digests of all records so far.

The reader's topic holds a writer's records in order, with repeats. First appearances are digested as they are
read there; the records recomputed from the writer's own topic are digested in the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from driftline.streams.between.stage_record import Writer, decode_record
from driftline.streams.proof.audit import PartitionAudit
from driftline.streams.proof.published_pools import PoolsSent
from driftline.streams.records.difference import Difference, DifferenceKind
from driftline.streams.records.outputs import Send, Target
from driftline.streams.records.ports import StoredRecord
from driftline.streams.records.positions import SourcePosition
from driftline.streams.stages.places import StagePlaces

DIGEST_EVERY = 64
"""Records between two digests: a difference is reported as being in one of so many records."""
_SHORT = 8
"""Bytes of a digest that are kept."""


class Received(msgspec.Struct, frozen=True):
    """How many records came from one writer, without repeats, and the digest of all up to each
    `DIGEST_EVERY`th and up to the last."""

    records: int
    digests: tuple[bytes, ...]


class RunningDigest:
    """A digest of all records of one writer to one reader so far."""

    def __init__(self) -> None:
        self.records = 0
        self._digest = hashlib.sha256()

    def add(self, value: bytes) -> bool:
        """The next record; whether a block of `DIGEST_EVERY` is full with it."""
        self._digest.update(b"%d:" % len(value))
        self._digest.update(value)
        self.records += 1
        return self.records % DIGEST_EVERY == 0

    @property
    def short(self) -> bytes:
        """Of all so far."""
        return self._digest.digest()[:_SHORT]


class _Digested(RunningDigest):
    """The same, with the digests of all blocks."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: list[bytes] = []

    def add(self, value: bytes) -> bool:
        """As of any digest."""
        is_full = super().add(value)
        if is_full:
            self._blocks.append(self.short)
        return is_full

    def received(self) -> Received:
        """The result so far."""
        return Received(self.records, (*self._blocks, self.short))


class SentDifference:
    """Describes differences between the records that one partition sent to another and those received."""

    def __init__(self, places: StagePlaces, writer: Target, reader: Target) -> None:
        self._place = places.input(reader)
        self._writer = places.name(writer)

    def of(
        self,
        kind: DifferenceKind,
        source: SourcePosition,
        span: str,
        received: str | None = None,
        made: str | None = None,
    ) -> Difference:
        """Records of this `span` differ from the recomputed ones; the digests show both sides."""
        field, text = f"{span} from {self._writer}", "{}:{}".format(*source)
        return Difference(kind, *self._place, None, text, source[0], field, received, made, None)


class Arrivals:
    """The records that one partition of a stage received, from each of its writers; of a learner the `pools`
    that it published."""

    def __init__(self, pools: PoolsSent | None = None) -> None:
        self._digested: dict[Writer, _Digested] = {}
        self._pools = pools

    def take(self, records: Iterable[StoredRecord]) -> None:
        """The next records of the partition. One that is missing fails the fold."""
        for record in records:
            stage_record = decode_record(record.value)
            if self._pools is not None and self._pools.take(record.value):
                continue
            digested = self._digested.setdefault(stage_record.writer, _Digested())
            if stage_record.number == digested.records + 1:
                digested.add(record.value or b"")

    def received(self) -> dict[Writer, Received]:
        """By writer."""
        return {writer: digested.received() for writer, digested in self._digested.items()}


class SentComparison:
    """Compares the records that one partition of a stage sends, as recomputed, with those that its readers
    received. A record that a reader has not received yet is not counted.
    """

    def __init__(
        self,
        places: StagePlaces,
        writer: Target,
        received: Mapping[Target, Received],
        audit: PartitionAudit,
    ) -> None:
        self._places = places
        self._writer = writer
        self._audit = audit
        self._left = {reader: (there, _Digested()) for reader, there in received.items()}

    def take(self, sends: Iterable[Send]) -> None:
        """The next records that the writer's topic gives."""
        for reader, value in sends:
            if reader in self._left:
                there, made = self._left[reader]
                made.add(value)
                if made.records % DIGEST_EVERY == 0 or made.records == there.records:
                    self._compare(reader, there, made, value)

    def _compare(self, reader: Target, there: Received, made: _Digested, value: bytes) -> None:
        before = (made.records - 1) // DIGEST_EVERY
        known, count = there.digests[before], made.records - before * DIGEST_EVERY
        if made.short == known:
            self._audit.checked += count
            self._audit.equal += count
        else:
            stage_record = decode_record(value)
            span = f"one of the records {before * DIGEST_EVERY + 1} to {made.records}"
            source = (stage_record.offset, stage_record.ordinal)
            difference = SentDifference(self._places, self._writer, reader)
            self._audit.differs(difference.of("different", source, span, known.hex(), made.short.hex()))
        if made.short != known or made.records == there.records:
            del self._left[reader]  # after a difference all later digests differ

    def finish(self, offset: int) -> None:
        """The writer's topic is folded up to this offset: every record that its readers have must have been
        recomputed."""
        for reader, (there, made) in self._left.items():
            if made.records < there.records:
                span = f"records {made.records + 1} to {there.records}"
                difference = SentDifference(self._places, self._writer, reader)
                self._audit.differs(difference.of("not recomputed", (offset, 0), span))
