"""`driftline audit` and `driftline lineage` of a case of several stages on a real Kafka."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from parcels import events

from driftline.infra.topics.administration import ensure_topics
from driftline.streams.archive.epochs import CodeEpoch, epoch_output
from driftline.streams.archive.parts import Archive
from driftline.streams.owner.deployment import code_of
from driftline.streams.records.outputs import KINDS, Output, Target
from driftline.streams.records.ports import Place
from driftline.streams.records.positions import headers_of
from driftline.streams.simulation.sources import laid_out
from driftline.streams.stages.chain import Chain
from driftline.streams.stages.itinerary import itinerary_of
from driftline.streams.stages.places import StagePlaces

Record = tuple[Place, bytes | None, bytes | None, list[tuple[str, bytes]]]


@pytest.fixture
def system(system_of: Callable[[str], Any]) -> Any:
    """A case of four stages, whose worker is played by the test."""
    system = system_of("parcels:on_two")
    ensure_topics(system.bootstrap, system.topics.between(code_of(system.case).short))
    return system


def published(system: Any, places: StagePlaces) -> Iterator[Record]:
    """The log, and all that owners of the stages append."""
    case, code = system.case, code_of(system.case)
    chain = Chain(case, case.partitions)
    epoch = epoch_output(CodeEpoch(0, 0, code, {}))
    yield places.outputs(Target(places.count - 1, 0))["models"], None, epoch.value, headers_of(epoch)
    for partition, record in laid_out(case, events(200), case.partitions, chain.itinerary.entry):
        yield places.input(Target(0, partition)), record.key, record.value, []
        for step in chain.step(partition, record):
            for kind in KINDS:
                outputs: list[Output] = getattr(step.outputs, kind)
                place = places.outputs(Target(step.stage, step.partition)).get(kind)
                yield from ((place, o.key, o.value, headers_of(o)) for o in outputs if place is not None)
            yield from ((places.input(target), None, value, []) for target, value in step.outputs.sends)


def said_by(system: Any, *arguments: str) -> tuple[int, str]:
    """Exit code, and what a command says."""
    done = system.run(*arguments)
    return done.returncode, done.stdout or done.stderr


@pytest.fixture
def records(system: Any) -> list[Record]:
    """What was appended to all topics of the system."""
    places = StagePlaces(system.topics, code_of(system.case).short, itinerary_of(system.case))
    records = list(published(system, places))
    with KafkaProducer(bootstrap_servers=system.bootstrap, acks="all") as producer:
        for place, key, value, headers in records:
            producer.send(place.topic, key=key, value=value, headers=headers, partition=place.partition)
    return records


def let_go(system: Any, archive: Archive) -> dict[Place, int]:
    """Kafka deletes what is archived of the log and of the topics between stages; returns up to where."""
    between = system.topics.between(code_of(system.case).short)
    folded = [(system.topics.log, system.case.partitions), *((one.name, one.partitions) for one in between)]
    places = [Place(topic, partition) for topic, count in folded for partition in range(count)]
    ends = {place: archive.end(*place) for place in places}
    admin = KafkaAdminClient(bootstrap_servers=system.bootstrap)
    try:
        admin.delete_records({TopicPartition(*place): end for place, end in ends.items()})
    finally:
        admin.close()
    return ends


def test_stages_are_compared_with_what_is_published_and_with_each_other(
    system: Any, records: list[Record]
) -> None:
    code, said = said_by(system, "audit", system.case_path, "--json")
    found = json.loads(said)
    assert (code, found["first_difference"], found["unchecked"]) == (0, None, 0)
    log = [place for place, *_ in records if place.topic == system.topics.log]
    assert found["checked"] == found["equal"] == len(records) - len(log) - 1
    assert found["events"] == len(log)
    assert [stage["stage"] for stage in found["stages"]] == ["events", "by-depot", "by-courier", "questions"]
    assert all(stage["checked"] == stage["equal"] > 0 for stage in found["stages"])
    code, said = said_by(system, "audit", system.case_path, "--partition", "1")
    assert code == 2
    assert "has 4 stages, which are audited as a whole" in said
    code, said = said_by(system, "lineage", "s40:breaks", system.case_path)
    assert code == 0
    assert [line.split(".")[2].split("-")[0] for line in said.splitlines() if line.startswith("stage")] == [
        "events",
        "by",
        "by",
        "questions",
    ]
    assert "RECOMPUTED" not in said
    assert said.count("feature     ") == len(system.case.features)
    code, said = said_by(system, "replay", system.case_path, "--stage", "by-depot", "--json")
    assert code == 0
    between = [place for place, *_ in records if ".by-depot." in place.topic]
    shown = [json.loads(line) for line in said.splitlines()]
    assert len(shown) == len(between)
    assert {one["value"]["from"] for one in shown} == {"0", "1"}


def test_what_kafka_has_let_go_of_the_recorded_order_is_read_from_the_archive(
    system: Any, records: list[Record]
) -> None:
    code, said = said_by(system, "archive", system.case_path, "--once", "--part-size", "60")
    assert code == 0, said
    archive = Archive(str(system.home / "archive" / f"{system.namespace}.{system.case.name}"))
    ends = let_go(system, archive)
    assert {place.topic for place in ends} == {place.topic for place, end in ends.items() if end > 0}
    code, said = said_by(system, "audit", system.case_path, "--json")
    found = json.loads(said)
    assert (code, found["first_difference"], found["unchecked"]) == (0, None, 0)
    log = [place for place, *_ in records if place.topic == system.topics.log]
    assert found["checked"] == found["equal"] == len(records) - len(log) - 1


def test_a_training_set_out_of_the_archived_order_is_what_was_published(
    system: Any, records: list[Record]
) -> None:
    out = str(system.home / "set.parquet")
    for arguments in (
        ["archive", system.case_path, "--once", "--part-size", "30"],
        ["features", "history", system.case_path],
        ["features", "training-set", system.case_path, "--out", out, "--json"],
    ):
        code, said = said_by(system, *arguments)
        assert code == 0, said
    found = json.loads(said)
    assert found["rows"] == found["comparison"]["equal"] > 100
    assert found["comparison"]["unpublished"] == []
