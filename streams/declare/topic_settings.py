"""The topic settings that the guarantees depend on, and how an existing topic deviates from them.

A topic may have been created by someone else, or altered later. Compared are the settings with which
driftline creates its topics, and those that could delete records or refuse every append.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from driftline.streams.declare.retention import FOREVER
from driftline.streams.declare.topics import TopicSpec


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic as the broker describes it: the smallest number of replicas of a partition, all settings with
    the broker's defaults, and whether any record was ever appended."""

    name: str
    partitions: int
    replicas: int
    settings: Mapping[str, str]
    has_begun: bool


class Deviation(NamedTuple):
    """A setting that breaks a guarantee: its value, the value it must have, and why."""

    setting: str
    found: str
    needed: str
    why: str


COMPACTION = "cleanup.policy"
"""The setting for compaction. It cannot be corrected once compaction may have deleted records."""
_POLICY = {
    "delete": "every record counts, and compaction keeps only the newest of each key",
    "compact": "the newest record of each key stays valid, however old it is",
}
_EQUAL = {
    "message.timestamp.type": "a record's age must count from its append; by a producer's clock, history "
    "would be deleted at once",
}
_AT_LEAST = {
    "retention.ms": "recovery, audit and the archive need the records for this long",
    "retention.bytes": "records are needed for the declared time, however many they are",
    "max.message.bytes": "records may have this size",
}


def deviations(spec: TopicSpec, topic: FoundTopic) -> list[Deviation]:
    """What must be altered before the topic can be used as `spec` demands; empty if nothing."""
    wrong = []
    for setting, needed in spec.config.items():
        value = topic.settings.get(setting, needed)  # a broker may be too old, or too guarded, to tell
        fits: Callable[[str, str], bool] = _is_at_least if setting in _AT_LEAST else _is_equal
        if not fits(value, needed):
            wrong.append(Deviation(setting, value, needed, _reason(setting, needed)))
    return wrong + _undurable(topic)


def _reason(setting: str, needed: str) -> str:
    return _POLICY[needed] if setting == COMPACTION else (_AT_LEAST | _EQUAL)[setting]


def _undurable(topic: FoundTopic) -> list[Deviation]:
    """Deviations that depend on the number of replicas."""
    wrong = []
    insync = topic.settings.get("min.insync.replicas", "1")
    if int(insync) > topic.replicas:
        why = f"partitions have {topic.replicas} replicas, so that no append would ever be acknowledged"
        wrong.append(Deviation("min.insync.replicas", insync, str(topic.replicas), why))
    unclean = topic.settings.get("unclean.leader.election.enable", "false")
    if unclean != "false" and topic.replicas > 1:
        why = "a replica that lacks acknowledged records could become the leader"
        wrong.append(Deviation("unclean.leader.election.enable", unclean, "false", why))
    return wrong


def _is_equal(present: str, needed: str) -> bool:
    return set(present.split(",")) == set(needed.split(","))


def _is_at_least(present: str, needed: str) -> bool:
    return present == FOREVER or (needed != FOREVER and int(present) >= int(needed))


def may_be_compacted(topic: FoundTopic, wrong: list[Deviation]) -> bool:
    """Whether compaction may have deleted records already, which cannot be undone."""
    return topic.has_begun and any(one.setting == COMPACTION and "compact" in one.found for one in wrong)


def deviation_text(topic: FoundTopic, wrong: list[Deviation], bootstrap: str) -> str:
    """The deviations of a topic, and the command that corrects them."""
    lines = [f"  {one.setting} is {one.found}, but has to be {one.needed}: {one.why}" for one in wrong]
    settings = ",".join(f"{one.setting}={one.needed}" for one in wrong)
    return "\n".join(
        [
            f"topic {topic.name} is not set up as it has to be:",
            *lines,
            f"  kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics "
            f"--entity-name {topic.name} --add-config {settings}",
        ]
    )
