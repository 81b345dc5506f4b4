"""What the owners of partitions ask of a broker has an end, whatever the network does."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator

import pytest
from aiokafka.errors import KafkaError

from infra.topics_admin import ensure_topics
from streams import kafka_broker
from streams.broker import AppendFailed, BrokerSilent, Place
from streams.kafka_broker import KafkaBroker
from streams.outputs import Output
from streams.topics import Topics
from tests.faults.proxy import ProxiedStack, Proxy

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
    monkeypatch.setattr(kafka_broker, "ANSWERS_WITHIN", 1.0)

    async def run() -> None:
        broker = KafkaBroker(network.address)
        async with asyncio.timeout(PATIENCE):
            appender = await broker.fence("owner", [place])
            before = await broker.extents([place])
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
            sending.cancel()
            after = await broker.extents([place])
            assert after[place].end >= before[place].end
            await broker.close()

    asyncio.run(run())


def test_a_connection_that_was_forgotten_by_the_network_is_replaced(
    network: Proxy, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_broker, "REQUEST_WITHIN", 1.0)

    async def run() -> None:
        broker = KafkaBroker(network.address)
        async with asyncio.timeout(PATIENCE):
            appender = await broker.fence("owner", [place])
            await appender.append({place: [Output(0, 0, b"k", b"v")]})
            await broker.extents([place])
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
