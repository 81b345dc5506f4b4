"""Keys live where Kafka's default partitioner puts them; what came elsewhere is refused, and why is said."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace

import pytest
import shop

from driftline.streams.declare.partitioning import OTHER_PARTITIONERS, Home, partition_of
from driftline.streams.fold.processor import PartitionProcessor, summarize
from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.sources import LogRecord

PARTITIONS = 4
CASE = replace(shop.orders, partitions=PARTITIONS)
SHOPS = [f"shop-{n}" for n in range(40)]


def record(offset: int, name: str) -> LogRecord:
    codec = CASE.codec()
    event = shop.asked(offset, offset, name)
    return LogRecord(offset, codec.key(event), codec.encode(event))


def letters(out: Outputs) -> list[tuple[str, str]]:
    return [(dict(o.headers)["stage"].decode(), dict(o.headers)["reason"].decode()) for o in out.dead_letters]


def test_a_record_is_answered_in_the_partition_of_its_key_alone() -> None:
    answered: list[str] = []
    for partition in range(PARTITIONS):
        processor = PartitionProcessor(CASE, partition)
        out = processor.step([record(n, name) for n, name in enumerate(SHOPS)])
        answered += [json.loads(o.value)["keys"]["shop"] for o in out.predictions]
        refused = letters(out)
        assert {stage for stage, _ in refused} == {"partition"}
        assert summarize([processor]).counts["misplaced"] == len(refused) == len(SHOPS) - len(out.predictions)
    assert sorted(answered) == sorted(SHOPS)


def test_a_refusal_names_the_right_partition_and_who_chooses_the_wrong_one() -> None:
    crc32 = next(name for name in OTHER_PARTITIONERS if name.startswith("crc32"))
    for name in SHOPS:
        right, wrong = partition_of(name.encode(), PARTITIONS), zlib.crc32(name.encode()) % PARTITIONS
        reason = Home(wrong, PARTITIONS).refusal(name.encode())
        if right == wrong:
            assert reason is None
        else:
            assert f"belongs in partition {right}" in str(reason)
            assert crc32 in str(reason)


def test_where_no_known_partitioner_puts_a_key_nobody_is_blamed() -> None:
    def others(name: str) -> set[int]:
        key = name.encode()
        return {partition_of(key, 64), *(hashed(key) % 64 for hashed in OTHER_PARTITIONERS.values())}

    nowhere = next(p for p in range(64) if p not in others("s"))
    assert "no hash that is known puts it here" in str(Home(nowhere, 64).refusal(b"s"))


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    # what the clients themselves compute: librdkafka 2.x (confluent-kafka) and sarama, for 1,000 partitions
    [("crc32", b"123456789", 0xCBF43926 % 1000), ("FNV-1a", b"foobar", (2**32 - 0xBF9CF968) % 1000)],
)
def test_partitioners_of_other_clients_are_theirs(name: str, key: bytes, expected: int) -> None:
    hashed = next(hashed for full, hashed in OTHER_PARTITIONERS.items() if full.startswith(name))
    assert hashed(key) % 1000 == expected


def test_with_one_partition_every_key_is_at_home() -> None:
    assert all(Home(0, 1).refusal(name.encode()) is None for name in SHOPS)
