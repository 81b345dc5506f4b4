"""Where a take-over starts to fold: from the newest state that fits what the broker holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from driftline.streams.archive.epochs import Announced
from driftline.streams.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointHeader,
    CheckpointRefusal,
    input_hash,
    load,
)
from driftline.streams.checkpoints.segment_files import SegmentLost
from driftline.streams.checkpoints.tails import BrokerChanged, OutputMark, Tail, read_tail
from driftline.streams.errors import StreamsError
from driftline.streams.fold.inheritance import Bequest
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.owned_partition import Held
from driftline.streams.owner.partition_fold import PartitionFold
from driftline.streams.owner.upgrade.chain_standby import ChainStandby, succeeded
from driftline.streams.owner.upgrade.held_back import Inherited
from driftline.streams.owner.upgrade.standby import NothingToInheritFrom, Standby, refuse_deleted
from driftline.streams.records.ports import Extent, Place
from driftline.streams.records.positions import NOTHING

log = logging.getLogger("driftline.takeover")


class TakeOverRefused(StreamsError):
    """Continuing could lose or repeat something; the message says what, and what to do."""


class Start(NamedTuple):
    """Where to fold from: a fold, and the header of its state; None for the log's start."""

    processor: PartitionFold
    header: CheckpointHeader | None
    tails: dict[str, Tail]
    standby: Standby | ChainStandby | None = None
    inherited: Inherited | None = None


async def starting_point(
    deployment: Deployment,
    partition: int,
    extents: Mapping[Place, Extent],
    held: Held | None,
    known: Sequence[Announced],
) -> Start:
    """The newest state that fits what the broker holds; else the start of the log."""
    refusals: list[CheckpointRefusal] = []
    if held is not None:
        fold = held.processor
        start = await _try(
            deployment,
            extents,
            known,
            "in memory",
            held.header,
            lambda: deployment.still_whole(fold),
            refusals,
        )
        if start is not None:
            return start
    for name in await _newest_first(deployment, partition):
        try:
            checkpoint = await load(
                deployment.checkpoints, name, deployment.log(partition).topic, partition, deployment.seal
            )
        except CheckpointRefusal as error:
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


async def _newest_first(deployment: Deployment, partition: int) -> Sequence[str]:
    """Names of the partition's checkpoints; none if they cannot be listed, as if all were lost."""
    try:
        return list(reversed(await deployment.checkpoints.names(deployment.folder(partition))))
    except OSError as error:
        log.error(
            "partition %s: the checkpoints cannot be read, its log is folded: %s",
            deployment.name(partition),
            error,
        )
        return []


def _builder(deployment: Deployment, checkpoint: Checkpoint) -> Callable[[], PartitionFold]:
    return lambda: deployment.restored_fold(checkpoint)


async def _try(
    deployment: Deployment,
    extents: Mapping[Place, Extent],
    known: Sequence[Announced],
    name: str,
    header: CheckpointHeader,
    build: Callable[[], PartitionFold],
    refusals: list[CheckpointRefusal],
) -> Start | None:
    """The state as a starting point, or None and one more refusal."""
    try:
        _check_code(deployment, name, header, known)
        await _check_log(deployment, name, header, extents)
        tails = await _tails(deployment, header.partition, extents, header.outputs)
        return Start(build(), header, tails)
    except BrokerChanged as error:
        refusals.append(CheckpointRefusal(name, str(error), broker_changed=True))
    except SegmentLost as error:
        refusals.append(CheckpointRefusal(name, str(error)))
    except CheckpointRefusal as error:
        refusals.append(error)
    return None


def _check_code(
    deployment: Deployment, name: str, header: CheckpointHeader, known: Sequence[Announced]
) -> None:
    difference = deployment.code.difference(header.code)
    if difference is not None:
        raise CheckpointRefusal(name, f"its state is of {difference}")
    since = [one for one in known if one.offset >= header.outputs["models"].end]
    if any(announced.epoch.code != deployment.code for announced in since):
        raise CheckpointRefusal(name, "other code has published since")
    if header.partitions != deployment.partitions:
        raise CheckpointRefusal(
            name,
            f"it is of a log of {header.partitions} partitions, the case has {deployment.partitions}",
        )


