"""A worker that owns all stages reads what it appends without a fetch, and still sees what others append."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from kafka import KafkaProducer
from parcels import events

from driftline.streams.owner.deployment import code_of
from driftline.streams.records.messages import Prediction
from driftline.streams.records.outputs import Target
from driftline.streams.simulation.sources import with_closing_clock
from driftline.streams.stages.itinerary import itinerary_of
from driftline.streams.stages.places import StagePlaces

PATH = "parcels:on_two"
ROUNDS = 2
Eventually = Callable[..., Any]


def append_again(system: Any, places: StagePlaces) -> int:
    """Append the newest records of each stage's topic once more, as a worker that was away does; returns how
    many."""
    appended = 0
    with KafkaProducer(bootstrap_servers=system.bootstrap, acks="all") as producer:
        for stage in range(1, places.count):
            newest: dict[int, list[Any]] = {}
            for record in system.read(places.input(Target(stage, 0)).topic):
                newest.setdefault(record.partition, []).append(record)
            for partition, records in newest.items():
                for record in records[-20:]:
                    producer.send(record.topic, key=record.key, value=record.value, partition=partition)
                    appended += 1
    return appended


def test_what_another_worker_appends_between_is_read_and_every_request_is_answered_once(
    system_of: Callable[[str], Any], eventually: Eventually
) -> None:
    system = system_of(PATH)
    case = system.case
    places = StagePlaces(system.topics, code_of(case).short, itinerary_of(case))
    log = list(with_closing_clock(case, events(400)))
    worker = system.start()
    asked = again = 0
    for number in range(ROUNDS):
        part = log[number * len(log) // ROUNDS : (number + 1) * len(log) // ROUNDS]
        system.produce(part)
        asked += sum(isinstance(event, case.task.ask) for event in part)
        eventually(lambda asked=asked: sum(system.ends(system.topics.predictions).values()) >= asked)
        again += append_again(system, places)
    eventually(lambda: sum(system.ends(system.topics.outcomes).values()) >= asked)
    system.stop(worker)
    assert again > 50
    predictions = system.read(system.topics.predictions)
    answered = {msgspec.json.decode(record.value, type=Prediction).event_id for record in predictions}
    assert len(predictions) == len(answered) == asked
    done = system.run("audit", PATH, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
