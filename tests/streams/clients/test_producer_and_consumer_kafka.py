"""The clients around a system: namespaces as workers read them, commits of what a reader still has."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from threading import Thread
from typing import Any

import pytest
import shop
from kafka import KafkaConsumer, TopicPartition

from driftline.streams.clients.consumer import PredictionConsumer
from driftline.streams.clients.producer import EventProducer

SystemOf = Callable[[str], Any]
Eventually = Callable[..., Any]
ORDERS = 60
QUICK = {"heartbeat_interval_ms": 200, "session_timeout_ms": 6_000, "metadata_max_age_ms": 1_000}


@pytest.fixture
def system(system_of: SystemOf, eventually: Eventually) -> Any:
    """A system whose predictions are all published; two thirds of them are in partition 1."""
    system = system_of("shop:orders")
    worker = system.start()
    system.produce(shop.trade(ORDERS))
    eventually(lambda: system.folded(worker))
    system.stop(worker)
    return system


def reader(system: Any, timeout: float = 2.0) -> PredictionConsumer:
    return PredictionConsumer(
        shop.orders, system.bootstrap, group="readers", namespace=system.namespace, timeout=timeout, **QUICK
    )


def committed(system: Any) -> dict[int, int]:
    consumer = KafkaConsumer(bootstrap_servers=system.bootstrap, group_id="readers")
    try:
        topic = system.topics.predictions
        return {p: consumer.committed(TopicPartition(topic, p)) or 0 for p in range(2)}
    finally:
        consumer.close()


def drained(consumer: PredictionConsumer, into: list[str]) -> None:
    into += [prediction.event_id for prediction in consumer]


def together(*work: Callable[[], None]) -> None:
    """Readers join a group only while they read, so they read at once."""
    threads = [Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_clients_read_the_namespace_of_the_environment_as_workers_do(
    system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTLINE_NAMESPACE", system.namespace)
    with EventProducer(shop.orders, system.bootstrap) as producer:
        producer.send(shop.asked(ORDERS, ORDERS))
    assert any(b'"asked-%d"' % ORDERS in record.value for record in system.read(system.topics.log))
    with PredictionConsumer(shop.orders, system.bootstrap, timeout=5) as consumer:
        assert len(list(consumer)) == ORDERS


def test_a_reader_that_lost_a_partition_commits_nothing_of_it(system: Any) -> None:
    first, second = reader(system, timeout=12), reader(system, timeout=12)
    begun = [prediction.event_id for prediction in islice(first, ORDERS - 10)]  # some of each partition
    theirs: tuple[list[str], list[str]] = ([], [])
    try:
        together(lambda: drained(first, theirs[0]), lambda: drained(second, theirs[1]))
        # each has one partition now; the second has dealt with all of its own
        second.commit()
        after = committed(system)
        (lost,) = (p for p, offset in after.items() if offset > 0)
        assert lost not in first._progress.to_commit()  # though it had read all or some of it
        first.commit()
        assert committed(system)[lost] == after[lost]
        assert all(offset > 0 for offset in committed(system).values())
    finally:
        first.close()
        second.close()
    assert set(begun) | set(theirs[0]) | set(theirs[1]) == {f"asked-{n}" for n in range(ORDERS)}
    assert len(set(theirs[1])) == len(theirs[1])
    again: list[str] = []
    with reader(system, timeout=6) as consumer:
        drained(consumer, again)
    assert again == []


def test_what_was_being_dealt_with_when_it_failed_comes_again(system: Any) -> None:
    begun: list[str] = []

    def fail() -> None:
        with reader(system, timeout=30) as consumer:
            begun.append(next(iter(consumer)).event_id)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert committed(system) == {0: 0, 1: 0}
    again: list[str] = []
    with reader(system, timeout=6) as consumer:
        drained(consumer, again)
    assert begun[0] in again


def test_a_partition_that_comes_back_is_read_on_without_repeats(system: Any) -> None:
    first = reader(system, timeout=12)
    begun = [prediction.event_id for prediction in islice(first, 10)]  # nothing of it is committed
    second = reader(system, timeout=3)
    rest: list[str] = []
    try:
        together(lambda: drained(first, rest), second.close)
        assert sorted(begun + rest) == sorted(f"asked-{n}" for n in range(ORDERS))
    finally:
        first.close()
