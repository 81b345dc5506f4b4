"""Which settings of a topic that others have made break a guarantee, and what mends them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest
from kafka.errors import KafkaConnectionError

from driftline.streams.declare.topic_settings import FoundTopic, deviation_text, deviations, may_be_compacted
from driftline.streams.declare.topics import Topics, TopicSpec
from driftline.streams.transport.topics_watch import TopicsWatch

SPECS = {spec.name.removeprefix("orders."): spec for spec in Topics("orders", 2).all()}
LOG = SPECS["events"]


def found(spec: TopicSpec = LOG, *, replicas: int = 1, begun: bool = True, **settings: str) -> FoundTopic:
    named = {name.replace("_", "."): value for name, value in settings.items()}
    return FoundTopic(spec.name, 2, replicas, spec.config | named, begun)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_topic_as_it_is_made_is_as_it_has_to_be(spec: TopicSpec) -> None:
    assert deviations(spec, found(spec)) == []


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"cleanup_policy": "compact"}, ["cleanup.policy"]),
        ({"cleanup_policy": "compact,delete"}, ["cleanup.policy"]),
        ({"message_timestamp_type": "CreateTime"}, ["message.timestamp.type"]),
        ({"retention_ms": "86400000"}, ["retention.ms"]),
        ({"retention_ms": "-1"}, []),
        ({"retention_ms": str(400 * 86_400_000)}, []),
        ({"retention_bytes": "1000000000"}, ["retention.bytes"]),
        ({"max_message_bytes": "100000"}, ["max.message.bytes"]),
        ({"max_message_bytes": "10000000"}, []),
        ({"compression_type": "zstd", "segment_ms": "1000"}, []),
        ({"min_insync_replicas": "2"}, ["min.insync.replicas"]),
        ({"unclean_leader_election_enable": "true"}, []),  # one replica: there is no other to elect
    ],
)
def test_what_could_lose_or_refuse_records_is_found_and_more_than_is_needed_is_fine(
    settings: dict[str, str], wrong: list[str]
) -> None:
    assert [one.setting for one in deviations(LOG, found(**settings))] == wrong


def test_an_unclean_leader_is_possible_where_there_are_several_replicas() -> None:
    topic = found(replicas=3, min_insync_replicas="2", unclean_leader_election_enable="true")
    assert [one.setting for one in deviations(LOG, topic)] == ["unclean.leader.election.enable"]


def test_topics_whose_newest_record_of_a_key_is_kept_for_good_may_not_delete() -> None:
    statistics = SPECS["statistics"]
    wrong = deviations(statistics, found(statistics, cleanup_policy="delete"))
    assert [(one.setting, one.needed) for one in wrong] == [("cleanup.policy", "compact")]
    assert not may_be_compacted(found(statistics, cleanup_policy="delete"), wrong)


def test_settings_that_the_broker_does_not_tell_are_taken_to_be_right() -> None:
    assert deviations(LOG, replace(found(), settings={})) == []


def test_what_is_wrong_is_reported_with_the_command_that_mends_it() -> None:
    topic = found(cleanup_policy="compact", retention_ms="1000")
    text = deviation_text(topic, deviations(LOG, topic), "broker:9092")
    assert "orders.events" in text
    assert "retention.ms is 1000, but has to be 2592000000" in text
    assert (
        "kafka-configs.sh --bootstrap-server broker:9092 --alter --entity-type topics "
        "--entity-name orders.events --add-config cleanup.policy=delete,retention.ms=2592000000"
    ) in text


def test_only_a_compacted_topic_that_has_begun_may_have_lost_records() -> None:
    begun, empty = found(cleanup_policy="compact"), found(cleanup_policy="compact", begun=False)
    assert may_be_compacted(begun, deviations(LOG, begun))
    assert not may_be_compacted(empty, deviations(LOG, empty))
    short = found(retention_ms="1000")
    assert not may_be_compacted(short, deviations(LOG, short))


def test_a_watch_tells_what_is_new_once_and_when_it_is_over_and_waits_for_a_broker_that_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def away() -> list[str]:
        raise KafkaConnectionError("nobody there")

    looks = iter([lambda: ["a"], lambda: ["a"], away, lambda: ["a", "b"], lambda: []])
    seen = []

    async def run() -> None:
        watch = TopicsWatch(lambda: next(looks)())
        for _ in range(5):
            await watch.look()
            seen.append(watch.troubles)

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert seen == [("a",), ("a",), ("a",), ("a", "b"), ()]
    assert [record.message for record in caplog.records] == [
        "a", "b", "the topics are set up as they have to be again",
    ]  # fmt: skip
