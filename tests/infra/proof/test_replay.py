"""Replay: what is printed is what the log held, and its events make the same log again."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import parcels
import pytest
import shop
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from driftline.examples.flights import flights
from driftline.features.state.event_time import NEVER
from driftline.infra.errors import InfraError
from driftline.infra.proof.replay import (
    as_recorded,
    as_source,
    between_stages,
    bound,
    record_as_json,
    record_as_text,
)
from driftline.infra.topics.administration import ensure_topics
from driftline.streams.archive.parts import Archive, ArchivedRecord
from driftline.streams.between.stage_record import StageRecord, encode_record
from driftline.streams.clients.producer import EventProducer
from driftline.streams.declare.events import Clock
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.digest import Digests
from driftline.streams.simulation.simulate import simulate
from driftline.streams.simulation.sources import laid_out as laid_out_by
from driftline.streams.simulation.sources import layout, open_source, with_closing_clock
from driftline.streams.simulation.tables import UnreadableTable
from driftline.streams.stages.chain import Chain
from driftline.streams.stages.places import StagePlaces

EVENTS = 3_000
Eventually = Callable[..., Any]


def record(offset: int, key: bytes | None, value: bytes | None, **headers: bytes) -> ArchivedRecord:
    return ArchivedRecord(offset, 0, key, value, tuple(headers.items()))


def laid_out(events: list[Any], partitions: int) -> dict[int, list[ArchivedRecord]]:
    logs: dict[int, list[ArchivedRecord]] = {number: [] for number in range(partitions)}
    for number, placed in layout(flights, events, partitions):
        logs[number].append(record(placed.offset, placed.key, placed.value))
    return logs


def source_of(logs: dict[int, list[ArchivedRecord]], refused: list[Any] | None = None) -> list[bytes]:
    letters = [] if refused is None else refused
    streams = {number: iter(records) for number, records in logs.items()}
    return list(as_source(streams, flights.codec(), lambda *what: letters.append(what)))


@pytest.fixture(scope="module")
def events() -> list[Any]:
    return list(with_closing_clock(flights, open_source(flights, None, EVENTS)))


@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_the_events_of_a_log_are_laid_out_as_that_log_again(events: list[Any], partitions: int) -> None:
    logs = laid_out(events, partitions)
    codec = flights.codec()
    lines = source_of(logs)
    assert len(lines) == len(events)
    by_line = {codec.encode_trusted(event): event for event in events}
    assert laid_out([by_line[line] for line in lines], partitions) == logs


def test_a_log_of_several_partitions_may_go_into_one() -> None:
    events = list(with_closing_clock(flights, open_source(flights, None, 2 * EVENTS)))
    lines = source_of(laid_out(events, 5))
    codec = flights.codec()
    by_line = {codec.encode_trusted(event): event for event in events}
    again = [by_line[line] for line in lines if codec.key(by_line[line]) is not None]
    assert [event.at for event in again] == sorted(event.at for event in again)
    processor = PartitionProcessor(replace(flights, partitions=1), 0)
    processor.step([r for _, r in layout(flights, [by_line[line] for line in lines], 1)])
    assert processor.intake.counts.late == 0
    assert processor.intake.counts.predictions > 0


def test_what_is_no_event_is_reported_and_left_out(events: list[Any]) -> None:
    logs = laid_out(events, 2)
    expected = source_of(logs)
    for number, raw in ((0, b"\xff not json"), (1, None)):
        logs[number].insert(1, record(10**6, None, raw))
    refused: list[Any] = []
    assert source_of(logs, refused) == expected
    assert [(number, poison.value) for number, poison, _ in refused] == [(0, b"\xff not json"), (1, None)]


def test_an_event_of_several_lines_becomes_one(events: list[Any]) -> None:
    logs = laid_out(events[:50], 1)
    expected = source_of(logs)
    logs[0] = [r._replace(value=json.dumps(json.loads(r.value or b""), indent=2).encode()) for r in logs[0]]
    assert source_of(logs) == expected


def test_partitions_that_did_not_receive_the_same_make_no_source(events: list[Any]) -> None:
    logs = laid_out(events, 2)
    last = logs[1].pop()
    assert last.key is None
    with pytest.raises(InfraError, match="replay one --partition"):
        source_of(logs)
    assert len(source_of({0: logs[0]})) == len(logs[0])


def shown(raw: bytes) -> Any:
    """What a line of replay --json says; it must be strict JSON."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    assert b"\n" not in raw
    return json.loads(raw, parse_constant=refuse)


def original(entry: Any) -> bytes | None:
    if isinstance(entry, dict):
        return base64.b64decode(entry["base64"])
    return None if entry is None else str(entry).encode()


