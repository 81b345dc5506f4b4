"""What a worker asks the broker before it takes any partition over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import msgspec
import pytest
import shop

from driftline.streams.archive.epochs import CodeEpoch, epoch_output
from driftline.streams.checkpoints.sealing import Seal
from driftline.streams.owner.deployment import Deployment, code_of
from driftline.streams.owner.takeover import OtherCode, refuse_other_code
from driftline.streams.records.ports import Place, StoredRecord, TopicShape
from driftline.streams.records.positions import headers_of
from tests.streams.owner.memory import MemoryBroker, MemoryCheckpoints

PARTITIONS = 4
CASE = replace(shop.orders, partitions=PARTITIONS)


class MeetingBroker(MemoryBroker):
    """A broker that answers no read of a models topic before all of its partitions are being read."""

    def __init__(self) -> None:
        super().__init__()
        self._meeting = asyncio.Barrier(PARTITIONS)

    async def read(self, place: Place, begin: int, end: int) -> AsyncIterator[Sequence[StoredRecord]]:
        await self._meeting.wait()
        async for records in super().read(place, begin, end):
            yield records


def deployed(broker: MemoryBroker) -> Deployment:
    """With the epoch of this code on each partition."""
    topics = CASE.topics("")
    broker.shapes = {topic.name: TopicShape(f"{topic.name}#0", PARTITIONS) for topic in topics.all()}
    deployment = Deployment(CASE, code_of(CASE), topics, broker, MemoryCheckpoints(), Seal(bytes(32)))
    for partition in range(PARTITIONS):
        _announce(deployment, broker, partition)
    return deployment


def _announce(deployment: Deployment, broker: MemoryBroker, partition: int, **other: str) -> None:
    code = msgspec.structs.replace(deployment.code, **other)
    output = epoch_output(CodeEpoch(partition, 0, code, {}))
    broker.add(deployment.outputs(partition)["models"], output.key, output.value, headers_of(output))


def test_the_start_reads_all_partitions_of_the_models_topic_at_once() -> None:
    async def start() -> None:
        async with asyncio.timeout(30.0):
            await refuse_other_code(deployed(MeetingBroker()))

    asyncio.run(start())


def test_other_code_on_any_partition_is_found_at_the_start() -> None:
    async def start() -> None:
        broker = MemoryBroker()
        deployment = deployed(broker)
        _announce(deployment, broker, PARTITIONS - 1, spec_hash="other")
        with pytest.raises(OtherCode, match=f"models-{PARTITIONS - 1}"):
            await refuse_other_code(deployment)

    asyncio.run(start())
