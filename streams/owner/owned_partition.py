"""An owned partition: the log is folded, its outputs are sent, states are stored."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from driftline.features.state.online_view import RowKey, StampedRow
from driftline.streams.checkpoints.checkpoint import (
    CheckpointHeader,
    Unfinished,
    Written,
    checkpoint_name,
    input_hash,
    named,
    prune,
)
from driftline.streams.owner.alignment import AlignedFold
from driftline.streams.owner.deployment import Deployment, FoldCheckpoint
from driftline.streams.owner.outbox import Outbox
from driftline.streams.owner.partition_fold import PartitionFold
from driftline.streams.owner.published_counts import PublishedTally
from driftline.streams.owner.send_queue import Folded, SendQueue, pieces
from driftline.streams.owner.topology import topology
from driftline.streams.owner.upgrade.held_back import BESIDE, HeldBack, Inherited
from driftline.streams.records.outputs import Output, Outputs, Target
from driftline.streams.records.ports import Extent, RecordsMissing, StoredRecord

ROWS_AT_ONCE = 5_000
"""Rows offered together when every row is written again."""
LOOK_AT = 1_000
"""Largest number of offsets that one look at the log reads."""


@dataclass(slots=True)
class FoldProgress:
    """The progress of the silent fold, as offsets of the log."""

    begin: int
    at: int
    until: int

    @property
    def done(self) -> bool:
        """Whether everything that was in the log at the take-over is folded."""
        return self.at >= self.until


class Snapshot(NamedTuple):
    """A checkpoint on its way, to be finished once the online rows up to `ticket` are written. `segments` are
    those written before it."""

    name: str
    next_offset: int
    unfinished: Unfinished
    ticket: int
    segments: tuple[str, ...]


class Held(NamedTuple):
    """A state of a partition that is already in this process, its header, and the dead letters that it held
    back beside other code."""

    header: CheckpointHeader
    processor: PartitionFold
    letters: Sequence[Output] = ()


class OwnedPartition:
    """Processor and outbox of one partition, from a take-over until the next one by anybody."""

    def __init__(
        self,
        deployment: Deployment,
        processor: PartitionFold,
        outbox: Outbox,
        log: Extent,
        header: CheckpointHeader | None,
        inherited: Inherited | None,
        held_back: HeldBack | None = None,
    ) -> None:
        self.held_back = held_back
        """What it holds back beside the code that serves."""
        self._deployment = deployment
        self._inherited = inherited
        self._outbox = outbox
        self._log = log
        self._last: StoredRecord | None = None
        self._last_input = header.last_input if header is not None else ""
        self._checkpointed = -1
        self._work = 0.0
        self.tally = PublishedTally()
        """What this worker has published of the partition, and what folding costs."""
        if held_back is not None:
            self._rows_in: str | None = BESIDE
        elif header is None or inherited is not None:  # all rows are offered by this owner
            # None: in the store's first incarnation, which is still to come
            self._rows_in = self._incarnation or None
        else:
            self._rows_in = header.rows_in
        self.processor = processor
        self.partition = processor.partition
        self._segments = deployment.segment_collection(processor.partition)
        self._unacknowledged = 0
        self._aligned = AlignedFold(deployment.alignment, Target(deployment.stage, self.partition))
        self._queue = SendQueue(self._publish, lambda: self.on_failure())
        self.acknowledged = processor.next_offset
        """The first offset whose outputs have not been acknowledged."""
        self._no_records_before = processor.next_offset
        self._records_before = 0
        self.on_acknowledged: Callable[[int], object] = _nothing
        """Called with `acknowledged` when it has moved."""
        self.on_failure: Callable[[], object] = _nothing
        """Called when outputs could not be sent: nothing follows them."""
        self.progress = FoldProgress(processor.next_offset, processor.next_offset, log.end)

    @property
    def is_whole(self) -> bool:
        """Whether everything folded is acknowledged, nothing is left to inherit, and it is known which store
        has the rows."""
        return self.is_settled and self._inherited is None and self.knows_store

    @property
    def is_settled(self) -> bool:
        """Whether everything folded is acknowledged. Never again once the fold has failed."""
        return self._unacknowledged == 0

    @property
    def _incarnation(self) -> str:
        rows = self._deployment.rows
        return "" if rows is None else rows.incarnation

    @property
    def owes_rows(self) -> bool:
        """Whether the online store has lost rows since they were offered."""
        return self.held_back is None and self.knows_store and self._incarnation not in ("", self._rows_place)

    @property
    def knows_store(self) -> bool:
        """Whether it is known which online store has the rows, if any. Otherwise the state must not be kept:
        an owner that continued from it would offer every row again, with a later time than its own."""
        return self._deployment.rows is None or self._rows_place is not None

    @property
    def _rows_place(self) -> str | None:
        """The incarnation that has the rows, "" for none; None until the store was reached."""
        rows = self._deployment.rows
        if self._rows_in is None and rows is not None:
            return rows.first_incarnation or None
        return self._rows_in

    async def recover(self) -> AsyncIterator[None]:
        """Fold what was in the log at the take-over; only outputs beyond the tails are published. Yields
        after each chunk: the state is complete then and may be checkpointed. Raises Diverged when a published
        record differs from the folded one.
        """
        self._aligned.begin(self)
        async for _ in self._catch_up(self._log.end):
            self.progress.at = self.processor.next_offset
            yield
        self._outbox.prove_all(self._position(self._log.end))
        self._aligned.recovered(self)
        self.tally.serving_begins(self.processor.accepted, self.processor.labels.matched)
        await self._offer_lost_rows()
        self.progress.at = self.progress.until

    async def advance(self, records: Sequence[StoredRecord], begin: int) -> None:
        """Fold records handed over, after what is missing before them. Their outputs follow: see `settled`.

        `records` hold all that a reader of the log was given from offset `begin` on. Records folded before
        are skipped. Raises the error of an earlier output that failed.
        """
        folded = self.processor.next_offset
        first = records[0].offset
        if first > folded and (begin > folded or await self._deleted(folded)):
            async for _ in self._catch_up(first):
                pass
        elif first < folded:
            self._check_repeated(records)
            records = [record for record in records if record.offset >= folded]
        if records:
            await self._aligned.fold(self, records)

    def _check_repeated(self, records: Sequence[StoredRecord]) -> None:
        """Raises RecordsMissing if records folded before have changed: the log was rewritten."""
        last = self.processor.next_offset - 1
        for record in records:
            if record.offset == last and self.last_input and input_hash(record) != self.last_input:
                place = self._deployment.log(self.partition)
                raise RecordsMissing(f"{place}, offset {last}: it held another record when it was folded")

    @property
    def last_input(self) -> str:
        """Hash of the last record folded; empty before the first."""
        if self._last is not None:
            self._last_input = input_hash(self._last)
            self._last = None
        return self._last_input

    async def _deleted(self, offset: int) -> bool:
        """Whether the log no longer has an offset: then a gap in the records handed over is not a marker."""
        place = self._deployment.log(self.partition)
        return await self._deployment.broker.first_offset(place) > offset

    async def _catch_up(self, until: int) -> AsyncIterator[None]:
        """Fold [next offset, until) from the log, with a reader outside the group."""
        place = self._deployment.log(self.partition)
        async for records in self._deployment.broker.read(place, self.processor.next_offset, until):
            await self._aligned.fold(self, records)
            await self.settled()
            yield

    async def settled(self) -> None:
        """Return when the outputs of everything folded are acknowledged; raises the error of one that
        failed."""
        await self._queue.settled()

    async def fold(self, records: Sequence[StoredRecord]) -> None:
        """Fold records, which follow those before, without regard to other partitions; their outputs follow.
        Raises the error of an earlier output that failed."""
        for piece in pieces(records):
            self._unacknowledged += 1
            try:
                if self._inherited is None:
                    begun = time.thread_time()
                    out = self.processor.step(piece)
                    spent = time.thread_time() - begun
                    self._work += spent
                    self.tally.fold_seconds += spent
                else:
                    out = await self._inherit(piece, self._inherited)
            except Exception:
                await self.settled()  # outputs folded before are published nevertheless
                raise
            self._last = piece[-1]
            self._queue.put(Folded(out, piece[0].offset, piece[-1], self.processor.next_offset))

    async def _publish(self, folded: Folded) -> None:
        appended = await self._outbox.send(folded.out, self._position(folded.next_offset))
        self.tally.published(appended)
        await self._offer_rows(folded.out.rows)
        self.acknowledged = folded.next_offset
        self.tally.appended_at = folded.last.timestamp
        self._unacknowledged -= folded.folds
        self.on_acknowledged(self.acknowledged)

    def _position(self, offset: int) -> int:
        """The source position of outputs that a record at this offset causes."""
        return self._deployment.first_position + offset

    async def _inherit(self, records: Sequence[StoredRecord], inherited: Inherited) -> Outputs:
        """Fold records of which other code has published outputs."""
        out = await inherited.fold(records)
        if inherited.is_over():
            self._inherited = None
        return out

    async def publish_letters(self, letters: Sequence[Output]) -> None:
        """Publish what was held back beside the code that served before, and not reported by that."""
        if letters:
            out = Outputs(dead_letters=list(letters))
            self.tally.published(await self._outbox.send(out, self._position(self.processor.next_offset)))

    async def _offer_rows(self, changed: Mapping[RowKey, StampedRow]) -> None:
        """Offer the rows that changed."""
        rows = self._deployment.rows
        if rows is not None and changed and self.held_back is None:
            await rows.offer(changed)

    async def _offer_lost_rows(self) -> None:
        """Offer every row to a store that has lost rows. Nothing is folded meanwhile: the state is read."""
        rows = self._deployment.rows
        if rows is not None and self.owes_rows:
            offered_to = rows.incarnation
            every = self.processor.every_row()
            while some := dict(islice(every, ROWS_AT_ONCE)):
                await rows.offer(some)
            self._rows_in = offered_to  # not before: an owner that is given up meanwhile still owes the rest

    async def reach_store(self) -> None:
        """Return when the offered rows are in the online store, if it is not known yet which one that is."""
        rows = self._deployment.rows
        if rows is not None and not self.knows_store:
            await rows.written(rows.offered())

    def take_work(self) -> float:
        """Seconds of CPU that folding has taken since the last call."""
        work, self._work = self._work, 0.0
        return work

    def header(self) -> CheckpointHeader:
        """The header of a checkpoint at this moment. Everything folded has been acknowledged."""
        deployment = self._deployment
        return CheckpointHeader(
            deployment.topic,
            self._log.topic_id,
            self.partition,
            deployment.partitions,
            self.processor.next_offset,
            self.last_input,
            deployment.code,
            self._outbox.marks,
            self._rows_place or "",
            tuple(self.processor.segments()),
        )

    def snapshot(self) -> Snapshot | None:
        """A checkpoint of this moment, when everything folded has been acknowledged; to be given to `store`.
        None when there is nothing new in it, beside the code that serves, when that code's outputs are still
        being inherited, or while it is not known where the rows are.

        Raises OSError when there is nowhere to write it.

        There is after each take-over: the marks have moved, and those of a partition that is idle for
        longer than its outputs' retention would else be older than everything the outputs still hold.
        """
        if self.processor.next_offset == self._checkpointed or self._inherited is not None:
            return None
        if not self.knows_store or self.held_back is not None:
            return None
        deployment, header, processor = self._deployment, self.header(), self.processor
        name = checkpoint_name(deployment.folder(self.partition), header)
        unfinished = FoldCheckpoint(deployment, name, header, processor)
        self._checkpointed = header.next_offset
        rows = deployment.rows
        ticket = rows.offered() if rows is not None else 0
        return Snapshot(name, header.next_offset, unfinished, ticket, header.segments)

    async def store(self, snapshot: Snapshot) -> Written:
        """Finish a snapshot when its online rows are written, and remove the oldest checkpoints. Returns the
        cost. If it cannot be finished, a later one will be taken.
        """
        deployment = self._deployment
        try:
            written = await self._finished(snapshot)
        except BaseException:
            self._checkpointed = -1
            raise
        await prune(deployment.checkpoints, deployment.folder(self.partition), deployment.code, snapshot.name)
        if self._segments is not None:
            await self._segments.collect(snapshot.name, named(snapshot.segments, written.packed))
        return written

    async def _finished(self, snapshot: Snapshot) -> Written:
        rows = self._deployment.rows
        try:
            if rows is not None:
                await rows.written(snapshot.ticket)
        except BaseException:
            await snapshot.unfinished.discard()
            raise
        return await snapshot.unfinished.finish()

    async def has_other_topics(self) -> bool:
        """Whether the log or an output was recreated since the take-over; may be called at any time. Raises
        TopologyRefused when they cannot be served at all.
        """
        shapes = await topology(self._deployment)
        known = {self._deployment.topic: self._log.topic_id}
        for kind, mark in self._outbox.marks.items():
            known[getattr(self._deployment.topics, kind)] = mark.topic_id
        return any(shapes[name].topic_id != topic_id for name, topic_id in known.items())

    async def is_outdated(self) -> bool:
        """Whether another owner has fenced this one out, or the log is shorter than what was folded; called
        while nothing is being sent."""
        log, outputs = self._deployment.log(self.partition), self._deployment.outputs(self.partition)
        if self.held_back is not None:
            outputs = {}  # they are written by the code that serves
        extents = await self._deployment.broker.extents([log, *outputs.values()])
        marks = self._outbox.marks
        return extents[log].end < self.processor.next_offset or any(
            extents[place].end > marks[kind].end for kind, place in outputs.items()
        )

    @property
    def watermark(self) -> float:
        """The event time of its fold; `NEVER` before it has one."""
        return self.processor.watermark

    async def is_at_end(self) -> bool:
        """Whether everything that the log holds is answered; may be called at any time. In a backfill that is
        asked often: the log is not read again before what was seen in it is answered."""
        if not self.is_settled or self.answered_to < self._records_before:
            return False
        try:
            return not await self.goes_on()
        except RecordsMissing:
            return False  # this partition's own take-over reports what that means

    async def goes_on(self) -> bool:
        """Whether the log has records that were not answered; its last offsets may be markers only."""
        place, begin = self._deployment.log(self.partition), self.answered_to
        end = (await self._deployment.broker.extents([place]))[place].end
        until = min(end, begin + LOOK_AT)
        read = [records async for records in self._deployment.broker.read(place, begin, until) if records]
        if read:
            self._records_before = read[-1][-1].offset + 1
        else:
            self._no_records_before = until
        return bool(read)

    @property
    def answered_to(self) -> int:
        """The offset before which no record waits: `acknowledged`, or behind it, where only markers of
        transactions were seen to follow."""
        return max(self.acknowledged, self._no_records_before)

    async def close(self) -> None:
        """End the sending and the outbox."""
        self._aligned.end(self)
        await self._queue.close()
        await self._outbox.close()


def _nothing(*_: object) -> None:
    """The default: nothing is called."""
