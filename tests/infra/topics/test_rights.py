"""Least rights: only the worker writes what the fold puts out; nothing reaches another case."""

from __future__ import annotations

import parcels
import pytest
import shop

from driftline.infra.topics.rights import OUTPUTS, Right, acl_commands, rights
from driftline.streams.connection.roles import Role
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


def test_rights_are_reported_as_kafkas_own_command_takes_them() -> None:
    commands = acl_commands(rights(Role.CONSUMER, TOPICS, group="my readers"), "User:consumer", "kafka:9093")
    assert commands[0] == (
        "kafka-acls.sh --bootstrap-server kafka:9093 --command-config admin.properties --add "
        "--allow-principal User:consumer --operation Describe --operation Read "
        "--group 'my readers' --resource-pattern-type literal"
    )
    assert len(commands) == len({line.partition(" --topic ")[2] for line in commands})


def test_only_the_worker_writes_between_stages_whatever_the_code() -> None:
    topics = parcels.payments_on_4.topics("team")
    between = {"team.payments.by-merchant.", "team.payments.by-device.", "team.payments.questions."}

    def prefixes(role: Role, operation: str) -> set[str]:
        every = rights(role, topics, group="readers", bridge="till" if role is Role.BRIDGE else None)
        return {
            one.name
            for one in every
            if one.resource_type == "Topic" and one.pattern_type == "Prefixed" and one.operation == operation
        }

    assert all(spec.name.rpartition(".")[0] + "." in between for spec in topics.between("0a1b"))
    for role in Role:
        writing = between if role is Role.WORKER else set()
        assert prefixes(role, "Write") == writing
    assert prefixes(Role.ARCHIVER, "Read") == between
    ids = {one.name for one in rights(Role.WORKER, topics) if one.resource_type == "TransactionalId"}
    assert {"driftline.team.payments.events.3", "driftline.team.payments.questions.0"} <= ids
    assert len(ids) == 4 + 4 + 4 + 1
