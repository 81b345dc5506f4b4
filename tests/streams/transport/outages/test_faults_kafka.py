"""What a worker on a real Kafka makes of failing user code, bad input, wrong clocks and idle partitions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer
from shop import FRAGILE_ORDER, HEALTHY_LABELS, asked, orders, settled, trade

from driftline.infra.topics.administration import ensure_topics
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.outputs import Output, Outputs
from driftline.streams.records.positions import source_of

SystemOf = Callable[[str], Any]
Eventually = Callable[..., Any]
KINDS = ("predictions", "outcomes", "drift", "models", "dead_letters")


def records(system: Any, kind: str) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in system.read(getattr(system.topics, kind))]


def letters(system: Any) -> list[tuple[str, str, bytes]]:
    """(stage, reason, value) of every dead letter."""
    found = []
    for record in system.read(system.topics.dead_letters):
        headers = dict(record.headers)
        found.append((headers["stage"].decode(), headers["reason"].decode(), record.value))
    return found


def published(system: Any, kind: str, partition: int) -> list[Output]:
    """The records of an output partition, as the fold would put them out."""
    outputs = []
    for record in system.read(getattr(system.topics, kind)):
        if record.partition == partition and (position := source_of(record.headers)) is not None:
            _, *headers = record.headers  # a code epoch has no source position
            value = record.value or b""
            outputs.append(Output(*position, record.key, value, tuple(headers)))
    return outputs


def assert_equals_the_fold(system: Any) -> None:
    """What is on the output topics is what the fold over the log on Kafka puts out."""
    log = system.read(system.topics.log)
    for partition in range(system.case.partitions):
        folded: Outputs = PartitionProcessor(system.case, partition).step(
            [record for record in log if record.partition == partition]
        )
        for kind in KINDS:
            assert published(system, kind, partition) == getattr(folded, kind), kind


def test_user_code_that_raises_or_turns_nan_becomes_events_and_the_worker_goes_on(
    system_of: SystemOf, eventually: Eventually
) -> None:
    system = system_of("shop:faulty")
    worker = system.start()
    system.produce(trade(150))
    eventually(lambda: system.folded(worker))

    found = letters(system)
    assert sorted((stage, json.loads(value)["id"]) for stage, _, value in found) == [
        ("features", f"asked-{FRAGILE_ORDER[1:]}"),
        ("label", f"settled-{FRAGILE_ORDER[1:]}"),
    ]
    reasons = {stage: reason for stage, reason, _ in found}
    assert "'fragile'" in reasons["features"]
    assert "ZeroDivisionError: division by zero" in reasons["features"]
    assert "LookupError: no rule for this order" in reasons["label"]

    changes = [change for change in records(system, "models") if change["kind"] == "quarantine"]
    assert {(c["key"], c["member"], c["serving"]) for c in changes if c["member"] == "nan"} == {
        ("s", "nan", "logistic"),
        ("w", "nan", "logistic"),
    }
    served = Counter((p["keys"]["shop"], p["model"]["name"]) for p in records(system, "predictions"))
    assert served["s", "nan"] == served["w", "nan"] == HEALTHY_LABELS
    assert sum(served.values()) == 149
    assert_equals_the_fold(system)
    system.stop(worker)


def test_one_event_dated_2099_expires_nothing(system_of: SystemOf, eventually: Eventually) -> None:
    system = system_of("shop:orders")
    worker = system.start()
    wrong = datetime(2099, 1, 1, tzinfo=UTC)
    events = list(trade(20))
    # the last orders of both shops are open when the wrong clock speaks
    open_ones = [asked(100, 21, "s"), asked(101, 21, "w")]
    clock_errors = [asked(200, 0, "s", at=wrong), asked(201, 0, "w", at=wrong)]
    labels = [settled(100, 60, "s"), settled(101, 60, "w")]
    system.produce([*events, *open_ones, *clock_errors, *labels])
    eventually(lambda: system.folded(worker))

    assert [(stage, json.loads(value)["at"][:4]) for stage, _, value in letters(system)] == [
        ("time", "2099")
    ] * 2
    assert Counter(o["status"] for o in records(system, "outcomes")) == {"labelled": 22}
    assert system.status["counts"]["pending"] == 0
    assert_equals_the_fold(system)
    system.stop(worker)


def test_requests_of_a_live_partition_that_falls_idle_expire_by_clock_events(
    system_of: SystemOf, eventually: Eventually
) -> None:
    system = system_of("shop:prompt")
    worker = system.start()
    now = datetime.now(UTC)
    idle, other = ("s", "w")
    assert partition_of(idle.encode(), 2) != partition_of(other.encode(), 2)
    system.produce([asked(n, 0, idle, at=now + timedelta(milliseconds=n)) for n in range(3)])
    outcomes = eventually(lambda: three(records(system, "outcomes")))
    assert [o["event_id"] for o in outcomes] == ["asked-0", "asked-1", "asked-2"]
    assert {o["status"] for o in outcomes} == {"unlabelled"}

    def clocks() -> list[int]:
        log = system.read(system.topics.log)
        return [record.partition for record in log if json.loads(record.value)["type"] == "clock"]

    appended = clocks()
    assert set(appended) == {partition_of(idle.encode(), 2)}
    eventually(lambda: system.folded(worker))
    assert letters(system) == []

    # once nothing waits there, time needs no telling
    later = datetime.now(UTC)
    system.produce([asked(10, 0, other, at=later), settled(10, 0, other, at=later + timedelta(seconds=1))])
    eventually(lambda: records(system, "outcomes")[3:])
    assert clocks().count(partition_of(idle.encode(), 2)) == len(appended)
    eventually(lambda: system.folded(worker))
    assert system.status["counts"]["pending"] == 0
    assert_equals_the_fold(system)
    system.stop(worker)


def test_the_one_event_after_a_restart_is_answered_at_once(
    system_of: SystemOf, eventually: Eventually
) -> None:
    system = system_of("shop:orders")
    worker = system.start()
    system.produce(trade(20))
    eventually(lambda: system.folded(worker))
    system.stop(worker)
    before = sum(system.ends(system.topics.log).values())
    worker = system.start()
    eventually(lambda: system.folded(worker))  # it has gone to where the group had committed
    system.produce([asked(300, 30)])
    eventually(lambda: system.folded(worker))
    assert sum(system.ends(system.topics.log).values()) == before + 1
    assert "asked-300" in {prediction["event_id"] for prediction in records(system, "predictions")}
    assert_equals_the_fold(system)
    system.stop(worker)


def test_a_log_recreated_under_a_worker_is_refused(system_of: SystemOf, eventually: Eventually) -> None:
    system = system_of("shop:orders")
    worker = system.start()
    system.produce(trade(20))
    eventually(lambda: system.folded(worker))
    admin = KafkaAdminClient(bootstrap_servers=system.bootstrap)
    admin.delete_topics([system.topics.log])
    eventually(lambda: system.topics.log not in admin.list_topics())
    admin.close()
    ensure_topics(system.bootstrap, system.topics.all())
    system.produce(trade(40))

    def refused() -> bool:
        partitions = (system.status or {})["partitions"].values()
        return all(found["state"] == "refused" for found in partitions) and bool(partitions)

    eventually(refused)
    for found in system.status["partitions"].values():
        assert "was recreated" in found["reason"]
    assert len(system.read(system.topics.predictions)) == 20
    system.stop(worker)


def three(found: list[Any]) -> list[Any] | None:
    """The first three, once they are there."""
    return found[:3] if len(found) >= 3 else None


GOOD: dict[str, Any] = {
    "type": "asked", "id": "bad", "at": "2024-01-01T00:10:00Z", "order": "o", "shop": "s", "amount": 1.0,
}  # fmt: skip


def with_fields(**fields: Any) -> bytes:
    return json.dumps(GOOD | fields).encode()


def without(name: str) -> bytes:
    return json.dumps({k: v for k, v in GOOD.items() if k != name}).encode()


BAD: dict[str, tuple[bytes | None, bytes | None, str, str]] = {
    "not JSON": (b"no json", b"s", "decode", "malformed"),
    "truncated JSON": (with_fields()[:-1], b"s", "decode", "truncated"),
    "two objects": (with_fields() + with_fields(), b"s", "decode", "trailing"),
    "an array": (b"[]", b"s", "decode", "Expected `object`"),
    "null": (b"null", b"s", "decode", "Expected `object`"),
    "wrong type": (with_fields(amount="1"), b"s", "decode", "$.amount"),
    "null where a value is needed": (with_fields(amount=None), b"s", "decode", "$.amount"),
    "unknown tag": (with_fields(type="stolen"), b"s", "decode", "stolen"),
    "no tag": (without("type"), b"s", "decode", "type"),
    "missing field": (without("order"), b"s", "decode", "order"),
    "no id": (without("id"), b"s", "decode", "id"),
    "empty id": (with_fields(id=""), b"s", "decode", "$.id"),
    "extra field": (with_fields(more=1), b"s", "decode", "more"),
    "NaN": (with_fields(amount=float("nan")), b"s", "decode", "invalid"),
    "infinity": (with_fields(amount=float("inf")), b"s", "decode", "invalid"),
    "a number beyond floats": (with_fields().replace(b"1.0", b"1e999"), b"s", "decode", "out of range"),
    "a huge number": (with_fields(amount=1e300), b"s", "decode", "amount is 1e+300, beyond"),
    "a number of 5,000 digits": (with_fields().replace(b"1.0", b"9" * 5000), b"s", "decode", ""),
    "a string of 1 MB": (with_fields(note="x" * 1_000_000), b"s", "decode", "limit"),
    "no zone": (with_fields(at="2024-01-01T00:10:00"), b"s", "decode", "$.at"),
    "a day that is none": (with_fields(at="2024-02-30T00:10:00Z"), b"s", "decode", "$.at"),
    "the year 9999": (with_fields(at="9999-12-31T23:59:59-12:00"), b"s", "decode", "year"),
    "the year 1": (with_fields(at="0001-01-01T00:00:00+12:00"), b"s", "decode", "year"),
    "seconds since the epoch": (with_fields(at=1704067800), b"s", "decode", "$.at"),
    "empty value": (b"", b"s", "decode", "no value"),
    "tombstone": (None, b"s", "decode", "no value"),
    "null key": (with_fields(), None, "key", "missing"),
    "wrong key": (with_fields(), b"other", "key", "'other'"),
    "key that is no text": (with_fields(), b"\xff\xfe", "key", "xff"),
    "invalid UTF-8": (with_fields().replace(b'"o"', b'"\xff"'), b"s", "decode", "utf-8"),
    "half a surrogate pair": (with_fields().replace(b'"o"', rb'"\ud800"'), b"s", "decode", "surrogate"),
    "a byte order mark": (b"\xef\xbb\xbf" + with_fields(), b"s", "decode", "malformed"),
    "repeated key": (with_fields().replace(b"{", b'{"amount": 2.0, ', 1), b"s", "decode", "'amount' twice"),
    "repeated tag": (with_fields().replace(b"}", b', "type": "asked"}'), b"s", "decode", "'type' twice"),
    "repeated optional field": (
        with_fields().replace(b"}", b', "note": "a", "n\\u006fte": "b"}'), b"s", "decode", "'note' twice",
    ),
    "deep nesting": (b"[" * 50_000, b"s", "decode", ""),
    "deep nesting in a field": (
        with_fields().replace(b'"o"', b'{"a":' * 9_000 + b"1" + b"}" * 9_000), b"s", "decode", "$.order",
    ),
}  # fmt: skip


def test_each_bad_input_is_one_dead_letter_with_its_reason_and_changes_nothing_else(
    system_of: SystemOf, eventually: Eventually
) -> None:
    clean, dirty = system_of("shop:orders"), system_of("shop:orders")
    events = list(trade(60))
    clean.produce(events)

    partition = partition_of(b"s", 2)
    codec = orders.codec()
    producer = KafkaProducer(bootstrap_servers=dirty.bootstrap, max_request_size=2_000_000)
    bad = iter(BAD.values())
    for event in events:
        producer.send(dirty.topics.log, codec.encode(event), key=codec.key(event))
        if event.shop == "s" and (case := next(bad, None)) is not None:
            producer.send(dirty.topics.log, case[0], key=case[1], partition=partition)
    assert next(bad, None) is None, "every bad input was sent"
    producer.close()
    workers = [clean.start(), dirty.start()]
    eventually(lambda: clean.folded(workers[0]) and dirty.folded(workers[1]))

    found = letters(dirty)
    assert len(found) == len(BAD)
    for (name, (value, _, stage, reason)), letter in zip(BAD.items(), found, strict=True):
        assert letter[0] == stage, (name, letter[1])
        assert reason in letter[1], (name, letter[1])
        assert letter[1], name
        assert (letter[2] or b"") == (value or b""), name
    assert letters(clean) == []

    def answers(system: Any) -> list[Any]:
        return [
            (p["event_id"], p["prediction"], p["probabilities"], p["features"], p["model"]["name"])
            for p in sorted(records(system, "predictions"), key=lambda p: p["event_id"])
        ]

    def became(system: Any) -> list[Any]:
        return sorted(
            (o["event_id"], o["status"], o["label"], o["loss"]) for o in records(system, "outcomes")
        )

    assert answers(dirty) == answers(clean)
    assert became(dirty) == became(clean)
    for system, worker in zip((clean, dirty), workers, strict=True):
        system.stop(worker)
    assert clean.status["models"] == dirty.status["models"]
    unlike = {"dead_letters": len(BAD)}
    assert clean.status["counts"] | unlike == dirty.status["counts"]
    assert_equals_the_fold(dirty)