@given(raw=st.binary(max_size=30), key=st.none() | st.binary(max_size=10))
def test_bytes_of_any_kind_are_one_line_that_loses_nothing(raw: bytes, key: bytes | None) -> None:
    value = b"x" + raw  # so it is no JSON
    entry = shown(record_as_json(3, record(7, key, value)))
    assert (entry["partition"], entry["offset"]) == (3, 7)
    assert original(entry["key"]) == key
    assert original(entry["value"]) == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, b"null"), (b"", b'""'), (b"NaN", b'"NaN"'), (b"1.50", b"1.50"), (b"9" * 30, b"9" * 30),
        (b'{"b":1,"a":[null]}', b'{"b":1,"a":[null]}'), (b'{\n"a": 1\n}', b'{"a":1}'),
    ],
)  # fmt: skip
def test_json_stands_as_it_is(value: bytes | None, said: bytes) -> None:
    line = record_as_json(0, record(1, b"k", value))
    assert line == b'{"partition":0,"offset":1,"key":"k","value":' + said + b"}"


def test_source_positions_and_other_headers_are_shown() -> None:
    assert shown(record_as_json(0, record(1, b"JFK", b'{"a":1.5}', source=b"12:0", stage=b"decode"))) == {
        "partition": 0, "offset": 1, "source": "12:0", "headers": {"stage": "decode"}, "key": "JFK",
        "value": {"a": 1.5},
    }  # fmt: skip
    assert record_as_text(0, record(1, None, b'{"a":1.5}')) == b'0:1\t\t{"a":1.5}'


def test_a_record_between_stages_is_shown_with_its_writer_and_what_was_read() -> None:
    chain = Chain(parcels.on_two, 2)
    places = StagePlaces(parcels.on_two.topics(), "0a1b2c3d4e5f", chain.itinerary)
    _, first = next(iter(laid_out_by(parcels.on_two, parcels.events(1), 2, chain.itinerary.entry)))
    refused = encode_record(StageRecord(2, 2, 1, 3, 7, 0, NEVER, b"", refused=("features", "too odd")))
    [sent, *_] = chain.stages[0][0].step((first,)).sends
    lines = [
        shown(record_as_json(1, between_stages(record(9, None, value), places)))["value"]
        for value in (sent.value, refused)
    ]
    assert lines[0]["event"] == json.loads(first.value or b"")
    assert (lines[0]["from"], lines[0]["number"], lines[0]["source"]) == ("0", 1, "0:0")
    assert lines[0]["read"].keys() == {"weight", "of_sender"}
    assert lines[1] == {
        "from": "by-courier/1",
        "number": 3,
        "source": "7:0",
        "watermark": None,
        "refused": ["features", "too odd"],
    }


def test_a_bound_is_an_offset_or_a_time_with_its_zone() -> None:
    assert bound("17") == 17
    assert bound("2013-01-01T00:00:00Z") == datetime(2013, 1, 1, tzinfo=UTC)
    assert bound("2013-01-01T01:00:00+01:00") == datetime(2013, 1, 1, tzinfo=UTC)
    for wrong in ("-1", "yesterday", "2013-01-01T00:00:00"):
        with pytest.raises(ValueError, match=r"zone|Invalid isoformat"):
            bound(wrong)


def live_logs() -> dict[int, list[ArchivedRecord]]:
    """Two partitions of a live case, which clocks tell the time, one of them wrong."""
    codec = shop.live.codec()
    logs: dict[int, list[ArchivedRecord]] = {0: [], 1: []}

    def append(number: int, event: Any, seconds: float) -> None:
        appended = int((shop.START.timestamp() + seconds) * 1000)
        log = logs[number]
        log.append(ArchivedRecord(len(log), appended, codec.key(event), codec.encode(event), ()))

    def home(event: Any) -> int:
        key = codec.key(event)
        assert key is not None
        return partition_of(key, 2)

    for event in shop.trade(30):
        append(home(event), event, (event.at - shop.START).total_seconds() + 0.5)
    # a worker tells both the time while requests wait; without it each minute between two events is an outage
    for second in range(31 * 60, 34 * 60, 10):
        for number in logs:
            clock = Clock(id=f"clock:{number}:{second}", at=shop.START + timedelta(seconds=second))
            append(number, clock, second)
    fast = shop.asked(99, 24 * 60, "s")
    append(home(fast), fast, 34 * 60)
    last = shop.asked(100, 35, "s")
    append(home(last), last, 35 * 60)
    # a worker whose clock is a day ahead tells one partition the time
    closing = Clock(id="clock", at=shop.START + timedelta(days=1))
    append(home(last), closing, 40 * 60)
    later = shop.asked(101, 41, "s")
    append(home(later), later, 41 * 60)
    return logs


