"""Batches of every codec, a producer's or the broker's own `compression.type`, are read by every reader."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import shop
from aiokafka import AIOKafkaProducer
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource

from driftline.infra.topics.administration import ensure_topics
from driftline.streams.archive.log_reader import LogReader
from driftline.streams.clients.consumer import PredictionConsumer
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.declare.topics import TopicSpec
from driftline.streams.records.ports import Place
from driftline.streams.simulation.simulate import simulate
from driftline.streams.transport.kafka_broker import KafkaBroker

CODECS = ["gzip", "snappy", "lz4", "zstd"]
LARGE = b"%0300000d" % 7
"""Many times what a codec's own blocks hold, once unpacked."""
Eventually = Callable[..., Any]


def values(topic: str, bootstrap: str) -> tuple[list[bytes | None], list[bytes | None]]:
    """What the owners of partitions read, and what audit, archive and bridge do."""
    with LogReader(bootstrap) as reader:
        begin, end = reader.extent(topic, 0)
        others = [record.value for chunk in reader.chunks(topic, 0, begin, end) for record in chunk]

    async def read() -> list[bytes | None]:
        broker = KafkaBroker(bootstrap)
        try:
            return [r.value async for records in broker.read(Place(topic, 0), begin, end) for r in records]
        finally:
            await broker.close()

    return asyncio.run(read()), others


@pytest.mark.parametrize("codec", CODECS)
def test_batches_of_either_client_are_read_by_both(bootstrap: str, codec: str) -> None:
    topic = f"packed.{uuid.uuid4().hex[:8]}"
    ensure_topics(bootstrap, [TopicSpec(topic, 1, {})])
    wanted: list[bytes | None] = [b"small", LARGE, b""]

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type=codec)
        await producer.start()
        for value in wanted:
            await producer.send_and_wait(topic, value)
        await producer.stop()

    asyncio.run(send())
    producer = KafkaProducer(bootstrap_servers=bootstrap, compression_type=codec, linger_ms=100)
    for value in wanted:
        producer.send(topic, value)
    producer.close()
    assert values(topic, bootstrap) == (wanted * 2, wanted * 2)


def test_a_worker_serves_a_log_of_every_codec_and_its_outputs_may_be_packed_by_the_broker(
    system_of: Callable[[str], Any], eventually: Eventually
) -> None:
    system = system_of("shop:orders")
    admin = KafkaAdminClient(bootstrap_servers=system.bootstrap)
    names = [system.topics.predictions, system.topics.outcomes, system.topics.models]
    admin.alter_configs(
        [
            ConfigResource("topic", name, {"compression.type": codec})
            for name, codec in zip(names, CODECS[1:], strict=True)
        ]
    )
    admin.close()
    worker = system.start()
    encoder, events = system.case.codec(), list(shop.trade(100))
    for number, codec in enumerate(CODECS):
        producer = KafkaProducer(
            bootstrap_servers=system.bootstrap, compression_type=codec, linger_ms=100, acks="all"
        )
        for event in events[50 * number : 50 * (number + 1)]:
            key = encoder.key(event)
            producer.send(system.topics.log, encoder.encode(event), key=key, partition=partition_of(key, 2))
        producer.close()
    eventually(lambda: system.folded(worker))
    system.stop(worker)
    again = system.start()  # reads its own packed tails
    eventually(lambda: system.folded(again))
    system.stop(again)
    assert all(found["state"] == "given back" for found in system.status["partitions"].values())
    predicted = system.digests()["predictions"]
    assert predicted == simulate(shop.orders, limit=200)["digests"]["predictions"]
    with PredictionConsumer(shop.orders, system.bootstrap, namespace=system.namespace, timeout=5) as consumer:
        assert len(list(consumer)) == 100
