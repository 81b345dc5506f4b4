"""Reads ranges of a case's topics on request, over one connection that stays open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from driftline.infra.gateway.problems import ANSWERS_IN, not_now
from driftline.infra.gateway.published.kept_consumer import KeptConsumer
from driftline.infra.gateway.published.offset_vector import OffsetVector, gaps, within
from driftline.infra.gateway.published.turns import Turns

_POLL_MS = 200
LOOKED_BACK = 16
"""Offsets at a partition's end among which its newest record is looked for first."""
_LOOK_MS = 50
"""Milliseconds between checks of the position: aiokafka waits on if there are only markers."""


class RecordPage(NamedTuple):
    """Records in the order of append time, where the next page starts, and the requested offsets that
    retention has deleted."""

    records: list[Any]
    next: OffsetVector
    more: bool
    gaps: list[dict[str, int]]


async def places_of(consumer: AIOKafkaConsumer, *topics: str) -> list[TopicPartition]:
    """All current partitions of the topics. Leaves the consumer assigned to the first partition of each.
    Raises KafkaError."""
    firsts = [TopicPartition(topic, 0) for topic in topics]
    consumer.assign(firsts)
    await consumer.beginning_offsets(firsts)  # this fetches the metadata of the topics
    places = []
    for topic in topics:
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise UnknownTopicOrPartitionError(topic)
        places += [TopicPartition(topic, number) for number in sorted(numbers)]
    return places


async def last_records(
    consumer: AIOKafkaConsumer,
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> dict[TopicPartition, Any]:
    """The last record in [begin, end) of each partition, except where there is none: there may be only
    markers of transactions, such as a take-over leaves. Changes what the consumer is assigned to. Raises
    KafkaError."""
    found = {
        place: await _last_record(consumer, place, begins[place], end)
        for place, end in ends.items()
        if begins[place] < end
    }
    return {place: record for place, record in found.items() if record is not None}


async def _last_record(consumer: AIOKafkaConsumer, place: TopicPartition, begin: int, end: int) -> Any | None:
    consumer.assign([place])
    some = LOOKED_BACK
    while True:
        newest, at = None, max(begin, end - some)
        consumer.seek(place, at)
        while await consumer.position(place) < end:
            for record in (await consumer.getmany(place, timeout_ms=_LOOK_MS)).get(place, ()):
                newest = record if record.offset < end else newest
        if newest is not None or at == begin:
            return newest
        some *= 8


class TopicExtent(NamedTuple):
    """The partitions of a topic, with the first offset and the end offset of each."""

    places: dict[TopicPartition, int]
    begins: OffsetVector
    ends: OffsetVector

    @classmethod
    async def of(cls, consumer: AIOKafkaConsumer, topic: str) -> TopicExtent:
        """Assign the topic to the consumer, and ask for its offsets."""
        places = {place: place.partition for place in await places_of(consumer, topic)}
        consumer.assign(list(places))
        begins = await consumer.beginning_offsets(list(places))
        ends = await consumer.end_offsets(list(places))
        return cls(
            places,
            {number: begins[place] for place, number in places.items()},
            {number: ends[place] for place, number in places.items()},
        )

    def seek(self, consumer: AIOKafkaConsumer, at: Mapping[int, int]) -> None:
        """Have the consumer continue at these offsets."""
        for place, number in self.places.items():
            consumer.seek(place, at[number])


class TopicReader:
    """One consumer outside any group, used by one request at a time.

    Raises Problem 503 when Kafka gives nothing for too long, or earlier requests take too long.
    """

    def __init__(self, bootstrap: str) -> None:
        self._consumer = KeptConsumer(bootstrap)
        self._turns = Turns()

    async def reached(self, topic: str) -> None:
        """Check that Kafka can be reached and has the topic. Raises Problem 503."""
        async with self._reading() as (consumer, _):
            await TopicExtent.of(consumer, topic)

    async def page(self, topic: str, since: Mapping[int, int] | None, limit: int) -> RecordPage:
        """Up to `limit` records from an offset vector on, or from the beginning. Raises Problem: 422, 503."""
        async with self._reading() as (consumer, patience):
            extent = await TopicExtent.of(consumer, topic)
            begin = extent.begins if since is None else within(since, extent.begins, extent.ends)
            records, at = await _read(consumer, extent, begin, limit, patience)
        more = any(at[number] < end for number, end in extent.ends.items())
        return RecordPage(records, at, more, gaps(since, begin))

    async def newest(self, topic: str, count: int) -> list[Any]:
        """The records of the last `count` offsets of each partition, by append time. Raises Problem 503."""
        async with self._reading() as (consumer, patience):
            extent = await TopicExtent.of(consumer, topic)
            begin = {number: max(extent.begins[number], end - count) for number, end in extent.ends.items()}
            return (await _read(consumer, extent, begin, len(extent.ends) * count, patience))[0]

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[tuple[AIOKafkaConsumer, asyncio.Timeout]]:
        try:
            async with self._turns.taken(else_=not_now()), asyncio.timeout(ANSWERS_IN) as patience:
                try:
                    yield await self._consumer.started(), patience
                except BaseException as error:
                    if isinstance(error, (KafkaError, OSError, asyncio.CancelledError)):
                        self._consumer.drop()
                    raise
        except (KafkaError, OSError, TimeoutError):
            raise not_now() from None

    async def close(self) -> None:
        """Close the connection."""
        await self._consumer.close()


async def _read(
    consumer: AIOKafkaConsumer,
    extent: TopicExtent,
    begin: Mapping[int, int],
    limit: int,
    patience: asyncio.Timeout,
) -> tuple[list[Any], OffsetVector]:
    """Up to `limit` records from here to the end, in the order of append time, and where the next ones are.
    The time-out starts anew whenever records come."""
    extent.seek(consumer, begin)
    records: list[Any] = []
    at = dict(begin)
    while len(records) < limit and any(at[number] < end for number, end in extent.ends.items()):
        found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=limit - len(records))
        if found:
            records += [record for some in found.values() for record in some]
            patience.reschedule(asyncio.get_running_loop().time() + ANSWERS_IN)
        for place, number in extent.places.items():
            at[number] = await consumer.position(place)
    records.sort(key=lambda record: (record.timestamp, record.partition, record.offset))
    return records, at
