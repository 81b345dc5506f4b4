"""What foreign producers send on a real Kafka: keys in other partitions, records that no topic takes."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import shop
from kafka import KafkaProducer

from driftline.streams.clients.producer import EventProducer
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.records.dead_letter import CUT_VALUE

PARTITIONS = shop.orders.partitions
SHOPS = [f"shop-{n}" for n in range(12)]
BOMB = b"[" * 6_000_000
LARGE = b"[" * 900_000


def by_crc32(key: bytes) -> int:
    return zlib.crc32(key) % PARTITIONS


def test_a_worker_goes_on_after_records_in_wrong_partitions_and_after_bombs(
    system_of: Callable[[str], Any], eventually: Callable[..., Any]
) -> None:
    system = system_of("shop:orders")
    worker = system.start()
    codec = shop.orders.codec()
    # a batch of a few thousand bytes on its way, megabytes once it is unpacked
    foreign = KafkaProducer(
        bootstrap_servers=system.bootstrap,
        compression_type="gzip",
        max_request_size=10_000_000,
    )
    events = [shop.asked(n, n, name) for n, name in enumerate(SHOPS)]
    for event in events:
        key = event.shop.encode()
        foreign.send(system.topics.log, key=key, value=codec.encode(event), partition=by_crc32(key))
    for partition in range(PARTITIONS):
        foreign.send(system.topics.log, key=b"s", value=BOMB, partition=partition)
        foreign.send(system.topics.log, key=b"k" * 70_000, value=LARGE, partition=partition)
    foreign.close()
    after = [shop.asked(100 + n, 100 + n, name) for n, name in enumerate(SHOPS)]
    with EventProducer(shop.orders, system.bootstrap, namespace=system.namespace) as producer:
        for event in after:
            producer.send(event)
    eventually(lambda: system.folded(worker))

    at_home = [e for e in events if by_crc32(e.shop.encode()) == partition_of(e.shop.encode(), PARTITIONS)]
    answered = [json.loads(record.value)["event_id"] for record in system.read(system.topics.predictions)]
    assert sorted(answered) == sorted(event.id for event in [*at_home, *after])
    letters = system.read(system.topics.dead_letters)
    assert stages(letters) == ["decode"] * 2 * PARTITIONS + ["partition"] * (len(events) - len(at_home))
    bombs = [dict(letter.headers) for letter in letters if len(letter.value) == CUT_VALUE]
    assert {headers["value-sha256"].decode() for headers in bombs} == {hashlib.sha256(BOMB).hexdigest()}
    assert len([letter for letter in letters if letter.value == LARGE]) == PARTITIONS
    eventually(lambda: system.status["counts"]["misplaced"] == len(events) - len(at_home))
    system.stop(worker)
    assert system.status["counts"]["dead_letters"] == len(letters)


def stages(letters: Sequence[Any]) -> list[str]:
    return sorted(dict(letter.headers)["stage"].decode() for letter in letters)
