"""The local Kafka: found again, started in spite of stale records, refused ports, data kept."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from infra.errors import InfraError
from infra.kafka import LocalStack, answers
from infra.topics_admin import ensure_topics
from streams.topics import Topics, TopicSpec


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    stack = LocalStack(tmp_path)
    yield stack
    stack.down(wipe=True)


def end_of(bootstrap: str, topic: str) -> int:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    try:
        return int(consumer.end_offsets([TopicPartition(topic, 0)])[TopicPartition(topic, 0)])
    finally:
        consumer.close()


def test_a_running_broker_is_reused_and_its_data_survives_down_and_up(stack: LocalStack) -> None:
    broker = stack.up()
    assert answers(broker.bootstrap)
    assert stack.up() == broker
    ensure_topics(broker.bootstrap, [TopicSpec("kept", 1, {})])
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")
    producer.send("kept", b"1").get(30)
    producer.close()
    assert stack.down()
    assert stack.status() is None
    assert not stack.down()
    again = stack.up()
    assert again.bootstrap == broker.bootstrap
    assert end_of(again.bootstrap, "kept") == 1
    stack.down(wipe=True)
    assert ensure_topics(stack.up().bootstrap, [TopicSpec("kept", 1, {})]) == ["kept"]


def test_a_stale_record_is_survived(stack: LocalStack, tmp_path: Path) -> None:
    record = tmp_path / "kafka" / "broker.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"pid": 1, "start": "0", "bootstrap": "127.0.0.1:1", "started": 0.0}))
    assert stack.status() is None
    assert answers(stack.up().bootstrap)


def test_a_port_taken_by_somebody_else_is_said(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InfraError, match=f"port {port} on 127.0.0.1 is taken"):
            LocalStack(tmp_path, port).up()


def test_topics_are_made_once_and_another_partition_count_is_refused(bootstrap: str) -> None:
    specs = Topics("counted", 3).all()
    assert len(ensure_topics(bootstrap, specs)) == 6
    assert ensure_topics(bootstrap, specs) == []
    with pytest.raises(InfraError, match="has 3 partitions, the case declares 2"):
        ensure_topics(bootstrap, Topics("counted", 2).all())
