"""One log for every reader: what was rolled back, or is not decided yet, is in none of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import shop
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource

from driftline.infra.cli.status import status_text
from driftline.infra.local.running_workers import collect
from driftline.infra.settings import Settings
from driftline.infra.topics.tail import newest_records
from driftline.streams.archive.archiver import Archiver
from driftline.streams.archive.parts import Archive
from driftline.streams.archive.topic_history import TopicPast
from driftline.streams.clients.consumer import PredictionConsumer
from driftline.streams.declare.events import Event
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.records.outputs import Outputs
from tests.commands.forked_command import Command

Eventually = Callable[..., Any]
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "200",
    "min.cleanable.dirty.ratio": "0.01",
    "max.compaction.lag.ms": "200",
}
BROKER = "1"
"""The number of the tests' broker, which looks for what is to be compacted every 15 s by default."""
KEPT = {"cleanup.policy": "delete", "segment.ms": "604800000"}
AT_S = partition_of(b"s", 2)
"""The partition of shop s; shop w has the other one."""


@pytest.fixture
def system(system_of: Callable[[str], Any]) -> Any:
    return system_of("shop:orders")


def configure(system: Any, config: dict[str, str], *, kind: str = "topic", name: str | None = None) -> None:
    """Give the log, or what is named, this configuration."""
    admin = KafkaAdminClient(bootstrap_servers=system.bootstrap)
    try:
        admin.alter_configs([ConfigResource(kind, name or system.topics.log, config)])
    finally:
        admin.close()


def send(producer: KafkaProducer, system: Any, events: Iterable[Event]) -> None:
    codec = system.case.codec()
    for event in events:
        key = codec.key(event)
        partition = partition_of(key, system.case.partitions)
        producer.send(system.topics.log, codec.encode(event), key=key, partition=partition)
    producer.flush()


def rolled_back(producer: KafkaProducer, system: Any, events: Iterable[Event]) -> None:
    producer.begin_transaction()
    send(producer, system, events)
    producer.abort_transaction()


def orders(first: int, count: int, minute: float, shop_of: Callable[[int], str]) -> list[Event]:
    """Orders and what became of each."""
    made = range(first, first + count)
    return [
        event
        for n in made
        for event in (
            shop.asked(n, minute + n, shop_of(n)),
            shop.settled(n, minute + n + 0.5, shop_of(n)),
        )
    ]


def of_both(n: int) -> str:
    return "sw"[n % 2]


def folded(system: Any, worker: Command) -> bool:
    """Whether the worker has come to the last committed record of each partition."""
    assert worker.poll() is None, "the worker ended"
    status = system.status
    if status is None or status["pid"] != worker.pid:
        return False
    last = {record.partition: record.offset for record in system.read(system.topics.log)}
    return {int(p): offset - 1 for p, offset in status["next_offsets"].items()} == last


def published(outputs: Outputs) -> list[tuple[bytes | None, bytes | None]]:
    return [(output.key, output.value) for output in outputs.predictions]


def archived(system: Any) -> list[tuple[int, int, bytes | None]]:
    """What history reads of the log after an archiver has copied all that is complete."""
    archive = Archive(str(system.home / "archive"), 10)
    log = system.topics.log
    Archiver(archive, system.bootstrap, [log], f"{log}.archiver").once()
    assert all(archive.end(log, p) > 0 for p in range(system.case.partitions))
    with TopicPast(system.bootstrap, archive) as history:
        return [
            (p, record.offset, record.value)
            for p in range(system.case.partitions)
            for chunk in history.records(log, p, history.begin(log, p), history.end(log, p))
            for record in chunk
        ]


def read_by_users(system: Any) -> list[str]:
    """The requests whose predictions a reader of the predictions topic is given."""
    with PredictionConsumer(
        system.case, system.bootstrap, namespace=system.namespace, timeout=5.0
    ) as predictions:
        return sorted(prediction.event_id for prediction in predictions)


def compacted(system: Any, producer: KafkaProducer) -> bool:
    """Whether compaction has taken records of the log; until then one more, which closes a segment."""
    if len(system.read(system.topics.log)) < sum(system.ends(system.topics.log).values()):
        return True
    send(producer, system, [shop.asked(30, 30, "s")])
    return False


