"""What the lab does to checkpoints and topics can be mended, whatever owners remove meanwhile."""

from __future__ import annotations

from functools import partial
from random import Random

from driftline.streams.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointContent,
    CheckpointHeader,
    checkpoint_name,
    encode,
    prune,
)
from driftline.streams.declare.plan import plan_of
from driftline.streams.records.outputs import Target
from driftline.streams.stages.itinerary import Itinerary
from tests.simulation.chains.deliveries import deliveries
from tests.simulation.chains.group import Group
from tests.simulation.connections import StoreConnection
from tests.simulation.orders import CODE
from tests.simulation.virtual_loop import Process, VirtualLoop
from tests.simulation.world import SEAL, World

HISTORIES = range(200)
STORED = 8
TARGET = Target(1, 0)


async def stores(world: World, process: Process) -> None:
    """What an owner does to the checkpoints of one partition."""
    world.fenced_at[process] = 0
    connection = StoreConnection(world, process)
    place, folder = world.stages.input(TARGET), world.stages.folder(TARGET)
    for number in range(1, STORED + 1):
        header = CheckpointHeader(place.topic, "id", TARGET.partition, 2, number * 10, "", CODE, {})
        name, content = checkpoint_name(folder, header), encode(Checkpoint(header, b""), SEAL)
        made = partial(CheckpointContent, content, [])
        await connection.begin(name, lambda made=made: made).finish()
        await prune(connection, folder, CODE, name)


def test_a_partition_whose_topic_is_trimmed_has_a_checkpoint_that_is_as_far() -> None:
    trimmed = 0
    for seed in HISTORIES:
        random = Random(seed)
        loop = VirtualLoop(random)
        world = World(random, deliveries, loop, None, Itinerary(deliveries, plan_of(deliveries, 2)))
        group = Group(world, [])
        stored = world.places[world.stages.input(TARGET)]
        process = Process("owner")
        with loop.running():
            owner = loop.spawn(process, "owner", stores(world, process))
            while not owner.done():
                loop.step()
                for _ in range(random.choice((0, 0, 1, 5))):
                    random.choices((group.remove, group.damage, group.trim), (8, 4, 1))[0]()
                farthest = max((one.next_offset for one in group.headers(TARGET).values()), default=0)
                assert farthest >= stored.begin, f"seed {seed}, step {loop.steps}"
        trimmed += stored.begin > 0
    assert trimmed > len(HISTORIES) / 4
