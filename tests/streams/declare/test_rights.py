"""Least rights: only the worker writes what the fold puts out; nothing reaches another case."""

from __future__ import annotations

import pytest
import shop

from driftline.streams.declare.rights import OUTPUTS, Right, acl_commands, rights
from driftline.streams.declare.roles import Role
from driftline.streams.declare.topics import Topics
from driftline.streams.records.outputs import KINDS

TOPICS = shop.orders.topics("team")


def of(role: Role) -> list[Right]:
    return rights(role, TOPICS, group="readers", bridge="till" if role is Role.BRIDGE else None)


def writers(topic: str) -> set[Role]:
    return {role for role in Role if Right("Topic", "Literal", topic, "Write") in of(role)}


def test_only_the_worker_writes_what_the_fold_puts_out() -> None:
    assert set(OUTPUTS) == set(KINDS)
    for kind in OUTPUTS:
        assert writers(getattr(TOPICS, kind)) == {Role.WORKER}
    assert writers(TOPICS.log) == set(Role) - {Role.CONSUMER, Role.ARCHIVER}


def test_only_the_worker_has_the_transactional_ids_by_which_owners_fence_each_other() -> None:
    writes = {
        (role, one.name)
        for role in Role
        for one in of(role)
        if (one.resource_type, one.operation) == ("TransactionalId", "Write")
    }
    own = {f"driftline.{TOPICS.log}.{partition}" for partition in range(TOPICS.partitions)}
    assert writes == {(Role.WORKER, name) for name in own}


@pytest.mark.parametrize("role", list(Role))
def test_no_right_reaches_another_case(role: Role) -> None:
    """Nothing is allowed on all resources of a type, nor on what another case's names begin with."""
    other = Topics("orders", 1, "team2")
    named = {getattr(other, kind) for kind in ("log", *OUTPUTS)} | {f"driftline.{other.log}.0"}
    for right in of(role):
        assert right.name not in ("*", "")
        assert not any(name.startswith(right.name) for name in named)


def test_rights_are_told_as_kafkas_own_command_takes_them() -> None:
    told = acl_commands(rights(Role.CONSUMER, TOPICS, group="my readers"), "User:consumer", "kafka:9093")
    assert told[0] == (
        "kafka-acls.sh --bootstrap-server kafka:9093 --command-config admin.properties --add "
        "--allow-principal User:consumer --operation Describe --operation Read "
        "--group 'my readers' --resource-pattern-type literal"
    )
    assert len(told) == len({line.partition(" --topic ")[2] for line in told})
