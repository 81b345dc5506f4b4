"""Stages of a chain before the last one, under new code beside the code that serves."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

from driftline.streams.archive.epochs import CodeEpoch, tails_of
from driftline.streams.checkpoints.checkpoint import CheckpointRefusal, load
from driftline.streams.checkpoints.tails import marks_of, read_tail
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.outbox import Outbox
from driftline.streams.owner.owned_partition import OwnedPartition
from driftline.streams.owner.upgrade.held_back import HeldBack
from driftline.streams.owner.upgrade.standby import NothingToInheritFrom
from driftline.streams.records.outputs import Target
from driftline.streams.records.ports import Appender, Extent, Place
from driftline.streams.records.positions import NOTHING, SourcePosition
from driftline.streams.stages.succession import Legacy


async def own_beside(
    deployment: Deployment, partition: int, appender: Appender, extents: Mapping[Place, Extent]
) -> OwnedPartition:
    """Own a stage before the last one beside the code that serves: it is folded from its topic's start, sends
    to this code's topics, and publishes nothing."""
    places, log_place = deployment.outputs(partition), deployment.log(partition)
    if extents[log_place].begin > 0:
        raise NothingToInheritFrom(
            f"{log_place} begins at {extents[log_place].begin}: offsets 0 to {extents[log_place].begin} are "
            "needed to take over from other code. Name an archive that has them in DRIFTLINE_ARCHIVE"
        )
    tails = {
        kind: await read_tail(deployment.broker, place, extents[place], None)
        for kind, place in places.items()
    }
    marks = marks_of(places, extents, tails)
    held_back = HeldBack()
    positions = {kind: tail.position for kind, tail in tails.items()}
    outbox = Outbox(appender, places, marks, positions, {}, deployment.places.input, held_back)
    fold = deployment.new_fold(partition)
    return OwnedPartition(deployment, fold, outbox, extents[log_place], None, None, held_back)


def chain_epoch(
    deployment: Deployment, partition: int, before: Mapping[str, SourcePosition], legacy: Legacy
) -> CodeEpoch:
    """The epoch of a partition of a chain's last stage."""
    assert deployment.itinerary is not None
    return CodeEpoch(
        partition,
        legacy.begins,
        deployment.code,
        tails_of(before),
        deployment.number,
        len(deployment.itinerary.writers(deployment.stage)),
        legacy.settled,
        legacy.reached,
        deployment.asks,
        legacy.unanswered,
    )


async def reported_before(
    deployment: Deployment, partition: int, tails: Mapping[str, SourcePosition]
) -> dict[str, SourcePosition]:
    """Up to where the code before has reported refusals of the log: its last one, or where it had come by its
    newest checkpoint."""
    target = Target(deployment.stage, partition)
    offsets = [tails["dead_letters"][0]]
    served = replace(deployment.places, number=deployment.number - 1)
    for name in reversed(list(await deployment.checkpoints.names(served.folder(target)))):
        try:
            checkpoint = await load(
                deployment.checkpoints, name, deployment.topic, partition, deployment.seal
            )
        except CheckpointRefusal:
            continue
        offsets.append(checkpoint.header.next_offset - 1)
        break
    return {"dead_letters": (max(offsets), sys.maxsize)} if max(offsets) >= 0 else {"dead_letters": NOTHING}
