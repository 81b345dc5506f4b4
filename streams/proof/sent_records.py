"""What one stage sent to another, compared without holding it: by digests of all that came so far.

The reader's topic holds a writer's records in order, with repeats. First appearances are digested as they are
read there; what the writer's own topic gives is digested in the same way when that one is folded again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from driftline.streams.proof.audit import PartitionAudit
from driftline.streams.records.difference import Difference, DifferenceKind
from driftline.streams.records.outputs import Send, Target
from driftline.streams.records.ports import StoredRecord
from driftline.streams.records.positions import SourcePosition
from driftline.streams.stages.places import StagePlaces
from driftline.streams.stages.stage_record import Writer, decode_record

DIGEST_EVERY = 64
"""Records between two digests: a difference is told as of one of so many."""
_SHORT = 8
"""Bytes of a digest that are kept."""


class Received(msgspec.Struct, frozen=True):
    """How many records came from one writer, without repeats, and the digest of all up to each
    `DIGEST_EVERY`th and up to the last."""

    records: int
    digests: tuple[bytes, ...]


class _Digested:
    """Records of one writer to one reader, digested as they come."""

    def __init__(self) -> None:
        self.records = 0
        self._digest = hashlib.sha256()
        self._blocks: list[bytes] = []

    def add(self, value: bytes) -> None:
        """The next record."""
        self._digest.update(b"%d:" % len(value))
        self._digest.update(value)
        self.records += 1
        if self.records % DIGEST_EVERY == 0:
            self._blocks.append(self.short)

    @property
    def short(self) -> bytes:
        """Of all so far."""
        return self._digest.digest()[:_SHORT]

    def received(self) -> Received:
        """What there is of it."""
        return Received(self.records, (*self._blocks, self.short))


class Arrivals:
    """What came to one partition of a stage, from each of its writers."""

    def __init__(self) -> None:
        self._digested: dict[Writer, _Digested] = {}

    def take(self, records: Iterable[StoredRecord]) -> None:
        """The next records of the partition. One that is missing fails the fold."""
        for record in records:
            told = decode_record(record.value)
            digested = self._digested.setdefault(told.writer, _Digested())
            if told.number == digested.records + 1:
                digested.add(record.value or b"")

    def received(self) -> dict[Writer, Received]:
        """By writer."""
        return {writer: digested.received() for writer, digested in self._digested.items()}


class SentComparison:
    """Compares what one partition of a stage sends, as its topic gives it, with what its readers received.

    What has not come to a reader yet is not counted.
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
            told = decode_record(value)
            span = f"one of the records {before * DIGEST_EVERY + 1} to {made.records}"
            source = (told.offset, told.ordinal)
            self._report(reader, "different", source, span, known.hex(), made.short.hex())
        if made.short != known or made.records == there.records:
            del self._left[reader]  # after a difference all digests are others

    def finish(self, offset: int) -> None:
        """The writer's topic is folded up to this offset: all that its readers have is to be explained."""
        for reader, (there, made) in self._left.items():
            if made.records < there.records:
                span = f"records {made.records + 1} to {there.records}"
                self._report(reader, "not recomputed", (offset, 0), span)

    def _report(
        self,
        reader: Target,
        kind: DifferenceKind,
        source: SourcePosition,
        span: str,
        received: str | None = None,
        made: str | None = None,
    ) -> None:
        """Records of this `span` are not what the writer's topic gives; digests say what each side has."""
        place = self._places.input(reader)
        field = f"{span} from {self._places.name(self._writer)}"
        text = "{}:{}".format(*source)
        self._audit.differs(Difference(kind, *place, None, text, source[0], field, received, made, None))
