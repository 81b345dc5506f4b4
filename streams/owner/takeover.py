"""Taking over a partition of the log. In this order: fence out the previous owner; read the tail of each
output; load the newest usable checkpoint; fold the log silently up to what was published, comparing at the
tails; continue. The consumer group's commits never matter, and no earlier owner needs to have ended cleanly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from driftline.streams.archive.epochs import Announced, CodeEpoch, epoch_output, epochs, tails_of
from driftline.streams.checkpoints.tails import OutputMark
from driftline.streams.errors import StreamsError
from driftline.streams.fold.inheritance import Bequest
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.outbox import Outbox
from driftline.streams.owner.owned_partition import Held, Inherited, OwnedPartition
from driftline.streams.owner.standby import Standby
from driftline.streams.owner.starting_point import Start, TakeOverRefused, inherited_start, starting_point
from driftline.streams.owner.topology import TopologyRefused, topology
from driftline.streams.records.ports import (
    Appender,
    BrokerSilent,
    Extent,
    Fenced,
    Place,
    RecordsMissing,
    StoredRecord,
)
from driftline.streams.records.positions import NOTHING, SourcePosition

ASKED_AT_ONCE = 8
"""Partitions whose models topic is read at the same time at the start, each over its own connection."""


class OtherCode(TakeOverRefused):
    """The partition's newest outputs were published by other code."""


async def refuse_other_code(deployment: Deployment) -> None:
    """Raises OtherCode if the newest outputs of a partition are from other code; else broker errors. Writes
    nothing. Other problems of a partition are reported when it is taken over.
    """
    try:
        await topology(deployment)
    except TopologyRefused:
        return  # each take-over reports it, too, until the topics are corrected
    turns = asyncio.Semaphore(ASKED_AT_ONCE)

    async def ask(place: Place) -> None:
        async with turns:
            await _refuse_other_code_at(deployment, place)

    asked = [ask(place) for place in deployment.announced]
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer


async def _refuse_other_code_at(deployment: Deployment, place: Place) -> None:
    """The same for one partition of the models topic."""
    try:
        await _epochs_of_this_code(deployment, place, (await deployment.broker.extents([place]))[place])
    except (OtherCode, BrokerSilent, RecordsMissing):
        raise
    except StreamsError:
        return  # only this partition is concerned: the others can be served


async def take_over(
    deployment: Deployment, partition: int, held: Held | None = None, standby: Standby | None = None
) -> OwnedPartition:
    """Become the owner of a partition.

    `held` is a state of it in this process. `standby` is one that this code has folded beside other
    code, whose outputs it takes over as they are.
    Raises TakeOverRefused (OtherCode when an upgrade is needed), TopologyRefused, AppendFailed and broker
    errors.
    """
    await topology(deployment)
    places = deployment.outputs(partition)
    if standby is None:
        # older code that is started again must not fence out newer code
        await _known_epochs(deployment, partition, {})
    written = [*places.values(), *deployment.targets]
    appender = await deployment.broker.fence(deployment.owner(partition), written)
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
    """Whether the outputs have grown since the fence: only a newer owner can have appended.

    A newer owner's checkpoint, beyond the ends seen here, would look like lost data.
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
        known = await _known_epochs(deployment, partition, extents)
        start = await starting_point(deployment, partition, extents, held, known)
    else:
        known = []
        start = await inherited_start(deployment, extents, standby)
    furthest = max(tail.position[0] for tail in start.tails.values())
    if furthest >= extent.end:
        raise TakeOverRefused(
            f"{log_place} ends at {extent.end}, but offset {furthest} has been answered already: the log was "
            "truncated. Restore it, or go on in another namespace"
        )
    positions = {kind: tail.position for kind, tail in start.tails.items()}
    # up to here the outputs are from other code; without any epoch they can only be from this code
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
        deployment.places.input,
    )
    if deployment.is_last and not known:
        epoch = CodeEpoch(partition, furthest + 1, deployment.code, tails_of(before))
        await outbox.announce("models", epoch_output(epoch))
    return OwnedPartition(
        deployment, start.processor, outbox, extent, start.header, _inherited_by(start, before)
    )


def _inherited_by(start: Start, before: Mapping[str, SourcePosition]) -> Inherited | None:
    """The outputs still to be inherited; None if other code has published nothing."""
    if start.standby is None:
        return None
    start.standby.see(start.tails)
    bequest = Bequest.up_to(before)
    return Inherited(start.standby, bequest) if bequest.furthest > NOTHING[0] else None


def _unproved(start: Start, before: Mapping[str, SourcePosition]) -> dict[str, StoredRecord]:
    """The records at the tails that are from this code and that the fold has not reached yet. A checkpoint
    may be older than the records that were published when it was finished.
    """
    folded = start.processor.next_offset
    return {
        kind: tail.record
        for kind, tail in start.tails.items()
        if tail.record is not None
        and tail.position[0] >= folded
        and tail.position > before.get(kind, NOTHING)
    }


async def _known_epochs(
    deployment: Deployment, partition: int, seen: Mapping[Place, Extent]
) -> list[Announced]:
    """All code epochs of a partition, the newest being this code's; empty if there is none yet, and for
    stages before the last, which announce none. Raises OtherCode, for those too. `seen` are extents known
    already.
    """
    own = deployment.outputs(partition).get("models")
    places = deployment.announced if own is None else [own]
    unseen = [place for place in places if place not in seen]
    extents = {**seen, **await deployment.broker.extents(unseen)} if unseen else seen
    known = [await _epochs_of_this_code(deployment, place, extents[place]) for place in places]
    return [] if own is None else known[0]


async def _epochs_of_this_code(deployment: Deployment, place: Place, extent: Extent) -> list[Announced]:
    """All code epochs of a place, oldest first, the newest being this code's. Raises OtherCode."""
    announced = await epochs(deployment.broker, place, extent.begin, extent.end)
    difference = deployment.code.difference(announced[-1].epoch.code) if announced else None
    if difference is not None:
        raise OtherCode(
            f"{place}: what is published up to here is of {difference}. Run the worker "
            "with that code, or take over from it by `driftline upgrade`"
        )
    return announced
