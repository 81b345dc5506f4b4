"""Taking over a partition of the log. In this order: fence out the previous owner; read the tail of each
output; load the newest usable checkpoint; fold the log silently up to what was published, comparing at the
tails; continue. The consumer group's commits never matter, and no earlier owner needs to have ended cleanly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from driftline.features.state.event_time import NEVER
from driftline.streams.archive.epochs import Announced, CodeEpoch, epoch_output, epochs, tails_of
from driftline.streams.checkpoints.tails import Tail, marks_of
from driftline.streams.errors import StreamsError
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.outbox import Outbox
from driftline.streams.owner.owned_partition import Held, OwnedPartition
from driftline.streams.owner.starting_point import Start, TakeOverRefused, inherited_start, starting_point
from driftline.streams.owner.topology import TopologyRefused, topology
from driftline.streams.owner.upgrade.beside import chain_epoch, own_beside, reported_before
from driftline.streams.owner.upgrade.chain_standby import ChainStandby, intake_succeeded
from driftline.streams.owner.upgrade.held_back import Inherited
from driftline.streams.owner.upgrade.standby import Standby
from driftline.streams.records.outputs import Outputs
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
from driftline.streams.stages.succession import Legacy

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
    deployment: Deployment,
    partition: int,
    held: Held | None = None,
    standby: Standby | ChainStandby | None = None,
) -> OwnedPartition:
    """Become the owner of a partition.

    `held` is a state of it in this process. `standby` is one that this code has folded beside other
    code, whose outputs it takes over as they are.
    Raises TakeOverRefused (OtherCode when an upgrade is needed), TopologyRefused, AppendFailed and broker
    errors.
    """
    await topology(deployment)
    places = deployment.outputs(partition)
    if deployment.is_beside:
        places = {}  # the code that serves writes them
    elif standby is None:
        # older code that is started again must not fence out newer code
        await _known_epochs(deployment, partition, {})
    written = [*places.values(), *deployment.targets]
    appender = await deployment.broker.fence(deployment.owner(partition), written)
    try:
        log_place = deployment.log(partition)
        extents = await deployment.broker.extents([log_place, *deployment.outputs(partition).values()])
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
    standby: Standby | ChainStandby | None,
) -> OwnedPartition:
    places, log_place = deployment.outputs(partition), deployment.log(partition)
    extent, first = extents[log_place], deployment.first_position
    if deployment.is_beside:
        return await own_beside(deployment, partition, appender, extents)
    if standby is None:
        known = await _known_epochs(deployment, partition, extents)
        start = await starting_point(deployment, partition, extents, held, known)
    else:
        known = []
        start = await inherited_start(deployment, extents, standby)
    furthest = max(tail.position[0] for tail in start.tails.values())
    if furthest - first >= extent.end:
        raise TakeOverRefused(
            f"{log_place} ends at {extent.end}, but offset {furthest - first} has been answered "
            "already: the log was truncated. Restore it, or go on in another namespace"
        )
    before = await _before(deployment, partition, start.tails, known, is_heir=standby is not None)
    outbox = Outbox(
        appender,
        places,
        marks_of(places, extents, start.tails),
        {kind: max(tail.position, before.get(kind, NOTHING)) for kind, tail in start.tails.items()},
        _unproved(start, before, first),
        deployment.places.input,
    )
    inherited = start.inherited
    if isinstance(start.standby, Standby):
        inherited = await _inherited_by(start.standby, start.tails, before)
    legacy = None
    if isinstance(standby, ChainStandby):
        legacy = await standby.legacy(start.tails)
        inherited = standby.inherited(legacy)
    epoch = known[-1].epoch if known else _new_epoch(deployment, partition, extent, before, furthest, legacy)
    if epoch is not None and not known:
        await outbox.announce("models" if deployment.is_last else "dead_letters", epoch_output(epoch))
    if deployment.follows and epoch is not None:
        inherited = await intake_succeeded(deployment, start.processor, epoch)
    owned = OwnedPartition(deployment, start.processor, outbox, extent, start.header, inherited)
    if held is not None and start.processor is held.processor:
        await owned.publish_letters(held.letters)
    return owned


async def _before(
    deployment: Deployment,
    partition: int,
    tails: Mapping[str, Tail],
    known: Sequence[Announced],
    *,
    is_heir: bool,
) -> Mapping[str, SourcePosition]:
    """Up to where the outputs are from other code; without any epoch they can only be from this code."""
    positions = {kind: tail.position for kind, tail in tails.items()}
    if known:
        return known[-1].epoch.tails
    if deployment.follows:
        return await reported_before(deployment, partition, positions)
    return positions if is_heir else dict.fromkeys(positions, NOTHING)


def _new_epoch(
    deployment: Deployment,
    partition: int,
    log: Extent,
    before: Mapping[str, SourcePosition],
    furthest: int,
    legacy: Legacy | None,
) -> CodeEpoch | None:
    """Says that the outputs beyond those before are this code's: with the models, and of a chain that was
    taken over with the refusals of the log, too. None of a stage that says nothing."""
    if deployment.is_last and deployment.itinerary is not None:
        legacy = Legacy(furthest + 1, NEVER, NEVER) if legacy is None else legacy
        return chain_epoch(deployment, partition, before, legacy)
    code, tails = deployment.code, tails_of(before)
    if deployment.is_last:
        return CodeEpoch(partition, furthest + 1, code, tails, asks=deployment.asks)
    if deployment.follows:
        first = before["dead_letters"][0] + 1
        return CodeEpoch(partition, first, code, tails, deployment.number, forgets_at=log.end)
    return None


async def _inherited_by(
    standby: Standby, tails: Mapping[str, Tail], before: Mapping[str, SourcePosition]
) -> Inherited | None:
    """The outputs still to be inherited; None if other code has published nothing."""
    standby.see(tails)
    bequest = await standby.bequest(before)
    if bequest.furthest == NOTHING[0]:
        return None

    async def fold(records: Sequence[StoredRecord]) -> Outputs:
        return await standby.fold(records, bequest)

    return Inherited(fold, lambda: standby.processor.next_offset > bequest.furthest)


def _unproved(start: Start, before: Mapping[str, SourcePosition], first: int) -> dict[str, StoredRecord]:
    """The records at the tails that are from this code and that the fold has not reached yet. A checkpoint
    may be older than the records that were published when it was finished.
    """
    folded = first + start.processor.next_offset
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
    outputs = deployment.outputs(partition)
    own = outputs.get("models")
    places = deployment.announced if own is None else [own]
    unseen = [place for place in places if place not in seen]
    extents = {**seen, **await deployment.broker.extents(unseen)} if unseen else seen
    known = [await _epochs_of_this_code(deployment, place, extents[place]) for place in places]
    if own is not None:
        return known[0]
    if not deployment.follows:
        return []
    # the intake of a chain tells from where on it reports refusals, when it follows that of other code
    letters = outputs["dead_letters"]
    extent = seen[letters] if letters in seen else (await deployment.broker.extents([letters]))[letters]
    announced = await epochs(deployment.broker, letters, extent.begin, extent.end)
    return announced if announced and announced[-1].epoch.number == deployment.number else []


async def _epochs_of_this_code(deployment: Deployment, place: Place, extent: Extent) -> list[Announced]:
    """All code epochs of a place, oldest first, the newest being this code's. Raises OtherCode."""
    announced = await epochs(deployment.broker, place, extent.begin, extent.end)
    difference = _difference(deployment, announced[-1].epoch) if announced else None
    if difference is not None:
        raise OtherCode(
            f"{place}: what is published up to here is of {difference}. Run the worker "
            "with that code, or take over from it by `driftline upgrade`"
        )
    return announced


def _difference(deployment: Deployment, epoch: CodeEpoch) -> str | None:
    """Why an epoch is not the deployment's; None if it is."""
    difference = deployment.code.difference(epoch.code)
    if difference is None and epoch.number != deployment.number:
        return f"this code, in epoch {epoch.number} and not {deployment.number}: it was taken over from since"
    return difference
