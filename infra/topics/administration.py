"""Creates the topics of a case; those that are there are compared with what they have to be, and changed only
when asked to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from driftline.infra.errors import InfraError
from driftline.streams.declare.topic_settings import (
    Deviation,
    FoundTopic,
    deviation_text,
    deviations,
    may_be_compacted,
)
from driftline.streams.declare.topics import TopicSpec

if TYPE_CHECKING:
    from driftline.settings import KafkaSecurity

log = logging.getLogger("driftline.topics")

BROKER_DEFAULT = -1
"""Replication as the broker is configured: 1 on the local one, more on a cluster."""
TOPICS_WITHIN = 30.0


def ensure_topics(
    bootstrap: str,
    specs: Sequence[TopicSpec],
    *,
    fresh: bool = False,
    mend: bool = False,
    within: float | None = None,
) -> list[str]:
    """Create what is missing, with partitions and settings; returns the names created.

    Safe to call from several processes at once: each topic is created by one of them, and all return
    when every topic has its leaders. A topic that is there with another partition count, which decides
    where keys live, or with settings that break a guarantee raises InfraError before anything is created.
    `mend` gives such topics their settings instead, where that is still of use. `fresh` deletes the topics
    first. A broker that does not answer raises KafkaTimeoutError, `within` so many seconds if given.
    """
    from driftline.streams.connection import clients

    patience: dict[str, Any] = {} if within is None else {"bootstrap_timeout_ms": round(within * 1_000)}
    with closing(clients.admin(bootstrap, **patience)) as admin:
        names = [spec.name for spec in specs]
        existing = set(admin.list_topics()).intersection(names)
        if fresh and existing:
            admin.delete_topics(sorted(existing))
            _until_gone(admin, names)
            existing = set()
        _refuse_or_mend(admin, bootstrap, [spec for spec in specs if spec.name in existing], mend)
        missing = [spec for spec in specs if spec.name not in existing]
        created = [spec.name for spec in missing if _create(admin, spec)]
        admin.wait_for_topics([spec.name for spec in missing], timeout_ms=TOPICS_WITHIN * 1000)
        _refuse_or_mend(admin, bootstrap, [spec for spec in missing if spec.name not in created], mend)
        return created


def remove_topics(bootstrap: str, is_meant: Callable[[str], bool]) -> list[str]:
    """Delete the topics whose names are meant; returns their names."""
    from driftline.streams.connection import clients

    with closing(clients.admin(bootstrap)) as admin:
        names = sorted(filter(is_meant, admin.list_topics()))
        if names:
            admin.delete_topics(names)
            _until_gone(admin, names)
        return names


def topic_troubles(bootstrap: str, specs: Sequence[TopicSpec]) -> list[str]:
    """The problems of the topics now, with the command that mends each; missing topics are skipped."""
    from driftline.streams.connection import clients

    with closing(clients.admin(bootstrap)) as admin:
        names = set(admin.list_topics())
        existing = found_topics(admin, [spec.name for spec in specs if spec.name in names])
    wrong = {spec.name: deviations(spec, existing[spec.name]) for spec in specs if spec.name in existing}
    return [
        *(
            _other_count(spec, existing[spec.name].partitions)
            for spec in specs
            if spec.name in existing and spec.is_other_count(existing[spec.name].partitions)
        ),
        *(deviation_text(existing[name], some, bootstrap) for name, some in wrong.items() if some),
    ]


def records_in(bootstrap: str, topic: str) -> int:
    """How many records were appended to the partitions of a topic; 0 if there is no such topic."""
    from kafka import TopicPartition

    from driftline.streams.connection import clients

    with closing(clients.consumer(bootstrap, group_id=None)) as consumer:
        if topic not in consumer.topics():
            return 0
        numbers = consumer.partitions_for_topic(topic) or ()
        return sum(consumer.end_offsets([TopicPartition(topic, number) for number in numbers]).values())


def batch_limit(bootstrap: str, topic: str, security: KafkaSecurity | None = None) -> int:
    """The largest record batch that a topic takes, in bytes; raises InfraError if there is no such topic."""
    from kafka.admin import ConfigResource

    from driftline.streams.connection import clients

    with closing(clients.admin(bootstrap, security)) as admin:
        if topic not in admin.list_topics():
            raise InfraError(f"there is no topic {topic} at {bootstrap}")
        asked = ConfigResource("topic", topic, {"max.message.bytes": None})
        described = admin.describe_configs([asked], config_filter="all")
    if not described["topic"][topic]:
        raise InfraError(
            f"the settings of {topic} at {bootstrap} may not be read, so it is unknown how large its records "
            "may be: allow DescribeConfigs on it"
        )
    return int(described["topic"][topic]["max.message.bytes"]["value"])


def _create(admin: Any, spec: TopicSpec) -> bool:
    """Whether it was made here; False when another process was first."""
    from kafka.admin import NewTopic
    from kafka.errors import TopicAlreadyExistsError

    try:
        admin.create_topics([NewTopic(spec.name, spec.partitions, BROKER_DEFAULT, topic_configs=spec.config)])
    except TopicAlreadyExistsError:
        return False
    return True


def _refuse_or_mend(admin: Any, bootstrap: str, specs: Sequence[TopicSpec], mend: bool) -> None:
    """Raises InfraError for what cannot be used as it is, and is not to be or cannot be mended."""
    existing = found_topics(admin, [spec.name for spec in specs])
    for spec in specs:
        if not spec.is_other_count(existing[spec.name].partitions):
            continue
        if spec.may_grow:  # new code has more stages
            admin.create_partitions({spec.name: spec.partitions})
        else:
            raise InfraError(_other_count(spec, existing[spec.name].partitions))
    untold = [name for name, topic in existing.items() if not topic.settings]
    if untold:
        log.warning("settings may not be read, and are taken to be right, of %s", ", ".join(untold))
    wrong = {spec.name: some for spec in specs if (some := deviations(spec, existing[spec.name]))}
    lost = [name for name, some in wrong.items() if may_be_compacted(existing[name], some)]
    if lost:
        raise InfraError(
            f"{deviation_text(existing[lost[0]], wrong[lost[0]], bootstrap)}\n"
            "It holds records, and older ones of the same keys may be gone already: use another namespace, "
            "or delete the topic and produce its history again. To go on with what is left, run the command"
        )
    if not wrong:
        return
    if not mend:
        raise InfraError(
            "\n".join(deviation_text(existing[name], some, bootstrap) for name, some in wrong.items())
            + "\nRun the commands, or `driftline worker CASE --mend-topics` once, which does the same"
        )
    _alter(admin, wrong)
    for name, some in wrong.items():
        log.warning("%s: %s", name, ", ".join(f"{one.setting} is now {one.needed}" for one in some))


def _alter(admin: Any, wrong: Mapping[str, Sequence[Deviation]]) -> None:
    from kafka.admin import ConfigResource

    asked = [
        ConfigResource("topic", name, {one.setting: one.needed for one in some})
        for name, some in wrong.items()
    ]
    for name, result in admin.alter_configs(asked)["topic"].items():
        if result != "OK":
            raise InfraError(f"the settings of {name} could not be altered: {result}")


def found_topics(admin: Any, names: Sequence[str]) -> dict[str, FoundTopic]:
    """The topics as the broker has them, by name; raises KafkaError for a missing one."""
    from kafka import TopicPartition
    from kafka.admin import OffsetSpec
    from kafka.errors import for_code

    if not names:
        return {}
    described = {}
    for each in admin.describe_topics(list(names)):
        if each["error_code"]:
            raise for_code(each["error_code"])(each["name"])
        described[each["name"]] = each["partitions"]
    settings = _settings(admin, names)
    places = [
        TopicPartition(name, each["partition_index"]) for name, some in described.items() for each in some
    ]
    ends = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
    return {
        name: FoundTopic(
            name,
            len(some),
            min((len(each["replica_nodes"]) for each in some), default=0),
            settings[name],
            any(ends[place].offset > 0 for place in places if place.topic == name),
        )
        for name, some in described.items()
    }


def _settings(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """All settings of the topics, by name; empty if they may not be read."""
    from kafka.admin import ConfigResource

    asked = [ConfigResource("topic", name, None) for name in names]
    described = admin.describe_configs(asked, config_filter="all")["topic"]
    return {name: {key: str(each["value"]) for key, each in described[name].items()} for name in names}


def _other_count(spec: TopicSpec, count: int) -> str:
    return (
        f"topic {spec.name} has {count} partitions, the case declares {spec.partitions}. The count decides "
        "where keys live and cannot change: use the declared count of before, or another namespace"
    )


def _until_gone(admin: Any, names: Sequence[str]) -> None:
    deadline = time.monotonic() + TOPICS_WITHIN
    while set(admin.list_topics()).intersection(names):
        if time.monotonic() > deadline:
            raise InfraError(f"the broker did not delete {', '.join(names)} within {TOPICS_WITHIN:g} s")
        time.sleep(0.05)
