"""Taking a partition of the log over, and folding it on.

In this order: fence out the owner before; see how far each output has come; load the newest usable
checkpoint; fold the log silently up to what was published, comparing at the tails; go on. What the
consumer group has committed never matters, and no earlier owner has to have ended well.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from streams.broker import Appender, Extent, Fenced, Place, StoredRecord
from streams.checkpoint import (
    Checkpoint,
    CheckpointHeader,
    Refusal,
    Unfinished,
    checkpoint_name,
    encode,
    input_hash,
    load,
    prune,
)
from streams.deployment import Deployment
from streams.epochs import Announced, CodeEpoch, epoch_output, epochs, tails_of
from streams.errors import StreamsError
from streams.inheritance import Bequest
from streams.outbox import Outbox
from streams.outputs import KINDS, Outputs
from streams.positions import NOTHING, Position
from streams.processor import PartitionProcessor
from streams.tails import BrokerChanged, OutputMark, Tail, read_tail
from streams.upgrade import NothingToInheritFrom, Standby, refuse_deleted

log = logging.getLogger("driftline.takeover")


class TakeOverRefused(StreamsError):
    """Going on could lose or repeat something; the message says what, and what to do."""


class OtherCode(TakeOverRefused):
    """The partition's newest outputs were published by other code."""


@dataclass(slots=True)
class Progress:
    """How far the silent fold has come: offsets of the log."""

    begin: int
    at: int
    until: int

    @property
    def done(self) -> bool:
        """Whether everything that was in the log at the take-over is folded."""
        return self.at >= self.until


class Snapshot(NamedTuple):
    """A checkpoint on its way, to be finished once the online rows up to `ticket` are written."""

    next_offset: int
    unfinished: Unfinished
    ticket: int


class _Start(NamedTuple):
    """Where to fold from: a processor, and the header of the state it has; None for the log's start."""

    processor: PartitionProcessor
    header: CheckpointHeader | None
    tails: dict[str, Tail]
    standby: Standby | None = None


class Inherited(NamedTuple):
    """A state of new code, and how far the outputs are other code's."""

    standby: Standby
    bequest: Bequest


