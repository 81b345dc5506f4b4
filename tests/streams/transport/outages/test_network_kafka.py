"""What the owners of partitions ask of a broker has an end, whatever the network does."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import shop
from aiokafka.errors import KafkaError
from kafka.errors import KafkaTimeoutError, RequestTimedOutError

from driftline.infra.topics.administration import ensure_topics
from driftline.streams.archive.archiver import Archiver
from driftline.streams.archive.log_reader import LogReader
from driftline.streams.archive.parts import Archive
from driftline.streams.clients.producer import EventProducer, Undelivered
from driftline.streams.connection import request_limit
from driftline.streams.connection.clients import LET_IN_WITHIN
from driftline.streams.declare.topics import Topics
from driftline.streams.records.outputs import Output
from driftline.streams.records.ports import AppendFailed, BrokerSilent, Place
from driftline.streams.transport import kafka_broker
from driftline.streams.transport.kafka_broker import KafkaBroker
from tests.faults.lab.proxy import ProxiedStack, Proxy

PATIENCE = 60.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedStack]:
    stack = ProxiedStack(tmp_path_factory.mktemp("proxied"))
    try:
        stack.up()
        yield stack
    finally:
        stack.down(wipe=True)


@pytest.fixture
def network(stack: ProxiedStack) -> Iterator[Proxy]:
    yield stack.network
    stack.network.restore()


@pytest.fixture
def place(stack: ProxiedStack) -> Place:
    topics = Topics("orders", 1, namespace=f"t{uuid.uuid4().hex[:8]}")
    ensure_topics(stack.up().bootstrap, topics.all())
    return Place(topics.outcomes, 0)


def test_a_frozen_network_keeps_nobody_waiting_for_ever_and_is_gone_on_with(
    network: Proxy, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        broker = KafkaBroker(network.address)
        async with asyncio.timeout(PATIENCE):
            appender = await broker.fence("owner", [place])
            before = await broker.extents([place])
            limit = kafka_broker.ANSWERS_WITHIN
            monkeypatch.setattr(kafka_broker, "ANSWERS_WITHIN", 1.0)
            network.freeze()
            with pytest.raises(BrokerSilent):
                await broker.extents([place])
            with pytest.raises(BrokerSilent):
                await broker.first_offset(place)
            with pytest.raises(AppendFailed):
                await broker.fence("another", [place])
            sending = asyncio.create_task(appender.append({place: [Output(0, 0, b"k", b"v")]}))
            await asyncio.sleep(0)
            await appender.close()
            await broker.close()
            network.restore()
            monkeypatch.setattr(kafka_broker, "ANSWERS_WITHIN", limit)
            sending.cancel()
            after = await broker.extents([place])
            assert after[place].end >= before[place].end
            await broker.close()

    asyncio.run(run())


def test_a_connection_that_was_forgotten_by_the_network_is_replaced(
    network: Proxy, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        broker = KafkaBroker(network.address)
        async with asyncio.timeout(PATIENCE):
            appender = await broker.fence("owner", [place])
            await appender.append({place: [Output(0, 0, b"k", b"v")]})
            await broker.extents([place])
            monkeypatch.setattr(request_limit, "ANSWERED_WITHIN", 1.0)
            begun = time.monotonic()
            network.half_open()
            end = (await appender.append({place: [Output(1, 0, b"k", b"v")]}))[place]
            assert time.monotonic() - begun >= 1.0  # else it was not forgotten
            failures = 0
            while True:
                try:
                    found = await broker.extents([place])
                    break
                except (BrokerSilent, KafkaError):
                    failures += 1
            assert failures  # else nothing was forgotten
            assert found[place].end == end
            await appender.close()
            await broker.close()

    asyncio.run(run())


def test_a_producer_names_what_was_not_acknowledged_and_it_can_be_sent_again(network: Proxy) -> None:
    topics = shop.orders.topics(f"t{uuid.uuid4().hex[:8]}")
    ensure_topics(network.address, topics.all())
    impatient = {"request_timeout_ms": 500, "delivery_timeout_ms": 1_000}
    producer = EventProducer(shop.orders, network.address, namespace=topics.namespace, **impatient)
    producer.send(shop.asked(0, 0))
    producer.flush()
    network.freeze()
    unsent = [shop.asked(1, 1), shop.settled(1, 2)]
    for event in unsent:
        producer.send(event)
    with pytest.raises(Undelivered, match="'asked-1'") as error:
        producer.flush()
    assert error.value.events == ("asked-1", "settled-1")
    network.restore()
    for event in unsent:
        producer.send(event)
    producer.close()


def test_an_archiver_goes_on_when_its_broker_is_back_and_says_so(
    network: Proxy,
    place: Place,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    eventually: Callable[..., Any],
) -> None:
    parts = 0

    def count(_: object) -> None:
        nonlocal parts
        parts += 1

    archiver = Archiver(Archive(str(tmp_path), 2), network.address, [place.topic], "archiver", on_part=count)
    running = Thread(target=archiver.run)
    running.start()
    try:
        asyncio.run(_append(network.address, place, 0))
        eventually(lambda: parts > 0)
        network.reset()
        eventually(lambda: "fails, trying again" in caplog.text)
        before = parts
        network.restore()
        asyncio.run(_append(network.address, place, 2))
        eventually(lambda: parts > before and "works again" in caplog.text)
    finally:
        archiver.stop()
        running.join()


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (lambda reader, place, kafka: reader.topic(place.topic), None),
        (lambda reader, place, kafka: reader.extent(place.topic, place.partition), None),
        (
            lambda reader, place, kafka: list(reader.chunks(place.topic, place.partition, 0, 2)),
            "nothing came after",
        ),
        (lambda reader, place, kafka: LogReader(kafka, silence=1.0), "no Kafka answers"),
    ],
    ids=["topic", "extent", "records", "connection"],
)
def test_whoever_waits_for_what_is_read_hears_soon_that_kafka_says_nothing(
    network: Proxy, place: Place, ask: Callable[[LogReader, Place, str], object], reason: str | None
) -> None:
    asyncio.run(_append(network.address, place, 0))
    with LogReader(network.address, silence=1.0) as reader:
        assert reader.topic(place.topic)
        assert reader.extent(place.topic, place.partition) == (0, 3), "two records and a fence's marker"
        network.freeze()
        begun = time.monotonic()
        with pytest.raises((KafkaTimeoutError, RequestTimedOutError), match=reason):
            ask(reader, place, network.address)
        assert time.monotonic() - begun < LET_IN_WITHIN, "what is waited where nothing is said of it"
        network.restore()  # else to close waits


async def _append(bootstrap: str, place: Place, first: int) -> None:
    """Two outputs."""
    broker = KafkaBroker(bootstrap)
    appender = await broker.fence("owner", [place])
    await appender.append({place: [Output(first + number, 0, b"k", b"v") for number in range(2)]})
    await appender.close()
    await broker.close()
