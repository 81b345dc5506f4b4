"""The real broker keeps what `driftline.streams.records.ports` promises to the owners of partitions."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from driftline.infra.topics.administration import ensure_topics
from driftline.streams.declare.topics import Topics
from driftline.streams.records.outputs import Output
from driftline.streams.records.ports import Fenced, Place
from driftline.streams.records.positions import source_of
from driftline.streams.transport.kafka_broker import KafkaBroker

PATIENCE = 30.0
LARGE = b"%0300000d" % 0
"""Three of these do not fit one batch."""


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    topics = Topics("orders", 1, namespace=f"t{uuid.uuid4().hex[:8]}")
    ensure_topics(bootstrap, topics.all())
    return topics


def with_broker(bootstrap: str, work: Callable[[KafkaBroker], Awaitable[None]]) -> None:
    async def run() -> None:
        broker = KafkaBroker(bootstrap)
        try:
            await work(broker)
        finally:
            await broker.close()

    asyncio.run(run())


def test_an_append_of_several_records_tells_where_each_place_ends(bootstrap: str, topics: Topics) -> None:
    one_batch, three = Place(topics.outcomes, 0), Place(topics.models, 0)
    batches = {
        one_batch: [Output(0, ordinal, b"k", b"v") for ordinal in range(5)],
        three: [Output(offset, 0, b"k", LARGE) for offset in range(3)],
    }

    async def work(broker: KafkaBroker) -> None:
        appender = await broker.fence("orders", list(batches))
        ends = await appender.append(batches)
        await appender.close()
        assert ends == {place: extent.end for place, extent in (await broker.extents(list(batches))).items()}

    with_broker(bootstrap, work)


def test_when_a_fence_stands_its_markers_are_written_and_the_owner_before_is_refused(
    bootstrap: str, topics: Topics
) -> None:
    places = [Place(topic.name, 0) for topic in topics.all()]

    async def work(broker: KafkaBroker) -> None:
        earlier = await broker.fence("orders", places)
        for number in range(1, 6):
            appender = await broker.fence("orders", places)
            extents = await broker.extents(places)
            assert {extent.end for extent in extents.values()} == {number + 1}
            for place in places:
                with pytest.raises(Fenced):
                    await earlier.append({place: [Output(0, 0, b"k", b"v")]})
            await earlier.close()
            earlier = appender
        await earlier.close()

    with_broker(bootstrap, work)


def test_what_was_appended_is_handed_over_as_a_reader_finds_it(bootstrap: str, topics: Topics) -> None:
    read_place, other_place = Place(topics.outcomes, 0), Place(topics.models, 0)
    outputs = [Output(offset, 0, b"k%d" % offset, LARGE) for offset in range(3)]  # several batches

    async def work(broker: KafkaBroker) -> None:
        received: list[tuple[Place, Any]] = []
        broker.tell_appended(
            {read_place.topic}, lambda place, records: received.extend((place, r) for r in records)
        )
        appender = await broker.fence("orders", [read_place, other_place])
        ends = await appender.append({read_place: outputs, other_place: outputs})
        await appender.close()
        read = [record async for some in broker.read(read_place, 0, ends[read_place]) for record in some]
        assert [place for place, _ in received] == [read_place] * 3
        for (_, one), record in zip(received, read, strict=True):
            assert (one.offset, one.key, one.value) == (record.offset, record.key, record.value)
            assert (one.timestamp, one.timestamp_type) == (record.timestamp, record.timestamp_type)
            assert [tuple(header) for header in one.headers] == [tuple(header) for header in record.headers]

    with_broker(bootstrap, work)


def test_of_owners_whose_outputs_go_out_together_only_the_one_that_was_superseded_is_refused(
    bootstrap: str, topics: Topics
) -> None:
    outcomes, models = Place(topics.outcomes, 0), Place(topics.models, 0)

    async def work(broker: KafkaBroker) -> None:
        earlier = await broker.fence("first", [outcomes])
        other = await broker.fence("second", [models])
        newer = await broker.fence("first", [outcomes])
        for offset in range(10):
            refused, taken = await asyncio.gather(
                earlier.append({outcomes: [Output(offset, 0, b"k", b"v")]}),
                other.append({models: [Output(offset, 0, b"k", b"v")]}),
                return_exceptions=True,
            )
            assert isinstance(refused, Fenced)
            assert isinstance(taken, dict)
        for appender in (earlier, other, newer):
            await appender.close()
        end = (await broker.extents([models]))[models].end
        read = [record async for some in broker.read(models, 0, end) for record in some]
        assert [source_of(record.headers) for record in read] == [(offset, 0) for offset in range(10)]

    with_broker(bootstrap, work)


def test_connections_end_though_a_read_has_just_ended_and_fetches_are_on_their_way(
    bootstrap: str, topics: Topics
) -> None:
    place = Place(topics.outcomes, 0)

    async def work(broker: KafkaBroker) -> None:
        appender = await broker.fence("orders", [place])
        end = (await appender.append({place: [Output(0, n, b"k", b"v") for n in range(5)]}))[place]
        await appender.close()
        for _ in range(20):
            async with asyncio.timeout(PATIENCE):
                found = [record async for records in broker.read(place, 0, end) for record in records]
                assert len(found) == 5
                await broker.close()

    with_broker(bootstrap, work)


def test_reading_one_topic_asks_for_the_metadata_of_no_other(bootstrap: str, topics: Topics) -> None:
    """A cluster may have thousands, and each read would have the client decode all of them."""
    place, later = Place(topics.outcomes, 0), Topics("later", 1, namespace=topics.namespace)

    async def work(broker: KafkaBroker) -> None:
        appender = await broker.fence("orders", [place])
        end = (await appender.append({place: [Output(0, n, b"k", b"v") for n in range(5)]}))[place]
        await appender.close()
        assert [records async for records in broker.read(place, 0, end)]
        await asyncio.to_thread(ensure_topics, bootstrap, later.all())
        assert [records async for records in broker.read(place, 0, end)]
        assert (await broker.extents([place]))[place].end == end  # answered after what the read has set off
        known = {topic for consumer in broker._idle for topic in consumer._client.cluster.topics()}
        assert place.topic in known
        assert not known & {topic.name for topic in later.all()}

    with_broker(bootstrap, work)