class OwnedPartition:
    """Processor and outbox of one partition, from a take-over until the next one anywhere."""

    def __init__(
        self,
        deployment: Deployment,
        processor: PartitionProcessor,
        outbox: Outbox,
        log: Extent,
        header: CheckpointHeader | None,
        inherited: Inherited | None,
    ) -> None:
        self._deployment = deployment
        self._inherited = inherited
        self._outbox = outbox
        self._log = log
        self._last: StoredRecord | None = None
        self._last_input = header.last_input if header is not None else ""
        self._checkpointed = -1
        self.processor = processor
        self.partition = processor.partition
        self._all_acknowledged = True
        self.acknowledged = processor.next_offset
        """The first offset whose outputs have not been acknowledged."""
        self.progress = Progress(processor.next_offset, processor.next_offset, log.end)

    @property
    def is_whole(self) -> bool:
        """Whether everything folded has been acknowledged, and nothing is left to inherit."""
        return self._all_acknowledged and self._inherited is None

    async def recover(self) -> AsyncIterator[None]:
        """Fold what was in the log at the take-over; only what lies beyond the tails is put out.

        Yields after each chunk: the state is whole then and may be checkpointed. Raises Diverged when
        something published is not what is folded.
        """
        async for _ in self._catch_up(self._log.end):
            self.progress.at = self.processor.next_offset
            yield
        self._outbox.prove_all(self._log.end)
        self.progress.at = self.progress.until

    async def advance(self, records: Sequence[StoredRecord], begin: int) -> None:
        """Fold records handed over, after what is missing before them; returns when all is sent.

        `records` hold all that a reader of the log was given from offset `begin` on. Records folded
        before are skipped.
        """
        folded = self.processor.next_offset
        first = records[0].offset
        if first > folded and (begin > folded or await self._deleted(folded)):
            async for _ in self._catch_up(first):
                pass
        elif first < folded:
            records = [record for record in records if record.offset >= folded]
        if records:
            await self._fold(records)

    async def _deleted(self, offset: int) -> bool:
        """Whether the log no longer has an offset: a gap in what was handed over is then no marker."""
        place = self._deployment.log(self.partition)
        return await self._deployment.broker.first_offset(place) > offset

    async def _catch_up(self, until: int) -> AsyncIterator[None]:
        """Fold [next offset, until) from the log, with a reader outside the group."""
        place = self._deployment.log(self.partition)
        async for records in self._deployment.broker.read(place, self.processor.next_offset, until):
            await self._fold(records)
            yield

    async def _step(self, records: Sequence[StoredRecord]) -> Outputs:
        if self._inherited is None:
            return self.processor.step(records)
        standby, bequest = self._inherited
        out = await standby.fold(records, bequest)
        if self.processor.next_offset > bequest.furthest:
            self._inherited = None
        return out

    async def _fold(self, records: Sequence[StoredRecord]) -> None:
        self._all_acknowledged = False
        out = await self._step(records)
        self._last = records[-1]
        await self._outbox.send(out, self.processor.next_offset)
        if self._deployment.rows is not None and out.rows:
            await self._deployment.rows.offer(out.rows)
        self.acknowledged = self.processor.next_offset
        self._all_acknowledged = True

    def header(self) -> CheckpointHeader:
        """What a checkpoint of this moment is of. Everything folded has been acknowledged."""
        deployment = self._deployment
        if self._last is not None:
            self._last_input = input_hash(self._last)
            self._last = None
        return CheckpointHeader(
            deployment.topics.log,
            self._log.topic_id,
            self.partition,
            deployment.case.partitions,
            self.processor.next_offset,
            self._last_input,
            deployment.code,
            self._outbox.marks,
        )

    def snapshot(self) -> Snapshot | None:
        """A checkpoint of this moment, to be given to `store`; None when there is nothing new in it, or
        when other code's outputs are still being inherited.

        There is after each take-over: the marks have moved, and those of a partition that is idle for
        longer than its outputs' retention would else be older than everything the outputs still hold.
        """
        if self.processor.next_offset == self._checkpointed or self._inherited is not None:
            return None
        self._checkpointed = self.processor.next_offset
        deployment, header, processor = self._deployment, self.header(), self.processor
        unfinished = deployment.checkpoints.begin(
            checkpoint_name(header),
            lambda: encode(Checkpoint(header, processor.snapshot()), deployment.seal),
        )
        rows = deployment.rows
        return Snapshot(header.next_offset, unfinished, rows.offered() if rows is not None else 0)

    async def store(self, snapshot: Snapshot) -> float:
        """Finish a snapshot when its online rows are written, and remove the oldest checkpoints.

        Returns the seconds of CPU that it took.
        """
        deployment = self._deployment
        try:
            if deployment.rows is not None:
                await deployment.rows.written(snapshot.ticket)
        except BaseException:
            await snapshot.unfinished.discard()
            raise
        cost = await snapshot.unfinished.finish()
        await prune(deployment.checkpoints, self.partition, deployment.code)
        return cost

    async def is_fenced(self) -> bool:
        """Whether somebody has fenced this owner out; to be asked while nothing is on its way."""
        place = self._deployment.outputs(self.partition)["models"]
        end = (await self._deployment.broker.extents([place]))[place].end
        return end > self._outbox.marks["models"].end

    async def close(self) -> None:
        """End the outbox."""
        await self._outbox.close()


class Held(NamedTuple):
    """A state of a partition that is in this process already, and what it is of."""

    header: CheckpointHeader
    processor: PartitionProcessor


async def take_over(
    deployment: Deployment, partition: int, held: Held | None = None, standby: Standby | None = None
) -> OwnedPartition:
    """Become the owner of a partition.

    `held` is a state of it in this process. `standby` is one that this code has folded beside other
    code, whose outputs it takes over as they are.
    Raises TakeOverRefused (OtherCode when an upgrade is needed), AppendFailed and broker errors.
    """
    places = deployment.outputs(partition)
    if standby is None:
        # newer code must not be fenced out by older code that came back
        extents = await deployment.broker.extents([places["models"]])
        await _epochs_of_this_code(deployment, partition, extents)
    appender = await deployment.broker.fence(deployment.owner(partition), list(places.values()))
    try:
        log_place = deployment.log(partition)
        extents = await deployment.broker.extents([log_place, *places.values()])
        try:
            return await _resume(deployment, partition, appender, extents, held, standby)
        except TakeOverRefused as error:
            if await _changed_hands(deployment, partition, extents):
                raise Fenced(f"{log_place}: another owner has taken it over meanwhile") from error
            raise
    except BaseException:
        await appender.close()
        raise


async def _changed_hands(deployment: Deployment, partition: int, extents: Mapping[Place, Extent]) -> bool:
    """Whether the outputs have grown since the fence, which nobody but a newer owner can have done.

    What a newer owner leaves behind (a checkpoint beyond the ends seen here) looks like lost data.
    """
    places = list(deployment.outputs(partition).values())
    now = await deployment.broker.extents(places)
    return any(now[place].end > extents[place].end for place in places)


