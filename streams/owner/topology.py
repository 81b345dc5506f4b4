"""The topics of a case's partitions, checked before each take-over and regularly afterwards."""

from __future__ import annotations

from collections.abc import Mapping

from driftline.streams.errors import StreamsError
from driftline.streams.owner.deployment import Deployment
from driftline.streams.records.ports import TopicMissing, TopicShape


class TopologyRefused(StreamsError):
    """With the topics as they are, no partition can be served; the message says why, and what to do."""


async def topology(deployment: Deployment) -> Mapping[str, TopicShape]:
    """The stage's topic, those it sends to and the output topics as the broker has them, by name.

    Raises TopologyRefused when one is missing, or when it has another number of partitions than the case.
    """
    declared = deployment.shape
    try:
        shapes = await deployment.broker.topics(list(declared))
    except TopicMissing as error:
        raise TopologyRefused(f"{error}. {_RESTORE}") from error
    keyed = {deployment.topic, *(place.topic for place in deployment.targets)}
    for name, count in declared.items():
        found = shapes[name].partitions
        # more partitions of an output do no harm: those that are written exist
        if found < count or (name in keyed and found != count):
            is_between = deployment.topics.is_between(name)
            tell = _other_count_between if is_between else _other_count
            raise TopologyRefused(tell(name, found, count))
    return shapes


_RESTORE = (
    "Restore it from a backup. Where it is an output and the log is whole, what it held can be published "
    "again: stop the workers, remove the case's checkpoints, and start them, which creates the topic again. "
    "Where it is the log, or between stages, go on in another namespace"
)


def _other_count(topic: str, count: int, declared: int) -> str:
    return (
        f"topic {topic} has {count} partitions, the case declares {declared}. The count decides where keys "
        "live: since it changed, producers send keys elsewhere, and Kafka cannot take partitions away. "
        f"Declare partitions={count} again. For another count bring the log into another namespace: "
        f"`driftline replay CASE --values > events.jsonl` with partitions={count}, then, with the new count, "
        "`DRIFTLINE_NAMESPACE=other driftline produce CASE events.jsonl`"
    )


def _other_count_between(topic: str, count: int, declared: int) -> str:
    return (
        f"topic {topic}, which only the stages of the case write to, has {count} partitions instead of "
        f"{declared}, and Kafka cannot take partitions away. Bring the log into another namespace: "
        "`driftline replay CASE --values > events.jsonl`, then `DRIFTLINE_NAMESPACE=other driftline produce "
        "CASE events.jsonl`"
    )
