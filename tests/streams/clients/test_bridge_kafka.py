"""A bridge on a real Kafka and a SQLite store, killed and started again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import shop
import till
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.feast.repository_location import RepositoryLocation
from driftline.features.online.writer import RowStore
from driftline.infra.topics.administration import ensure_topics
from driftline.streams.archive.log_reader import LogReader
from driftline.streams.declare.topics import TopicSpec
from driftline.streams.fold.processor import counts_of

Eventually = Callable[..., Any]
START = shop.START.timestamp()
SHOPS = ("s", "w", "n")
BAD = [b"no json", b"", b'{"what": "sold"}', b"x" * 1_000_000]
BAD_SHARE = {"s": 0.25, "w": 0.5}
"""What the store has of two of the three shops."""


@pytest.fixture
def system(system_of: Callable[..., Any]) -> Any:
    system = system_of("till:sales")
    ensure_topics(system.bootstrap, [TopicSpec(till.till.topic, 2, {})], fresh=True)
    return system


@pytest.fixture
def repo(system: Any) -> OnlineStoreRepo:
    """The store of the orders, of which the bridge reads."""
    place = RepositoryLocation.of("orders", system.home, system.namespace, "sqlite", None)
    repo = OnlineStoreRepo(place, shop.orders.views())
    repo.apply()
    put(repo, BAD_SHARE)
    return repo


def put(repo: OnlineStoreRepo, shares: dict[str, float]) -> None:
    RowStore(repo).put(
        {("orders_by_shop", (name,)): (START, {"bad_1h": share}) for name, share in shares.items()}
    )


def sell(system: Any, numbers: range, *others: bytes) -> set[str]:
    """Produce sales and other records; returns the ids of the sales."""
    with LogReader(system.bootstrap) as reader:
        found = reader.topic(till.till.topic)
    assert found is not None
    producer = KafkaProducer(bootstrap_servers=system.bootstrap, acks="all")
    sent = []
    for number in numbers:
        name = SHOPS[number % len(SHOPS)]
        sale = {"what": "sold", "second": number, "shop": name, "amount": float(number)}
        sent.append(producer.send(till.till.topic, json.dumps(sale).encode(), name.encode()))
    for value in others:
        producer.send(till.till.topic, value, b"till-7", headers=[("till", b"7")])
    producer.close()
    places = [future.get(0) for future in sent]
    return {f"{found[0]}:{place.partition}:{place.offset}" for place in places}


def bridged(system: Any, *options: str) -> dict[str, Any]:
    """Run a bridge as far as the topic goes; returns its report."""
    process, said = system.command("bridge", *options, "--once", "--json")
    assert process.wait(240) == 0, said.read_text()
    report: dict[str, Any] = json.loads(said.read_text().splitlines()[-1])
    return report


def fold(system: Any) -> tuple[dict[str, int], dict[str, dict[str, Any]]]:
    """What the fold makes of the log: its counts, and the features of each prediction by event id."""
    features = {}
    folded = system.refolded()
    for _, out in folded:
        for output in out.predictions:
            prediction = json.loads(output.value)
            features[prediction["event_id"]] = {"shop": prediction["keys"]["shop"], **prediction["features"]}
    return counts_of([processor for processor, _ in folded]), features


def sent(system: Any) -> int:
    return sum(system.ends(system.topics.log).values())


def letters(system: Any) -> list[Any]:
    topic = till.till.dead_letters(system.namespace)
    consumer = KafkaConsumer(bootstrap_servers=system.bootstrap, consumer_timeout_ms=2_000)
    try:
        consumer.assign([TopicPartition(topic, 0)])
        consumer.seek_to_beginning()
        end = consumer.end_offsets([TopicPartition(topic, 0)])[TopicPartition(topic, 0)]
        found = []
        while consumer.position(TopicPartition(topic, 0)) < end:
            for records in consumer.poll(1000).values():
                found.extend(records)
        return found
    finally:
        consumer.close()


def test_records_become_events_with_features_and_bad_ones_go_verbatim_to_the_dead_letters(
    system: Any, repo: OnlineStoreRepo
) -> None:
    others = [b'{"what": "drawer opened", "second": 1}', b'{"what": "tariff", "second": 1, "rate": 0.2}']
    ids = sell(system, range(300), *BAD, *others)
    report = bridged(system, "till:till")
    assert report == {
        "bridge": "till", "topic": "pos", "records": 306, "ignored": 1, "refused": 4, "events": 301,
        "filled": 200, "missing": 400,
    }  # fmt: skip
    counts, features = fold(system)
    assert features.keys() == ids
    assert {(x["shop"], x.get("bad_1h")) for x in features.values()} == {("s", 0.25), ("w", 0.5), ("n", None)}
    assert counts["events"] == 302  # the tariff comes to both partitions
    assert counts["duplicates"] == counts["dead_letters"] == 0
    found = letters(system)
    assert sorted(letter.value for letter in found) == sorted(BAD)
    for letter in found:
        headers = dict(letter.headers)
        assert letter.key == b"till-7"
        assert headers["till"] == b"7"
        assert headers["stage"] == b"map"
        assert headers["reason"].startswith((b"JSONDecodeError", b"KeyError: 'second'"))
        assert headers["bridged-from"].startswith(b"pos:")
    assert bridged(system, "till:till")["records"] == 0


@pytest.mark.soak
def test_a_bridge_killed_again_and_again_loses_nothing_and_nothing_counts_twice(
    system: Any, repo: OnlineStoreRepo, eventually: Eventually
) -> None:
    ids = sell(system, range(1_000))
    for kill in range(3):
        before = sent(system)
        process, _ = system.command("bridge", "till:till")
        eventually(lambda before=before: sent(system) > before)
        process.kill()
        process.wait()
        ids |= sell(system, range(1_000 * (kill + 1), 1_000 * (kill + 2)))
    bridged(system, "till:till")
    counts, features = fold(system)
    assert features.keys() == ids
    assert len(ids) == 4_000
    assert counts["events"] == 4_000
    assert counts["dead_letters"] == 0
    assert counts["duplicates"] == sent(system) - 4_000


def test_events_bridged_twice_keep_the_values_of_the_first_time(system: Any, repo: OnlineStoreRepo) -> None:
    ids = sell(system, range(300))
    bridged(system, "till:till")
    once = fold(system)
    put(repo, dict.fromkeys(SHOPS, 0.75))
    # as if every batch had been sent, and none committed
    with LogReader(system.bootstrap) as reader:
        topic_id, numbers = reader.topic("pos") or ("", [])
    consumer = KafkaConsumer(
        bootstrap_servers=system.bootstrap, group_id=till.till.group(topic_id, system.namespace)
    )
    consumer.commit({TopicPartition("pos", number): OffsetAndMetadata(0, "", -1) for number in numbers})
    consumer.close()
    assert bridged(system, "till:till")["records"] == 300
    counts, features = fold(system)
    # the store has other values by now, so each copy is reported as one with other content
    assert (counts["duplicates"], counts["dead_letters"]) == (0, 300)
    assert (features, counts | {"dead_letters": 0}) == (once[1], once[0])
    assert features.keys() == ids


def test_a_store_that_is_away_holds_the_bridge_back_or_its_values_are_missing_as_declared(
    system: Any, repo: OnlineStoreRepo, eventually: Eventually
) -> None:
    ids = sell(system, range(300))
    elsewhere = repo.place.online_file.rename(repo.place.path / "elsewhere.db")
    process, said = system.command("bridge", "till:till")
    eventually(lambda: "the online store of orders fails" in said.read_text())
    report = bridged(system, "till:hasty")
    assert (report["events"], report["filled"], report["missing"]) == (300, 0, 600)
    assert sent(system) == 300  # the other one waits
    elsewhere.rename(repo.place.online_file)
    eventually(lambda: sent(system) == 600)
    system.stop(process)
    counts, features = fold(system)
    # of the shop that the store does not know both bridges said the same
    assert (counts["duplicates"], counts["dead_letters"]) == (100, 200)
    assert features.keys() == ids
    assert all("bad_1h" not in x for x in features.values())


def test_what_was_rolled_back_or_is_not_decided_yet_is_not_bridged(
    system: Any, repo: OnlineStoreRepo
) -> None:
    sink = KafkaProducer(bootstrap_servers=system.bootstrap, transactional_id=system.namespace)
    sink.init_transactions()

    def begun(numbers: range) -> set[str]:
        sink.begin_transaction()
        futures = [
            sink.send(
                till.till.topic,
                json.dumps(
                    {"what": "sold", "second": n, "shop": SHOPS[n % len(SHOPS)], "amount": 1.0}
                ).encode(),
                partition=n % 2,
            )
            for n in numbers
        ]
        sink.flush()
        return {f"{topic_id}:{place.partition}:{place.offset}" for place in (f.get(0) for f in futures)}

    with LogReader(system.bootstrap) as reader:
        topic_id, _ = reader.topic(till.till.topic) or ("", [])
    ids = sell(system, range(30)) | begun(range(30, 60))
    sink.commit_transaction()
    begun(range(60, 90))
    sink.abort_transaction()
    late = begun(range(90, 120))
    late |= sell(system, range(120, 150))  # they lie behind the open transaction
    assert bridged(system, "till:till")["records"] == sent(system) == len(ids) == 60
    assert fold(system)[1].keys() == ids
    sink.commit_transaction()
    assert bridged(system, "till:till")["records"] == len(late) == 60
    counts, features = fold(system)
    assert features.keys() == ids | late
    assert (counts["duplicates"], counts["dead_letters"]) == (0, 0)
    sink.close()


def test_records_that_were_deleted_unread_end_the_bridge_with_their_offsets(
    system: Any, repo: OnlineStoreRepo
) -> None:
    from kafka import KafkaAdminClient

    sell(system, range(30))
    bridged(system, "till:till")
    ends = {}
    sell(system, range(30, 300))
    with LogReader(system.bootstrap) as reader:
        ends = {number: reader.extent("pos", number)[1] - 1 for number in (0, 1)}
    admin = KafkaAdminClient(bootstrap_servers=system.bootstrap)
    admin.delete_records({TopicPartition("pos", number): end for number, end in ends.items()})
    admin.close()
    process, said = system.command("bridge", "till:till", "--once")
    assert process.wait(240) == 1
    assert "were deleted before they were bridged" in said.read_text()
    assert sent(system) == 30