async def _resume(
    deployment: Deployment,
    partition: int,
    appender: Appender,
    extents: Mapping[Place, Extent],
    held: Held | None,
    standby: Standby | None,
) -> OwnedPartition:
    places = deployment.outputs(partition)
    log_place = deployment.log(partition)
    extent = extents[log_place]
    if standby is None:
        known = await _epochs_of_this_code(deployment, partition, extents)
        start = await _starting_point(deployment, partition, extents, held, known)
    else:
        known = []
        start = await _inherited(deployment, extents, standby)
    furthest = max(tail.position[0] for tail in start.tails.values())
    if furthest >= extent.end:
        raise TakeOverRefused(
            f"{log_place} ends at {extent.end}, but offset {furthest} has been answered already: the log was "
            "truncated. Restore it, or go on in another namespace"
        )
    positions = {kind: tail.position for kind, tail in start.tails.items()}
    # up to here the outputs are other code's; without any epoch they can be of none but this
    before = known[-1].epoch.tails if known else positions if standby else dict.fromkeys(positions, NOTHING)
    outbox = Outbox(
        appender,
        places,
        {
            kind: OutputMark(extents[place].topic_id, extents[place].end, tail.position, tail.offset)
            for kind, place in places.items()
            for tail in (start.tails[kind],)
        },
        positions,
        _unproved(start, before),
    )
    if not known:
        epoch = CodeEpoch(partition, furthest + 1, deployment.code, tails_of(before))
        await outbox.announce("models", epoch_output(epoch))
    return OwnedPartition(
        deployment, start.processor, outbox, extent, start.header, _inherited_by(start, before)
    )


def _inherited_by(start: _Start, before: Mapping[str, Position]) -> Inherited | None:
    """What is still to be inherited; None when other code has published nothing."""
    if start.standby is None:
        return None
    start.standby.see(start.tails)
    bequest = Bequest.up_to(before)
    return Inherited(start.standby, bequest) if bequest.furthest > NOTHING[0] else None


def _unproved(start: _Start, before: Mapping[str, Position]) -> dict[str, StoredRecord]:
    """The records at the tails that the fold has yet to come to and that are this code's.

    A checkpoint may have been taken before the fold had come to what was published by then.
    """
    folded = start.processor.next_offset
    return {
        kind: tail.record
        for kind, tail in start.tails.items()
        if tail.record is not None
        and tail.position[0] >= folded
        and tail.position > before.get(kind, NOTHING)
    }


async def _epochs_of_this_code(
    deployment: Deployment, partition: int, extents: Mapping[Place, Extent]
) -> list[Announced]:
    """All code epochs, the newest being this code's; empty when there is none yet. Raises OtherCode."""
    place = deployment.outputs(partition)["models"]
    found = await epochs(deployment.broker, place, extents[place].begin, extents[place].end)
    difference = deployment.code.difference(found[-1].epoch.code) if found else None
    if difference is not None:
        raise OtherCode(
            f"{deployment.log(partition)}: what is published up to here is of {difference}. Run the worker "
            "with that code, or take over from it by `driftline upgrade`"
        )
    return found


async def _inherited(deployment: Deployment, extents: Mapping[Place, Extent], standby: Standby) -> _Start:
    """The state that was folded beside other code."""
    header = await standby.header()
    try:
        await _check_log(deployment, "of the upgrade", header, extents)
        refuse_deleted(deployment, standby.partition, extents)
        tails = await _tails(deployment, standby.partition, extents, header.outputs)
    except (BrokerChanged, NothingToInheritFrom, Refusal) as error:
        raise TakeOverRefused(f"the upgrade cannot go on: {error}") from error
    return _Start(standby.processor, header, tails, standby)


async def _starting_point(
    deployment: Deployment,
    partition: int,
    extents: Mapping[Place, Extent],
    held: Held | None,
    known: Sequence[Announced],
) -> _Start:
    """The newest state that fits what the broker holds; else the start of the log."""
    refusals: list[Refusal] = []
    if held is not None:
        processor = held.processor
        start = await _try(deployment, extents, known, "in memory", held.header, lambda: processor, refusals)
        if start is not None:
            return start
    for name in reversed(list(await deployment.checkpoints.names(partition))):
        try:
            checkpoint = await load(
                deployment.checkpoints, name, deployment.topics.log, partition, deployment.seal
            )
        except Refusal as error:
            refusals.append(error)
            continue
        start = await _try(
            deployment, extents, known, name, checkpoint.header, _builder(deployment, checkpoint), refusals
        )
        if start is not None:
            return start
    for refusal in refusals:
        log.warning("%s", refusal)
    if any(refusal.broker_changed for refusal in refusals):
        raise TakeOverRefused(_no_checkpoint_fits(deployment, partition, refusals))
    return await _from_the_start(deployment, partition, extents, known)


