"""The worker on a real Kafka: the same digest as the simulation, through restarts and kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from examples.flights import flights
from infra.topics_admin import ensure_topics
from streams.digest import PartitionDigest, combined
from streams.sdk import EventProducer, PredictionConsumer
from streams.simulate import simulate
from streams.sources import open_source, with_closing_clock

EVENTS = 14_000
Eventually = Callable[..., Any]


@dataclass
class System:
    """One namespace on the broker, and workers of it."""

    bootstrap: str
    namespace: str
    home: Path
    workers: list[subprocess.Popen[bytes]]

    @property
    def status(self) -> dict[str, Any] | None:
        path = self.home / "status" / f"{self.namespace}.flights.json"
        return json.loads(path.read_text()) if path.exists() else None

    def start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "DRIFTLINE_HOME": str(self.home),
            "DRIFTLINE_BOOTSTRAP": self.bootstrap,
            "DRIFTLINE_NAMESPACE": self.namespace,
        }
        log = (self.home / f"worker-{len(self.workers)}.log").open("wb")
        worker = subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "worker", "examples.flights:flights"],
            env=environment,
            stdout=log,
            stderr=log,
        )
        self.workers.append(worker)
        return worker

    def places(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, p) for p in range(flights.partitions)]

    def ends(self, topic: str) -> dict[int, int]:
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap)
        try:
            return {tp.partition: end for tp, end in consumer.end_offsets(self.places(topic)).items()}
        finally:
            consumer.close()

    def folded(self, worker: subprocess.Popen[bytes]) -> bool:
        """Whether this worker has folded all of the log."""
        assert worker.poll() is None, "the worker ended"
        status = self.status
        if status is None or status["pid"] != worker.pid:
            return False
        ends = self.ends(flights.topics(self.namespace).log)
        return all(status["next_offsets"].get(str(p), 0) >= end for p, end in ends.items())

    def read(self, topic: str) -> list[Any]:
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, isolation_level="read_committed")
        try:
            places = self.places(topic)
            consumer.assign(places)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(places)
            records: list[Any] = []
            while any(consumer.position(tp) < ends[tp] for tp in places):
                for fetched in consumer.poll(1000).values():
                    records.extend(fetched)
            return records
        finally:
            consumer.close()

    def sources(self, topic: str) -> list[tuple[int, str]]:
        return [(r.partition, dict(r.headers)["source"].decode()) for r in self.read(topic)]

    def digest(self) -> str:
        digests = [PartitionDigest() for _ in range(flights.partitions)]
        for record in self.read(flights.topics(self.namespace).predictions):
            offset, _, ordinal = dict(record.headers)["source"].decode().partition(":")
            digests[record.partition].update(int(offset), int(ordinal), record.value)
        return combined(digests)

    def produce(self, start: int, stop: int) -> None:
        events = list(with_closing_clock(flights, open_source(flights, None, EVENTS)))
        with EventProducer(flights, self.bootstrap, namespace=self.namespace) as producer:
            for event in events[start:stop]:
                producer.send(event)


@pytest.fixture
def system(bootstrap: str, tmp_path: Path) -> Iterator[System]:
    namespace = f"t{uuid.uuid4().hex[:8]}"
    home = tmp_path / "home"
    home.mkdir()
    ensure_topics(bootstrap, flights.topics(namespace).all())
    system = System(bootstrap, namespace, home, [])
    yield system
    for worker in system.workers:
        if worker.poll() is None:
            worker.kill()
            worker.wait()


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return simulate(flights, limit=EVENTS)


def test_kafka_and_simulation_give_the_same_predictions_and_features(
    system: System, expected: dict[str, Any], eventually: Eventually
) -> None:
    worker = system.start()
    system.produce(0, EVENTS + 1000)
    eventually(lambda: system.folded(worker), 90)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert system.digest() == expected["digest"]
    status = system.status
    assert status is not None
    assert {k: status["counts"][k] for k in status["counts"]} == {k: expected[k] for k in status["counts"]}
    assert status["models"] == expected["models"]

    got = subprocess.run(
        [
            sys.executable,
            "-m",
            "infra.cli",
            "features",
            "get",
            "examples.flights:flights",
            "flights_by_origin",
            "origin=EWR",
            "--json",
        ],
        env=os.environ | {"DRIFTLINE_HOME": str(system.home), "DRIFTLINE_NAMESPACE": system.namespace},
        capture_output=True,
        text=True,
        check=True,
    )
    values = json.loads(got.stdout)["features"]
    assert isinstance(values["departed_2h"]["value"], int)

    with PredictionConsumer(
        flights, system.bootstrap, group="g", namespace=system.namespace, timeout=5
    ) as consumer:
        first = [prediction for _, prediction in zip(range(500), consumer, strict=False)]
    with PredictionConsumer(
        flights, system.bootstrap, group="g", namespace=system.namespace, timeout=5
    ) as consumer:
        rest = list(consumer)
    ids = [p.id for p in first + rest]
    assert len(first) == 500
    assert len(ids) == len(set(ids)) == expected["predictions"]


def test_a_worker_killed_and_started_again_repeats_and_loses_nothing(
    system: System, expected: dict[str, Any], eventually: Eventually
) -> None:
    topics = flights.topics(system.namespace)
    killed = system.start()
    system.produce(0, 11_000)
    eventually(lambda: sum(system.ends(topics.predictions).values()) > 200, 60)
    killed.kill()
    killed.wait()
    second = system.start()
    system.produce(11_000, EVENTS + 1000)
    eventually(lambda: system.folded(second), 90)
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0
    assert system.digest() == expected["digest"]
    for topic in (topics.predictions, topics.outcomes, topics.drift, topics.models):
        sources = system.sources(topic)
        assert len(sources) == len(set(sources))


def test_plain_kafka_clients_do_too_and_bad_input_is_dead_lettered_verbatim(
    system: System, eventually: Eventually
) -> None:
    topics = flights.topics(system.namespace)
    worker = system.start()
    producer = KafkaProducer(bootstrap_servers=system.bootstrap)
    asked = {
        "type": "scheduled", "id": "plain-1", "at": "2024-01-01T12:00:00Z", "flight": "f1", "number": "UA1",
        "origin": "EWR", "dest": "IAH", "carrier": "UA", "tailnum": None, "distance": 1400.0,
        "duration": 227.0,
    }  # fmt: skip
    bad = [b"no json", b"", b"x" * 1_000_000, json.dumps(asked | {"id": "2", "more": 1}).encode()]
    for value in bad:
        producer.send(topics.log, value, key=b"EWR")
    producer.send(topics.log, json.dumps(asked | {"id": "3"}).encode(), key=None, partition=0)
    producer.send(topics.log, json.dumps(asked | {"id": "4"}).encode(), key=b"JFK")
    producer.send(topics.log, json.dumps(asked).encode(), key=b"EWR")
    producer.flush()
    eventually(lambda: system.folded(worker), 60)
    (record,) = system.read(topics.predictions)
    prediction = msgspec.json.decode(record.value)
    assert prediction["event_id"] == "plain-1"
    assert prediction["keys"]["origin"] == "EWR"
    letters = system.read(topics.dead_letters)
    assert len(letters) == 6
    assert sorted(len(r.value) for r in letters)[-1] == 1_000_000
    assert {r.value for r in letters} >= set(bad)
    for letter in letters:
        headers = dict(letter.headers)
        assert headers["stage"] in (b"decode", b"key")
        assert headers["reason"]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
