"""The settings of a topic that the guarantees rest on, and what is wrong with those of others.

A topic may have been made by somebody else, or altered since. What is compared is what a topic of ours is
made with, and what could delete records or refuse every append whatever we declare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from driftline.streams.declare.retention import FOREVER
from driftline.streams.declare.topics import TopicSpec


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic as the broker has it: the fewest replicas of a partition, all settings with the broker's
    defaults, whether any record was ever appended."""

    name: str
    partitions: int
    replicas: int
    settings: Mapping[str, str]
    has_begun: bool


class Deviation(NamedTuple):
    """A setting that breaks a guarantee: what it is, what it has to be, and why."""

    setting: str
    found: str
    needed: str
    why: str


COMPACTION = "cleanup.policy"
"""Compaction cannot be mended once it may have taken records."""
_POLICY = {
    "delete": "each record counts, and compaction keeps the newest of a key alone",
    "compact": "the newest record of each key holds, however old it is",
}
_EQUAL = {
    "message.timestamp.type": "a record's age is when the broker got it; by a producer's clock, history "
    "would be deleted at once",
}
_AT_LEAST = {
    "retention.ms": "records are needed for as long, for recovery, audit and the archive",
    "retention.bytes": "records are needed for as long as they are declared to be, however many they are",
    "max.message.bytes": "records of this size have to find room",
}


def deviations(spec: TopicSpec, topic: FoundTopic) -> list[Deviation]:
    """What is to be altered before the topic can be used as `spec` says; empty when nothing is."""
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
    """What the number of replicas has to do with."""
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
    """Whether records may be gone already that nothing brings back."""
    return topic.has_begun and any(one.setting == COMPACTION and "compact" in one.found for one in wrong)


def deviation_text(topic: FoundTopic, wrong: list[Deviation], bootstrap: str) -> str:
    """What is wrong with a topic, and the command that mends it."""
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