def filled_with_gaps(
    system: Any, plain: KafkaProducer, transactional: KafkaProducer, eventually: Eventually
) -> None:
    """A log from which compaction and a transaction that was rolled back have taken records."""
    # gaps that compaction left, before the log was given its settings
    configure(system, {"log.cleaner.backoff.ms": "200"}, kind="broker", name=BROKER)
    configure(system, COMPACTED)
    send(plain, system, orders(0, 30, 0, of_both))
    eventually(lambda: compacted(system, plain))
    configure(system, KEPT)
    configure(system, {}, kind="broker", name=BROKER)

    transactional.begin_transaction()
    send(transactional, system, orders(40, 20, 0, of_both))
    transactional.commit_transaction()
    rolled_back(transactional, system, orders(1_000, 5, -900, of_both))
    send(plain, system, orders(60, 10, 0, of_both))


def answers(system: Any) -> list[list[Any]]:
    """The predictions by partition, which are those of a fold of the log."""
    refolded = [published(outputs) for _, outputs in system.refolded()]
    predictions: list[list[Any]] = [[], []]
    for record in system.read(system.topics.predictions):
        predictions[record.partition].append((record.key, record.value))
    assert predictions == refolded
    return predictions


def assert_only_committed_are_read(
    system: Any, transactional: KafkaProducer, predictions: list[list[Any]]
) -> None:
    """What others write to the predictions by mistake, and roll back or do not end, is given to nobody."""
    answered = sorted(json.loads(value)["event_id"] for _, value in [*predictions[0], *predictions[1]])
    for number in range(2):
        transactional.begin_transaction()
        transactional.send(system.topics.predictions, b"no prediction", partition=number)
        transactional.abort_transaction()
    transactional.begin_transaction()
    transactional.send(system.topics.predictions, b"no prediction", partition=AT_S)
    transactional.flush()
    assert read_by_users(system) == answered
    transactional.abort_transaction()
    assert read_by_users(system) == answered


def test_every_reader_sees_the_committed_records_of_a_log_and_nothing_else(
    system: Any, transactional: KafkaProducer, eventually: Eventually
) -> None:
    plain = KafkaProducer(bootstrap_servers=system.bootstrap, acks="all")
    filled_with_gaps(system, plain, transactional, eventually)
    worker = system.start()
    eventually(lambda: folded(system, worker))
    rolled_back(transactional, system, orders(2_000, 5, -1_900, of_both))

    transactional.begin_transaction()
    send(transactional, system, orders(100, 5, 0, lambda _: "s"))
    send(plain, system, orders(105, 5, 0, of_both))
    settings = Settings(home=system.home, bootstrap=system.bootstrap, namespace=system.namespace)

    def waiting() -> dict[str, Any]:
        (found,) = collect(settings)["workers"]
        return dict(found["partitions"][str(AT_S)])

    eventually(lambda: waiting().get("undecided", 0) >= 10 and waiting()["lag"] == 0)
    assert waiting()["transaction"] == transactional.config["transactional_id"]
    assert f"wait for the open transaction '{waiting()['transaction']}' to end" in status_text(
        collect(settings)
    )
    eventually(lambda: folded(system, worker))  # the other partition goes on
    transactional.commit_transaction()
    eventually(lambda: folded(system, worker))
    rolled_back(transactional, system, orders(3_000, 5, -2_900, of_both))
    eventually(lambda: "undecided" not in waiting())
    assert waiting()["lag"] == 0  # though the log ends with what nobody is to answer
    assert system.run("audit", system.case_path).returncode == 0

    system.stop(worker)
    shutil.rmtree(system.home / "checkpoints")
    again = system.start()
    eventually(lambda: folded(system, again))
    assert (
        len(newest_records(system.bootstrap, system.topics.predictions, 2)) == 2
    )  # behind them lies a fence's marker
    send(plain, system, orders(110, 5, 0, of_both))
    eventually(lambda: folded(system, again))
    system.stop(again)

    log = sorted((r.partition, r.offset, r.value) for r in system.read(system.topics.log))
    predictions = answers(system)
    assert sum(map(len, predictions)) >= 20 + 10 + 5 + 5 + 5

    assert_only_committed_are_read(system, transactional, predictions)
    assert system.run("audit", system.case_path).returncode == 0
    assert archived(system) == log
    plain.close()
