"""Creates the topics of a case; never changes those that are there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from infra.errors import InfraError
from streams.topics import TopicSpec

BROKER_DEFAULT = -1
"""Replication as the broker is configured: 1 on the local one, more on a cluster."""
DEADLINE = 30.0


def ensure_topics(bootstrap: str, specs: Sequence[TopicSpec], *, fresh: bool = False) -> list[str]:
    """Create what is missing, with partitions and retention; returns the names created.

    Safe to call from several processes at once: each topic is created by one of them, and all return
    when every topic has its leaders. A topic with another partition count raises InfraError, before
    anything is created: the count decides where keys live. `fresh` deletes the topics first.
    """
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        names = [spec.name for spec in specs]
        existing = set(admin.list_topics()).intersection(names)
        if fresh and existing:
            admin.delete_topics(sorted(existing))
            _until_gone(admin, names)
            existing = set()
        _refuse_other_counts(admin, [spec for spec in specs if spec.name in existing])
        missing = [spec for spec in specs if spec.name not in existing]
        created = [spec.name for spec in missing if _create(admin, spec)]
        admin.wait_for_topics([spec.name for spec in missing], timeout_ms=DEADLINE * 1000)
        _refuse_other_counts(admin, [spec for spec in missing if spec.name not in created])
        return created
    finally:
        admin.close()


def records_in(bootstrap: str, topic: str) -> int:
    """How many records the partitions of a topic have been given; 0 where there is no such topic."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
    try:
        if topic not in consumer.topics():
            return 0
        numbers = consumer.partitions_for_topic(topic) or ()
        return sum(consumer.end_offsets([TopicPartition(topic, number) for number in numbers]).values())
    finally:
        consumer.close()


def refuse_begun(bootstrap: str, log: str) -> None:
    """Raises InfraError when the log holds records: only its beginning can be a warm-up."""
    records = records_in(bootstrap, log)
    if records:
        raise InfraError(
            f"{log} holds {records:,} records already: only the beginning of a log can be a "
            "warm-up. Use another namespace"
        )


def batch_limit(bootstrap: str, topic: str) -> int:
    """The largest record batch that a topic takes, in bytes; raises InfraError where there is none."""
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        if topic not in admin.list_topics():
            raise InfraError(f"there is no topic {topic} at {bootstrap}")
        asked = ConfigResource("topic", topic, {"max.message.bytes": None})
        found = admin.describe_configs([asked], config_filter="all")
    finally:
        admin.close()
    return int(found["topic"][topic]["max.message.bytes"]["value"])


def _create(admin: Any, spec: TopicSpec) -> bool:
    """Whether it was made here; False when another process was first."""
    from kafka.admin import NewTopic
    from kafka.errors import TopicAlreadyExistsError

    try:
        admin.create_topics([NewTopic(spec.name, spec.partitions, BROKER_DEFAULT, topic_configs=spec.config)])
    except TopicAlreadyExistsError:
        return False
    return True


def _refuse_other_counts(admin: Any, specs: Sequence[TopicSpec]) -> None:
    if not specs:
        return
    wanted = {spec.name: spec.partitions for spec in specs}
    for description in admin.describe_topics(list(wanted)):
        name, found = description["name"], len(description["partitions"])
        if found != wanted[name]:
            raise InfraError(
                f"topic {name} has {found} partitions, the case declares {wanted[name]}. The "
                "count decides where keys live and cannot change: use the declared count of before, "
                "or another namespace"
            )


def _until_gone(admin: Any, names: Sequence[str]) -> None:
    deadline = time.monotonic() + DEADLINE
    while set(admin.list_topics()).intersection(names):
        if time.monotonic() > deadline:
            raise InfraError(f"the broker did not delete {', '.join(names)} within {DEADLINE:g} s")
        time.sleep(0.05)
