"""What enters the log, and what is refused at the edge with which reason."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from driftline.streams.declare.event_codec import EventCodec
from driftline.streams.declare.events import Event, Reference
from driftline.streams.declare.partitioning import murmur2, partition_of
from driftline.streams.errors import DeclarationError, Refused


class Paid(Event, tag="paid"):
    card: str
    amount: float
    note: str | None = None


class Shop(Reference, tag="shop"):
    shop: str


GOOD: dict[str, Any] = {"type": "paid", "id": "1", "at": "2024-01-01T00:00:00Z", "card": "c", "amount": 2.5}


@pytest.fixture
def codec() -> EventCodec:
    return EventCodec(
        [Paid, Shop], "card", 65_536, {Paid: Paid.__struct_fields__, Shop: Shop.__struct_fields__}
    )


def test_a_good_event_survives_the_round_trip(codec: EventCodec) -> None:
    event = codec.decode(json.dumps(GOOD).encode(), b"c")
    assert event == Paid("c", 2.5, id="1", at=datetime(2024, 1, 1, tzinfo=UTC))
    assert codec.decode(codec.encode(event), b"c") == event


@pytest.mark.parametrize(
    ("raw", "key", "stage", "reason"),
    [
        (b"no json", b"c", "decode", "malformed"),
        (b"", b"c", "decode", "no value"),
        (None, b"c", "decode", "no value"),
        (json.dumps(GOOD | {"amount": "2"}).encode(), b"c", "decode", "amount"),
        (json.dumps(GOOD | {"type": "stolen"}).encode(), b"c", "decode", "stolen"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "card"}).encode(), b"c", "decode", "card"),
        (json.dumps(GOOD | {"more": 1}).encode(), b"c", "decode", "more"),
        (json.dumps(GOOD | {"amount": float("nan")}).encode(), b"c", "decode", "invalid"),
        (json.dumps(GOOD).replace("2.5", "1e400").encode(), b"c", "decode", "out of range"),
        (json.dumps(GOOD | {"amount": 1e300}).encode(), b"c", "decode", "beyond"),
        (json.dumps(GOOD | {"note": "x" * 1_000_000}).encode(), b"c", "decode", "limit"),
        (json.dumps(GOOD | {"at": "2024-01-01T00:00:00"}).encode(), b"c", "decode", "at"),
        (json.dumps(GOOD | {"at": "9999-12-31T23:59:59-12:00"}).encode(), b"c", "decode", "year 9999"),
        (json.dumps(GOOD | {"at": "0001-01-01T00:00:00+12:00"}).encode(), b"c", "decode", "year 1"),
        (json.dumps(GOOD)[:-1].encode() + b', "amount": 2.5}', b"c", "decode", "'amount' twice"),
        (json.dumps(GOOD)[:-1].encode() + b', "amoun\\u0074" : 1}', b"c", "decode", "'amount' twice"),
        (json.dumps(GOOD)[:-1].encode() + b', "type": "paid"}', b"c", "decode", "'type' twice"),
        (json.dumps(GOOD)[:-1].encode() + b', "note": "a", "note": "b"}', b"c", "decode", "'note' twice"),
        (json.dumps(GOOD | {"id": ""}).encode(), b"c", "decode", "id"),
        (b"\xff\xfe{}", b"c", "decode", ""),
        (b"[" * 50_000, b"c", "decode", ""),
        (json.dumps(GOOD).encode(), None, "key", "missing"),
        (json.dumps(GOOD).encode(), b"other", "key", "other"),
    ],
)
def test_bad_input_is_refused_with_its_reason(
    codec: EventCodec, raw: bytes | None, key: bytes | None, stage: str, reason: str
) -> None:
    with pytest.raises(Refused) as refused:
        codec.decode(raw, key)
    assert refused.value.stage == stage
    assert reason in refused.value.reason


@pytest.mark.parametrize(
    "note", [None, "a: b", '": "', '\\"note\\":', "{:}", "tab\tand: colon", "\u20ac: \U0001f600"]
)
def test_colons_in_text_and_spaces_between_are_no_repeated_keys(codec: EventCodec, note: str | None) -> None:
    event = Paid("c", 2.5, note, id="a:b:c", at=datetime(2024, 1, 1, tzinfo=UTC))
    assert codec.decode(codec.encode(event), b"c") == event
    body = GOOD | {"id": "a:b:c", "note": note, "at": "2024-01-01T01:00:00+01:00"}
    for spaced in (json.dumps(body), json.dumps(body, indent=2), json.dumps(body, ensure_ascii=False)):
        assert codec.decode(spaced.encode(), b"c") == event


class Basket(Event, tag="basket"):
    card: str
    prices: list[float]
    weights: dict[str, float | None]
    worth: float | str


BASKET: dict[str, Any] = GOOD | {
    "type": "basket",
    "prices": [1.0, 2],
    "weights": {"a": 1, "b": None},
    "worth": "x",
}
BASKET.pop("amount")


def test_numbers_within_lists_and_objects_are_checked_too() -> None:
    codec = EventCodec([Basket], "card", 65_536, {Basket: ("prices", "weights", "worth")})
    assert codec.decode(json.dumps(BASKET).encode(), b"c") == Basket(
        "c", [1.0, 2.0], {"a": 1.0, "b": None}, "x", id="1", at=datetime(2024, 1, 1, tzinfo=UTC)
    )
    for field, value in (("prices", [1e300]), ("weights", {"a": -1e16}), ("worth", 1e15 + 1)):
        with pytest.raises(Refused, match=f"{field} is .*beyond"):
            codec.decode(json.dumps(BASKET | {field: value}).encode(), b"c")
    twice = json.dumps(BASKET).replace('{"a": 1,', '{"a": 1, "a": 2,')
    with pytest.raises(Refused, match="'a' twice"):
        codec.decode(twice.encode(), b"c")


def test_a_number_that_nothing_is_computed_with_may_have_any_magnitude() -> None:
    codec = EventCodec([Basket], "card", 65_536, {Basket: ("prices",)})
    identifier = json.dumps(BASKET | {"worth": 10**18}).encode()
    assert codec.decode(identifier, b"c").worth == 10**18  # type: ignore[attr-defined]
    with pytest.raises(Refused, match=r"prices is .*beyond"):
        codec.decode(json.dumps(BASKET | {"prices": [1e300]}).encode(), b"c")


def test_references_have_no_key_of_their_own(codec: EventCodec) -> None:
    shop = Shop("s", id="r", at=datetime(2024, 1, 1, tzinfo=UTC))
    assert codec.key(shop) is None
    assert codec.decode(codec.encode(shop), None) == shop


def test_an_event_without_the_partition_key_is_no_declaration() -> None:
    class Lost(Event, tag="lost"):
        other: str

    with pytest.raises(DeclarationError, match="Lost lacks the partition key field 'card'"):
        EventCodec([Paid, Lost], "card", 1000, {})


@pytest.mark.parametrize(
    ("key", "expected"),
    # the values of Kafka's own test of its murmur2
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536)],
)
def test_murmur2_is_kafkas(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected & 0xFFFFFFFF


def test_partitions_are_those_of_kafka_python() -> None:
    from kafka.partitioner.default import murmur2 as theirs

    for n in range(500):
        key = f"key-{n}".encode()
        assert partition_of(key, 7) == (theirs(key) & 0x7FFFFFFF) % 7


class Measured(Event, tag="measured"):
    meter: int
    value: float | None
    parts: tuple[float, ...] = ()
    total: int | str = 0


@pytest.fixture
def meters() -> EventCodec:
    return EventCodec([Measured], "meter", 65_536, {Measured: Measured.__struct_fields__})


MEASURED: dict[str, Any] = {
    "type": "measured", "id": "1", "at": "2024-01-01T00:00:00Z", "meter": 7, "value": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "key", "reason"),
    [
        ({"value": -2e15}, b"7", "value is -2000000000000000.0, beyond"),
        ({"parts": [1.0, 2e15]}, b"7", "parts is (1.0, 2000000000000000.0), beyond"),
        ({"total": 10**16}, b"7", "total is 10000000000000000, beyond"),
        ({"meter": 10**16}, b"10000000000000000", "meter is 10000000000000000, beyond"),
        ({}, b"8", "record key is b'8', field 'meter' makes it '7'"),
    ],
)
def test_each_kind_of_field_is_checked_by_its_type(
    meters: EventCodec, fields: dict[str, Any], key: bytes, reason: str
) -> None:
    assert meters.decode(json.dumps(MEASURED).encode(), b"7")
    with pytest.raises(Refused, match=re.escape(reason)):
        meters.decode(json.dumps(MEASURED | fields).encode(), key)


def test_what_is_read_is_written_one_way_however_a_producer_has_written_it(meters: EventCodec) -> None:
    event, written = meters.read(json.dumps(MEASURED | {"total": "1:2"}, indent=1).encode(), b"7")
    assert meters.read(meters.encode(event), b"7") == (event, written)
    elsewhere = MEASURED | {"total": "1:2", "at": "2024-01-01T02:00:00+02:00", "parts": []}
    assert meters.read(json.dumps(dict(reversed(elsewhere.items()))).encode(), b"7")[1] == written
    assert meters.read(json.dumps(MEASURED | {"total": "1:3"}).encode(), b"7")[1] != written