def test_a_live_log_is_simulated_by_its_partitions_and_append_times(tmp_path: Path) -> None:
    logs = live_logs()
    processors = [PartitionProcessor(shop.live, number) for number in logs]
    folded = [processor.step(log) for processor, log in zip(processors, logs.values(), strict=True)]
    source = tmp_path / "live.jsonl"
    streams = {number: iter(log) for number, log in logs.items()}
    source.write_bytes(b"\n".join(as_recorded(streams, shop.live.codec(), lambda *what: None)))
    digests = Digests(2)
    for number, out in enumerate(folded):
        for prediction in out.predictions:
            digests.update("predictions", number, prediction.offset, prediction.ordinal, prediction.value)
    outputs: dict[int, list[Outputs]] = {0: [], 1: []}
    found = simulate(shop.live, str(source), on_outputs=lambda number, out: outputs[number].append(out))
    assert found["digest"] == digests.as_dict()["predictions"]
    assert sum(len(out.dead_letters) for out in folded) == found["dead_letters"] == 1
    for number, out in enumerate(folded):
        outcomes = [outcome for step in outputs[number] for outcome in step.outcomes]
        assert [o.value for o in outcomes][: len(out.outcomes)] == [o.value for o in out.outcomes]
    # the last requests of the two partitions were open
    assert sum(len(out.outcomes) for out in folded) == 30
    assert (found["predictions"], found["pending"]) == (32, 2)
    with pytest.raises(UnreadableTable, match="as many partitions as it had"):
        simulate(shop.live, str(source), partitions=1)


class Console:
    """`driftline` with a namespace and home of its own."""

    def __init__(self, bootstrap: str, home: Path) -> None:
        self.namespace = uuid.uuid4().hex[:8]
        self.home = home
        self.environment = os.environ | {
            "DRIFTLINE_BOOTSTRAP": bootstrap,
            "DRIFTLINE_NAMESPACE": self.namespace,
            "DRIFTLINE_HOME": str(home),
        }

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "driftline", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, given: bytes = b"") -> bytes:
        done = subprocess.run(
            [sys.executable, "-m", "driftline", *arguments],
            env=self.environment, input=given, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@pytest.fixture
def console(bootstrap: str, tmp_path: Path) -> Console:
    console = Console(bootstrap, tmp_path / "home")
    ensure_topics(bootstrap, flights.topics(console.namespace).all())
    with EventProducer(flights, bootstrap, namespace=console.namespace) as producer:
        for event in with_closing_clock(flights, open_source(flights, None, EVENTS)):
            producer.send(event)
    return console


def test_the_year_so_far_is_replayed_after_kafka_forgot_it(
    bootstrap: str, console: Console, eventually: Eventually
) -> None:
    case = "driftline.examples.flights:flights"
    log = flights.topics(console.namespace).log
    before = console.run("replay", case, "--values")
    archiving = console.start("archive", case, "--part-size", "200")
    archive = Archive(str(console.home / "archive" / f"{console.namespace}.flights"))
    eventually(lambda: all(archive.end(log, number) >= 600 for number in range(flights.partitions)))
    archiving.send_signal(signal.SIGTERM)
    said = archiving.communicate(timeout=30)[1].decode()
    assert archiving.returncode == 0, said
    assert f"{log}-0: archived up to 600" in said

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.delete_records({TopicPartition(log, number): 500 for number in range(flights.partitions)})
    finally:
        admin.close()
    after = console.run("replay", case, "--values")
    assert after == before
    folded = json.loads(console.run("simulate", case, "-", "--json", given=after))
    assert folded["digest"] == simulate(flights, limit=EVENTS)["digest"]

    lines = console.run("replay", case, "--partition", "1", "--from", "490", "--to", "510", "--json")
    entries = [shown(line) for line in lines.splitlines()]
    assert [entry["offset"] for entry in entries] == list(range(490, 510))
    assert {entry["partition"] for entry in entries} == {1}
    assert {"id", "at", "type"} <= entries[0]["value"].keys()
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert console.run("replay", case, "--from", tomorrow) == b""


def test_poison_in_the_log_is_replayed_as_it_is_and_is_no_event(bootstrap: str, console: Console) -> None:
    log = flights.topics(console.namespace).log
    before = console.run("replay", "driftline.examples.flights:flights", "--values")
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    producer.send(log, value=b"\xff\xfe", key=b"JFK", partition=0)
    producer.close()
    printed = console.run(
        "replay", "driftline.examples.flights:flights", "--partition", "0", "--json"
    ).splitlines()
    assert shown(printed[-1])["value"] == {"base64": "//4="}
    assert console.run("replay", "driftline.examples.flights:flights", "--values") == before