async def _check_log(
    deployment: Deployment, name: str, header: CheckpointHeader, extents: Mapping[Place, Extent]
) -> None:
    """Raises CheckpointRefusal if the state was folded from another log."""
    place = deployment.log(header.partition)
    extent = extents[place]
    if extent.topic_id != header.log_id:
        raise BrokerChanged(f"{place} was recreated: its topic id is {extent.topic_id}, not {header.log_id}")
    if extent.end < header.next_offset:
        raise BrokerChanged(
            f"{place} ends at {extent.end}, before offset {header.next_offset}: it was truncated"
        )
    if extent.begin > header.next_offset:
        raise CheckpointRefusal(
            name, f"{place} begins at {extent.begin}: offsets from {header.next_offset} on were deleted"
        )
    last = header.next_offset - 1
    if header.last_input and last >= extent.begin:
        records_there = [
            r async for records in deployment.broker.read(place, last, last + 1) for r in records
        ]
        if not records_there or input_hash(records_there[0]) != header.last_input:
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
        for kind in places
    }


def _no_checkpoint_fits(deployment: Deployment, partition: int, refusals: Sequence[CheckpointRefusal]) -> str:
    reasons = "\n".join(f"  {refusal}" for refusal in refusals)
    place = deployment.log(partition)
    again = (
        "To fold the log again from its start and publish what its outputs lack, remove this partition's "
        "checkpoints first; to start again, choose another namespace"
    )
    if deployment.stage > 0:
        again = (
            f"If {place.topic} is whole, and only an output is another one, remove this partition's "
            "checkpoints first: it is folded again from its start. If it is not, go on in another namespace: "
            "the order of its records is recorded there alone"
        )
    return (
        f"{place}: no checkpoint fits what the broker holds:\n{reasons}\n"
        f"If the broker lost data, restore it. {again}"
    )


async def _from_the_start(
    deployment: Deployment,
    partition: int,
    extents: Mapping[Place, Extent],
    known: Sequence[Announced],
) -> Start:
    place = deployment.log(partition)
    if extents[place].begin > 0:
        raise TakeOverRefused(
            f"{place} begins at {extents[place].begin}, and there is no usable checkpoint: offsets 0 to "
            f"{extents[place].begin} are needed, all of which neither Kafka nor an archive has. Restore a "
            "checkpoint, or what the archive lacks"
        )
    try:
        tails = await _tails(deployment, partition, extents, {})
    except BrokerChanged as error:
        raise TakeOverRefused(f"{error}. Restore a checkpoint, or choose another namespace") from error
    if deployment.is_last and deployment.number > 0:
        try:
            fold, inherited = await succeeded(deployment, partition, [one.epoch for one in known])
        except NothingToInheritFrom as error:
            raise TakeOverRefused(f"{error}, or restore a checkpoint") from error
        return Start(fold, None, tails, None, inherited)
    if deployment.itinerary is None and known and Bequest.up_to(known[-1].epoch.tails).furthest > NOTHING[0]:
        try:
            refuse_deleted(deployment, partition, extents)
        except NothingToInheritFrom as error:
            raise TakeOverRefused(f"{error}, or restore a checkpoint") from error
        standby = Standby(deployment, partition, rows=deployment.rows is not None)
        return Start(standby.processor, None, tails, standby)
    return Start(deployment.new_fold(partition), None, tails)


async def inherited_start(
    deployment: Deployment, extents: Mapping[Place, Extent], standby: Standby | ChainStandby
) -> Start:
    """The state that was folded beside other code."""
    header = await standby.header()
    try:
        await _check_log(deployment, "of the upgrade", header, extents)
        if isinstance(standby, Standby):
            refuse_deleted(deployment, standby.partition, extents)
        tails = await _tails(deployment, standby.partition, extents, header.outputs)
    except (BrokerChanged, NothingToInheritFrom, CheckpointRefusal) as error:
        raise TakeOverRefused(f"the upgrade cannot go on: {error}") from error
    return Start(standby.processor, header, tails, standby)
