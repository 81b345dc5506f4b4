"""The audit: what was published, compared byte by byte with what the log gives.

A partition's log is folded from its start once more, and each output is compared with the published
record of the same source position: key, value and headers. All topics are walked in step with the fold,
so memory holds one chunk of each. Only what the code and the arithmetic of this process published is
compared; a stretch of other code is counted as unchecked, with the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from driftline.streams.archive.epochs import Code, CodeEpoch, Stretches, is_epoch
from driftline.streams.errors import StreamsError
from driftline.streams.records.difference import Difference, record_difference
from driftline.streams.records.messages import begins_with
from driftline.streams.records.outputs import KINDS, Output, Outputs
from driftline.streams.records.ports import StoredRecord
from driftline.streams.records.positions import NOTHING, SourcePosition, headers_of, source_of

DELETED = "deleted: neither Kafka nor the archive has the published record any more"

Fold = Callable[[Sequence[StoredRecord]], Outputs]
"""Folds the next records of the log and returns their outputs."""


class AuditedRange(msgspec.Struct, frozen=True):
    """What is compared: outputs caused by log offsets in [begin, end), or those of one prediction."""

    begin: int = 0
    end: int | None = None
    prediction: str | None = None

    def is_past(self, offset: int) -> bool:
        """Whether nothing from this log offset on is compared."""
        return self.end is not None and offset >= self.end


class PublishedTopic(NamedTuple):
    """One output partition from its first offset that can be read, `begin`, on; `partition` where it has
    another number than that of the log."""

    topic: str
    begin: int
    records: Iterable[Sequence[StoredRecord]]
    partition: int | None = None


class PartitionAudit(msgspec.Struct):
    """The result of the audit of one partition; counts are of records, `folded` of those of the log.

    Outputs beyond the end of their topic are not published yet, and not counted.
    """

    partition: int
    checked: int = 0
    equal: int = 0
    unchecked: dict[str, int] = msgspec.field(default_factory=dict)
    first_difference: Difference | None = None
    folded: int = 0

    def leave(self, reason: str) -> None:
        """Count one record that is not compared."""
        self.unchecked[reason] = self.unchecked.get(reason, 0) + 1

    def differs(self, difference: Difference) -> None:
        """Count one record that differs from the recomputed one; the first in the log's order is kept."""
        self.checked += 1
        if self.first_difference is None or difference.log_offset < self.first_difference.log_offset:
            self.first_difference = difference


class _Lane:
    """One kind of output: its published records, in step with the recomputed ones."""

    def __init__(
        self,
        kind: str,
        published: PublishedTopic,
        stretches: Stretches,
        selection: AuditedRange,
        audit: PartitionAudit,
        *,
        is_complete: bool,
    ) -> None:
        """`is_complete`: all outputs of the log are published already, as far as it is folded here."""
        self._topic = published.topic
        self._number = audit.partition if published.partition is None else published.partition
        self._is_complete = is_complete
        self._stretches = stretches
        self._selection = selection
        self._prefix = None if selection.prediction is None else begins_with(kind, selection.prediction)
        self._audit = audit
        self._pieces = deque([chain.from_iterable(published.records)])
        self._before_deleted = published.begin > 0
        self._last = NOTHING
        self._position = NOTHING
        self._head: StoredRecord | None = None
        self._advance()

    @property
    def is_open(self) -> bool:
        """Whether a published record is left that the selection may cover."""
        return self._head is not None and not self._selection.is_past(self._position[0])

    def take(self, outputs: Sequence[Output]) -> None:
        """Compare the next recomputed outputs."""
        for output in outputs:
            position = (output.offset, output.ordinal)
            self._unexplained_before(position)
            head = self._head
            if head is not None and self._position == position:
                self._compare(position, head, output)
                self._before_deleted = False
                self._advance()
            elif self._covers(position, output.value) and self._stretches.reason(position) is None:
                self._lacking(position, output)

    def pass_by(self, offset: int) -> None:
        """The log is folded up to this offset, inclusive: every published record up to it must have been
        recomputed."""
        self._unexplained_before((offset + 1, -1))

    def finish(self) -> None:
        """The fold is over: the records left belong to no record of the log."""
        while self.is_open:
            self._unexplained()

    def leave_all(self) -> None:
        """Count what is published as unchecked: no stretch is this code's."""
        while self.is_open:
            assert self._head is not None
            self._leave(self._position, self._head)
            self._advance()

    def more(self, records: Iterable[Sequence[StoredRecord]]) -> None:
        """Add the records published since."""
        self._pieces.append(chain.from_iterable(records))
        if self._head is None:
            self._advance()

    def _advance(self) -> None:
        """On to the next record that an input caused."""
        self._last = max(self._last, self._position)
        while self._pieces:
            for record in self._pieces[0]:
                if is_epoch(record):
                    continue
                position = _position(record)
                # the writer of a record without a position is unknown: it is reported at its place
                self._position = max(self._last, (0, -1)) if position is None else position
                self._head = record
                return
            self._pieces.popleft()
        self._head = None

    def _covers(self, position: SourcePosition, value: bytes | None) -> bool:
        selection = self._selection
        if position[0] < selection.begin or selection.is_past(position[0]):
            return False
        if selection.prediction is None:
            return True
        return self._prefix is not None and value is not None and value.startswith(self._prefix)

    def _leave(self, position: SourcePosition, record: StoredRecord) -> bool:
        """Whether a published record is not to be compared; it is counted when it is selected."""
        if not self._covers(position, record.value):
            return True
        reason = self._stretches.reason(position)
        if reason is None:
            return False
        self._audit.leave(reason)
        return True

    def _compare(self, position: SourcePosition, record: StoredRecord, output: Output) -> None:
        audit = self._audit
        if not self._covers(position, output.value):
            return
        reason = self._stretches.reason(position)
        if reason is not None:
            audit.leave(reason)
        elif (
            record.value == output.value
            and record.key == output.key
            and list(record.headers) == headers_of(output)
        ):
            audit.checked += 1
            audit.equal += 1
        else:
            audit.differs(record_difference(self._topic, self._number, position, record, output))

    def _lacking(self, position: SourcePosition, output: Output) -> None:
        """A recomputed output that is not among the published ones."""
        audit = self._audit
        if self._before_deleted:
            audit.leave(DELETED)
        elif self._is_complete or self._head is not None or position <= self._stretches.known_tail:
            audit.differs(record_difference(self._topic, self._number, position, None, output))

    def _unexplained_before(self, position: SourcePosition) -> None:
        while self._head is not None and self._position < position:
            self._unexplained()

    def _unexplained(self) -> None:
        """A published record that the log does not give, or that repeats an earlier one."""
        record = self._head
        assert record is not None
        if not self._leave(self._position, record):
            audit = self._audit
            repeated = _position(record) is not None and self._position <= self._last
            audit.differs(
                record_difference(self._topic, self._number, self._position, record, None, repeated=repeated)
            )
        self._before_deleted = False
        self._advance()