def _builder(deployment: Deployment, checkpoint: Checkpoint) -> Callable[[], PartitionProcessor]:
    def build() -> PartitionProcessor:
        return PartitionProcessor.restored(
            deployment.case,
            checkpoint.header.partition,
            checkpoint.state,
            rows=deployment.rows is not None,
        )

    return build


async def _try(
    deployment: Deployment,
    extents: Mapping[Place, Extent],
    known: Sequence[Announced],
    name: str,
    header: CheckpointHeader,
    build: Callable[[], PartitionProcessor],
    refusals: list[Refusal],
) -> _Start | None:
    """The state as a starting point, or None and one more refusal."""
    try:
        _check_code(deployment, name, header, known)
        await _check_log(deployment, name, header, extents)
        tails = await _tails(deployment, header.partition, extents, header.outputs)
    except BrokerChanged as error:
        refusals.append(Refusal(name, str(error), broker_changed=True))
        return None
    except Refusal as error:
        refusals.append(error)
        return None
    return _Start(build(), header, tails)


def _check_code(
    deployment: Deployment, name: str, header: CheckpointHeader, known: Sequence[Announced]
) -> None:
    difference = deployment.code.difference(header.code)
    if difference is not None:
        raise Refusal(name, f"its state is of {difference}")
    mark = header.outputs["models"]
    if any(found.offset >= mark.end and found.epoch.code != deployment.code for found in known):
        raise Refusal(name, "other code has published since")
    if header.partitions != deployment.case.partitions:
        raise Refusal(
            name,
            f"it is of a log of {header.partitions} partitions, the case has {deployment.case.partitions}",
        )


async def _check_log(
    deployment: Deployment, name: str, header: CheckpointHeader, extents: Mapping[Place, Extent]
) -> None:
    """Raises Refusal when the log is not the one that the state was folded from."""
    place = deployment.log(header.partition)
    extent = extents[place]
    if extent.topic_id != header.log_id:
        raise BrokerChanged(f"{place} was made anew: its topic id is {extent.topic_id}, not {header.log_id}")
    if extent.end < header.next_offset:
        raise BrokerChanged(
            f"{place} ends at {extent.end}, before offset {header.next_offset}: it was truncated"
        )
    if extent.begin > header.next_offset:
        raise Refusal(
            name, f"{place} begins at {extent.begin}: offsets from {header.next_offset} on were deleted"
        )
    last = header.next_offset - 1
    if header.last_input and last >= extent.begin:
        found = [r async for records in deployment.broker.read(place, last, last + 1) for r in records]
        if not found or input_hash(found[0]) != header.last_input:
            raise BrokerChanged(f"{place}, offset {last}: it holds another record than the one folded before")


async def _tails(
    deployment: Deployment,
    partition: int,
    extents: Mapping[Place, Extent],
    marks: Mapping[str, OutputMark],
) -> dict[str, Tail]:
    places = deployment.outputs(partition)
    return {
        kind: await read_tail(deployment.broker, places[kind], extents[places[kind]], marks.get(kind))
        for kind in KINDS
    }


def _no_checkpoint_fits(deployment: Deployment, partition: int, refusals: Sequence[Refusal]) -> str:
    reasons = "\n".join(f"  {refusal}" for refusal in refusals)
    return (
        f"{deployment.log(partition)}: no checkpoint fits what the broker holds:\n{reasons}\n"
        "If the broker lost data, restore it. To fold the log again from its start and publish what its "
        "outputs lack, remove this partition's checkpoints first; to begin anew, choose another namespace"
    )


async def _from_the_start(
    deployment: Deployment,
    partition: int,
    extents: Mapping[Place, Extent],
    known: Sequence[Announced],
) -> _Start:
    place = deployment.log(partition)
    if extents[place].begin > 0:
        raise TakeOverRefused(
            f"{place} begins at {extents[place].begin}, and there is no usable checkpoint: offsets 0 to "
            f"{extents[place].begin} are needed. Restore a checkpoint, or name an archive that has them"
        )
    try:
        tails = await _tails(deployment, partition, extents, {})
    except BrokerChanged as error:
        raise TakeOverRefused(f"{error}. Restore a checkpoint, or choose another namespace") from error
    if known and Bequest.up_to(known[-1].epoch.tails).furthest > NOTHING[0]:
        try:
            refuse_deleted(deployment, partition, extents)
        except NothingToInheritFrom as error:
            raise TakeOverRefused(f"{error}, or restore a checkpoint") from error
        standby = Standby(deployment, partition)
        return _Start(standby.processor, None, tails, standby)
    processor = PartitionProcessor(deployment.case, partition, rows=deployment.rows is not None)
    return _Start(processor, None, tails)
