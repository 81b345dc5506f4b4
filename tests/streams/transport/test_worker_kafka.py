"""The worker on a real Kafka: the same digest as the simulation, through restarts and kills."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer

from driftline.examples.flights import flights
from driftline.streams.clients.consumer import PredictionConsumer
from driftline.streams.simulation.simulate import simulate
from driftline.streams.simulation.sources import open_source, with_closing_clock

EVENTS = 14_000
Eventually = Callable[..., Any]


@pytest.fixture
def system(system_of: Callable[[str], Any]) -> Any:
    return system_of("driftline.examples.flights:flights")


def produce(system: Any, start: int, stop: int) -> None:
    """Send these of the source's events, the closing clock events after the last of them."""
    events = list(with_closing_clock(flights, open_source(flights, None, EVENTS)))
    system.produce(events[start:stop])


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return simulate(flights, limit=EVENTS)


def test_kafka_and_simulation_give_the_same_predictions_and_features(
    system: Any, expected: dict[str, Any], eventually: Eventually
) -> None:
    worker = system.start()
    produce(system, 0, EVENTS + 1000)
    eventually(lambda: system.folded(worker))
    system.stop(worker)
    assert system.digests() == expected["digests"]
    status = system.status
    assert status is not None
    assert {k: status["counts"][k] for k in status["counts"]} == {k: expected[k] for k in status["counts"]}
    assert status["models"] == expected["models"]

    got = system.run("features", "get", system.case_path, "flights_by_origin", "origin=EWR", "--json")
    assert got.returncode == 0, got.stderr
    values = json.loads(got.stdout)["features"]
    assert isinstance(values["departed_2h"]["value"], int)

    ids: list[str] = []
    for count in (500, expected["predictions"] - 500):
        with PredictionConsumer(
            flights, system.bootstrap, group="g", namespace=system.namespace, timeout=60
        ) as consumer:
            ids += [prediction.id for prediction in islice(consumer, count)]
    assert len(ids) == len(set(ids)) == expected["predictions"]


def test_a_worker_killed_and_started_again_repeats_and_loses_nothing(
    system: Any, expected: dict[str, Any], eventually: Eventually
) -> None:
    topics = flights.topics(system.namespace)
    killed = system.start()
    produce(system, 0, 11_000)
    eventually(lambda: sum(system.ends(topics.predictions).values()) > 200)
    killed.kill()
    killed.wait()
    second = system.start()
    produce(system, 11_000, EVENTS + 1000)
    eventually(lambda: system.folded(second))
    system.stop(second)
    assert system.digests() == expected["digests"]
    for topic in (topics.predictions, topics.outcomes, topics.drift, topics.models):
        sources = system.sources(topic)
        assert len(sources) == len(set(sources))


def test_plain_kafka_clients_do_too_and_bad_input_is_dead_lettered_verbatim(
    system: Any, eventually: Eventually
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
    eventually(lambda: system.folded(worker))
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
    system.stop(worker)