def _position(record: StoredRecord) -> SourcePosition | None:
    """The source position of a published record; None when its headers name none."""
    try:
        return source_of(record.headers)
    except StreamsError:
        return None


class PartitionAuditor:
    """Compares the published outputs of one partition with those of `fold` over its log, piece by piece.

    `published` are the output topics to compare, by kind, `epochs` the code epochs of the partition. With
    `is_complete` all outputs have been published before the log is folded here, so that a missing record is a
    difference even at a topic's end. A stage of a chain is compared in the epoch with this `number`, and
    `first_position` is the source position of its topic's offset 0.
    """

    def __init__(
        self,
        partition: int,
        code: Code,
        epochs: Sequence[CodeEpoch],
        published: Mapping[str, PublishedTopic],
        fold: Fold,
        selection: AuditedRange,
        *,
        is_complete: bool = False,
        number: int = 0,
        first_position: int = 0,
    ) -> None:
        self._fold = fold
        self._first_position = first_position
        self.audit = PartitionAudit(partition)
        stretches = {kind: Stretches(kind, epochs, code, number) for kind in KINDS if kind in published}
        self._lanes = {
            kind: _Lane(kind, published[kind], known, selection, self.audit, is_complete=is_complete)
            for kind, known in stretches.items()
        }
        self.has_own = any(known.any_own for known in stretches.values())
        """Whether anything was published by this code."""

    @property
    def is_open(self) -> bool:
        """Whether a published record is left to compare."""
        return any(lane.is_open for lane in self._lanes.values())

    def published(self, kind: str, records: Iterable[Sequence[StoredRecord]]) -> None:
        """More was published of a kind of output."""
        self._lanes[kind].more(records)

    def folded(self, records: Sequence[StoredRecord]) -> None:
        """Fold the next records of the log, and compare what they give."""
        out = self._fold(records)
        self.audit.folded += len(records)
        for kind, lane in self._lanes.items():
            lane.take(getattr(out, kind))
            lane.pass_by(self._first_position + records[-1].offset)

    def finish(self) -> None:
        """The log is at its end."""
        for lane in self._lanes.values():
            lane.finish()

    def leave_all(self) -> None:
        """Count what is published as unchecked: nothing of it is this code's."""
        for lane in self._lanes.values():
            lane.leave_all()


def audit_partition(
    partition: int,
    code: Code,
    epochs: Sequence[CodeEpoch],
    log: Iterable[Sequence[StoredRecord]],
    published: Mapping[str, PublishedTopic],
    fold: Fold,
    selection: AuditedRange,
) -> Iterator[PartitionAudit]:
    """Compare the published outputs of one partition with those of `fold` over its log.

    `log` holds the partition's records from offset 0 on; for the others see `PartitionAuditor`. Yields the
    result so far after each chunk, and at the end.
    """
    auditor = PartitionAuditor(partition, code, epochs, published, fold, selection)
    if not auditor.has_own:
        auditor.leave_all()
        yield auditor.audit
        return
    for records in log:
        if not auditor.is_open:
            break
        auditor.folded(records)
        yield auditor.audit
    auditor.finish()
    yield auditor.audit
