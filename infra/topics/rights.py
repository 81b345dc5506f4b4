"""The least rights that each role needs on Kafka for a case: who may do what with which topic, group and
transactional id.

Only the worker may write the fold's outputs, and only it has the transactional ids by which owners of
a partition fence each other: that nobody else appends there is part of why each prediction is in its topic
once.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import msgspec

from driftline.streams.connection.roles import Role
from driftline.streams.declare.topics import Topics

OUTPUTS = ("predictions", "outcomes", "drift", "models", "dead_letters")
STATISTICS = ("statistics", "anomalies")
READ = ("Read", "Describe")
LOOK = ("Describe", "DescribeConfigs")


class Right(msgspec.Struct, frozen=True, order=True):
    """One permission as Kafka has it: an operation on a resource, named literally or by its prefix."""

    resource_type: str
    pattern_type: str
    name: str
    operation: str


def rights(role: Role, topics: Topics, *, group: str | None = None, bridge: str | None = None) -> list[Right]:
    """The rights of a role; `group` is the consumer's own, `bridge` the name of one."""
    return sorted(set(_RIGHTS[role](topics, group, bridge)))


def acl_commands(rights: Iterable[Right], principal: str, bootstrap: str) -> list[str]:
    """The calls of kafka-acls that allow them, one for each resource."""
    flags = {"Topic": "--topic", "Group": "--group", "TransactionalId": "--transactional-id"}
    lines = []
    for (kind, pattern, name), some in groupby(
        rights, lambda one: (one.resource_type, one.pattern_type, one.name)
    ):
        operations = " ".join(f"--operation {one.operation}" for one in some)
        named = f"{flags[kind]} {shlex.quote(name)} --resource-pattern-type {pattern.lower()}"
        lines.append(
            f"kafka-acls.sh --bootstrap-server {bootstrap} --command-config admin.properties --add "
            f"--allow-principal {shlex.quote(principal)} {operations} {named}"
        )
    return lines


def _topics(names: Iterable[str], *operations: str) -> Iterator[Right]:
    return (Right("Topic", "Literal", name, operation) for name in names for operation in operations)


def _group(name: str, *operations: str, prefix: bool = False) -> Iterator[Right]:
    pattern = "Prefixed" if prefix else "Literal"
    return (Right("Group", pattern, name, operation) for operation in operations)


def _fences(topics: Topics, *operations: str) -> Iterator[Right]:
    """The ids by which owners fence each other, of every partition of every stage."""
    # beside code that is taken over from, the names of a chain's owners have an ending
    pattern = "Prefixed" if topics.behind else "Literal"
    for kind, count in (("events", topics.partitions), *topics.behind):
        for partition in range(count):
            name = topics.owner(kind, partition)
            yield from (Right("TransactionalId", pattern, name, operation) for operation in operations)


def _between(topics: Topics, *operations: str) -> Iterator[Right]:
    """The topics between stages, whose names end with the code's hash."""
    for kind, _ in topics.behind:
        name = f"{topics.of_stage(kind)}."
        yield from (Right("Topic", "Prefixed", name, operation) for operation in operations)


def _named(topics: Topics, kinds: Sequence[str]) -> list[str]:
    return [str(getattr(topics, kind)) for kind in kinds]


def _everything(topics: Topics) -> list[str]:
    return [topics.log, *_named(topics, OUTPUTS), *_named(topics, STATISTICS)]


def _worker(topics: Topics, group: str | None, bridge: str | None) -> Iterator[Right]:
    """It makes the topics that are missing, and sends the time to the log."""
    yield from _topics(_everything(topics), "Create", *LOOK)
    yield from _topics([topics.log, *_named(topics, OUTPUTS)], "Read", "Write")
    # its group is named after the code as well, so that an upgrade has one of its own
    yield from _group(f"{topics.readers}.worker.", *READ, prefix=True)
    yield from _between(topics, "Create", *LOOK, "Read", "Write")
    yield from _fences(topics, "Describe", "Write")


def _gateway(topics: Topics, group: str | None, bridge: str | None) -> Iterator[Right]:
    """It reads outside any group, and asks that of the workers how far the log is folded."""
    yield from _topics([topics.log], "Write")
    yield from _topics(_everything(topics), *READ, "DescribeConfigs")
    # a request that comes again is compared with the one that was answered
    yield from _between(topics, *READ)
    yield from _group(f"{topics.readers}.worker.", "Describe", prefix=True)


def _producer(topics: Topics, group: str | None, bridge: str | None) -> Iterator[Right]:
    """`EventProducer`, and `driftline produce`, which sees what became of the events."""
    yield from _topics([topics.log], "Write")
    yield from _topics(_everything(topics), *LOOK)
    yield from _topics([topics.dead_letters], "Read")
    yield from _group(f"{topics.readers}.worker.", "Describe", prefix=True)


def _consumer(topics: Topics, group: str | None, bridge: str | None) -> Iterator[Right]:
    yield from _topics([*_named(topics, OUTPUTS), *_named(topics, STATISTICS)], *READ)
    if group is not None:
        yield from _group(group, *READ)


def _operator(topics: Topics, group: str | None, bridge: str | None) -> Iterator[Right]:
    """Commands to models, statistics, and all that proves: it reads everything."""
    yield from _topics(_everything(topics), "Create", "AlterConfigs", "DescribeConfigs", *READ)
    yield from _topics([topics.log, *_named(topics, STATISTICS)], "Write")
    yield from _group(f"{topics.readers}.", "Describe", prefix=True)
    # `driftline status` names the transaction that a partition waits for
    yield from _fences(topics, "Describe")
    yield from _between(topics, *READ, "DescribeConfigs")


def _archiver(topics: Topics, group: str | None, bridge: str | None) -> Iterator[Right]:
    """It deletes the topics of code that serves no more, once it has them."""
    yield from _topics(_everything(topics), *READ)
    yield from _between(topics, *READ, "Delete")
    yield from _group(f"{topics.readers}.archiver", *READ)


def _bridge(topics: Topics, group: str | None, bridge: str | None) -> Iterator[Right]:
    """On the Kafka of the log; on that of its foreign topic it reads that topic, in the same group."""
    letters = [topics.of_bridge(bridge)] if bridge else []
    yield from _topics([topics.log], "Write")
    yield from _topics([*_everything(topics), *letters], *LOOK)
    yield from _topics(letters, "Create", "Write")
    yield from _group(f"{topics.log}.bridge.", *READ, prefix=True)


_RIGHTS = {
    Role.WORKER: _worker,
    Role.GATEWAY: _gateway,
    Role.PRODUCER: _producer,
    Role.CONSUMER: _consumer,
    Role.OPERATOR: _operator,
    Role.ARCHIVER: _archiver,
    Role.BRIDGE: _bridge,
}
