"""The local Kafka: found again, started in spite of stale records, refused ports, data kept."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

from driftline.infra.errors import InfraError
from driftline.infra.local.kafka import LocalStack, answers
from driftline.infra.topics.administration import ensure_topics, topic_troubles
from driftline.streams.declare.topics import Topics, TopicSpec


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


@pytest.mark.soak
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


def test_two_ups_at_once_make_one_broker(stack: LocalStack, tmp_path: Path) -> None:
    ask = (
        "import sys, pathlib, driftline.infra.local.kafka as k; "
        "print(k.LocalStack(pathlib.Path(sys.argv[1])).up().pid)"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", ask, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    pids = {process.communicate(timeout=120)[0].strip() for process in both}
    running = stack.status()
    assert running is not None
    assert pids == {str(running.pid)}


def test_a_broker_that_runs_elsewhere_is_said_and_can_move_with_its_data(
    stack: LocalStack, tmp_path: Path
) -> None:
    broker = stack.up()
    ensure_topics(broker.bootstrap, [TopicSpec("moved", 1, {})])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InfraError, match=f"a broker runs at {broker.bootstrap} already, not on port {port}"):
        LocalStack(tmp_path, port).up()
    stack.down()
    moved = LocalStack(tmp_path, port).up()
    assert moved.bootstrap == f"127.0.0.1:{port}"
    assert ensure_topics(moved.bootstrap, [TopicSpec("moved", 1, {})]) == []


def test_the_controller_gives_way_when_its_port_is_taken(stack: LocalStack, tmp_path: Path) -> None:
    broker = stack.up()
    ensure_topics(broker.bootstrap, [TopicSpec("kept", 1, {})])
    stack.down()
    controller = json.loads((tmp_path / "kafka" / "ports.json").read_text())[1]
    with socket.socket() as other:
        other.bind(("127.0.0.1", controller))
        other.listen()
        again = stack.up()
    assert again.bootstrap == broker.bootstrap
    assert ensure_topics(again.bootstrap, [TopicSpec("kept", 1, {})]) == []


def test_a_port_taken_by_somebody_else_is_said(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InfraError, match=f"port {port} on 127.0.0.1 is taken"):
            LocalStack(tmp_path, port).up()


def test_topics_are_made_once_and_another_partition_count_is_refused(bootstrap: str) -> None:
    specs = Topics("counted", 3).all()
    assert ensure_topics(bootstrap, specs) == [spec.name for spec in specs]
    assert ensure_topics(bootstrap, specs) == []
    with pytest.raises(InfraError, match="has 3 partitions, the case declares 2"):
        ensure_topics(bootstrap, Topics("counted", 2).all())


def test_topics_made_by_several_at_once_are_made_once(bootstrap: str) -> None:
    specs = Topics("crowded", 2).all()
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: ensure_topics(bootstrap, specs), range(4)))
    assert sorted(name for names in made for name in names) == sorted(spec.name for spec in specs)


def test_topics_have_the_declared_retention(bootstrap: str) -> None:
    ensure_topics(bootstrap, [TopicSpec("kept-a-minute", 1, {"retention.ms": "60000"})])
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "kept-a-minute")])
    finally:
        admin.close()
    assert "60000" in str(found)


def test_the_demo_deletes_no_log_unasked_and_runs_once_at_a_time(stack: LocalStack, tmp_path: Path) -> None:
    broker = stack.up()
    ensure_topics(broker.bootstrap, Topics("flights", 3).all())
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")
    producer.send("flights.events", b"kept", partition=1).get(30)
    producer.close()

    def demo(*options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "driftline", "demo", "--limit", "300", *options],
            env=os.environ | {"DRIFTLINE_HOME": str(tmp_path)},
            stderr=subprocess.PIPE,
            text=True,
        )

    refused = demo()
    assert "flights.events holds 1 records" in refused.communicate(timeout=120)[1]
    assert refused.returncode == 1
    both = [demo("--fresh"), demo("--fresh")]
    said = [process.communicate(timeout=240)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    assert sum("another demo of flights runs" in text for text in said) == 1


def made_by_others(bootstrap: str, name: str, **settings: str) -> TopicSpec:
    """The spec of a log, which somebody else has made with settings of his own."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        named = {setting.replace("_", "."): value for setting, value in settings.items()}
        admin.create_topics([NewTopic(name, 1, 1, topic_configs=named)])
        admin.wait_for_topics([name])
    finally:
        admin.close()
    return replace(Topics("orders", 1).all()[0], name=name)


def test_topics_with_settings_that_break_a_guarantee_are_refused_and_mended_when_asked_to(
    bootstrap: str,
) -> None:
    spec = made_by_others(bootstrap, "house", message_timestamp_type="CreateTime", retention_ms="3600000")
    with pytest.raises(InfraError, match=r"retention\.ms is 3600000, but has to be") as refused:
        ensure_topics(bootstrap, [spec])
    assert "--add-config message.timestamp.type=LogAppendTime,retention.ms=" in str(refused.value)
    assert "--mend-topics" in str(refused.value)
    (trouble,) = topic_troubles(bootstrap, [spec])
    assert "house is not set up as it has to be" in trouble
    assert ensure_topics(bootstrap, [spec], mend=True) == []
    assert ensure_topics(bootstrap, [spec]) == []
    assert topic_troubles(bootstrap, [spec]) == []


def test_a_compacted_log_is_mended_only_before_its_first_record(bootstrap: str) -> None:
    spec = made_by_others(bootstrap, "compacted", cleanup_policy="compact")
    ensure_topics(bootstrap, [spec], mend=True)
    spec = made_by_others(
        bootstrap, "begun", cleanup_policy="compact", **{"message_timestamp_type": "LogAppendTime"}
    )
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    producer.send(spec.name, key=b"k", value=b"v")
    producer.close()
    with pytest.raises(
        InfraError, match="older ones of the same keys may be gone already: use another namespace"
    ):
        ensure_topics(bootstrap, [spec], mend=True)
