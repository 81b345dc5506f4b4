"""Commands in the log: obeyed when signed and new, dead letters when not, answered by what happened."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from shop import Constant, asked, logistic, orders, settled

from driftline import Command, Event, Member, PerKey, Promotion, UseCase, new_command
from driftline.streams.declare.commands import new_key, sign
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.errors import DeclarationError
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.outputs import KINDS, Outputs
from driftline.streams.simulation.sources import LogRecord
from tests.streams.fold.restarts import folded_with_restarts

PRIVATE, PUBLIC = new_key()
OTHER_PRIVATE, _ = new_key()


def declared(**changes: Any) -> UseCase:
    members = PerKey(
        Member("logistic", logistic),
        [Member("constant", Constant), Member("spare", Constant, reserve=True)],
        promotion=Promotion(),
    )
    return replace(orders, models=members, operators={"ann": PUBLIC}, partitions=1, **changes)


def unsigned(action: Any, nonce: int = 1, **fields: Any) -> Command:
    given = {"id": f"command-{nonce}", "at": datetime(2026, 1, 1, tzinfo=UTC), "operator": "ann"}
    return Command(**given | {"action": action, "nonce": nonce} | fields)


def wanted(action: Any, nonce: int = 1, **fields: Any) -> Command:
    return sign(unsigned(action, nonce, **fields), "orders", PRIVATE)


def trade(*commands: Event, after: int = 10) -> Iterator[Event]:
    """Orders of two shops with commands among them."""
    for n in range(20):
        if n == after:
            yield from commands
        shop = "sw"[n % 2]
        yield asked(n, n, shop)
        yield settled(n, n + 0.5, shop)


def records(case: UseCase, events: Iterable[Event]) -> list[LogRecord]:
    codec = case.codec()
    return [
        LogRecord(offset, codec.key(event), codec.encode(event))  # type: ignore[arg-type]
        for offset, event in enumerate(events)
    ]


def fold(*commands: Event, case: UseCase | None = None) -> Outputs:
    case = case or declared()
    return PartitionProcessor(case, 0).step(records(case, trade(*commands)))


def changes(out: Outputs) -> list[tuple[str, str, str, str, str]]:
    found = [json.loads(output.value) for output in out.models]
    return [tuple(c[name] for name in ("kind", "key", "member", "serving", "reason")) for c in found]  # type: ignore[misc]


def refusals(out: Outputs) -> list[tuple[str, str]]:
    return [(dict(o.headers)["stage"].decode(), dict(o.headers)["reason"].decode()) for o in out.dead_letters]


def test_a_signed_command_is_obeyed_by_every_pool_and_each_tells_what_happened() -> None:
    out = fold(wanted("promote", member="constant"))
    assert changes(out) == [
        ("promotion", key, "constant", "constant", "promote by ann") for key in ("s", "w")
    ]
    served = [json.loads(output.value)["model"]["name"] for output in out.predictions]
    assert served == ["logistic"] * 10 + ["constant"] * 10
    assert [output.ordinal for output in out.models] == [0, 1]
    assert out.dead_letters == []


def test_a_command_to_one_pool_changes_that_one_alone() -> None:
    out = fold(wanted("promote", member="constant", pool="w"))
    assert [change[1] for change in changes(out)] == ["w"]


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ([("rollback", {})], [("refused", "", "logistic", "rollback by ann: there is no promotion to undo")]),
        (
            [("promote", {"member": "constant"}), ("rollback", {})],
            [
                ("promotion", "constant", "constant", "promote by ann"),
                ("rollback", "logistic", "logistic", "rollback by ann"),
            ],
        ),
        (
            [("freeze", {}), ("freeze", {}), ("unfreeze", {})],
            [
                ("freeze", "", "logistic", "freeze by ann"),
                ("refused", "", "logistic", "freeze by ann: promotions are frozen already"),
                ("unfreeze", "", "logistic", "unfreeze by ann"),
            ],
        ),
        (
            [("add", {"member": "spare"}), ("remove", {"member": "constant"})],
            [
                ("add", "spare", "logistic", "add by ann"),
                ("remove", "constant", "logistic", "remove by ann"),
            ],
        ),
        (
            [("budget", {"budget": 0.5})],
            [
                (
                    "budget",
                    "",
                    "logistic",
                    "budget by ann: share of requests that each answers: "
                    "logistic 1, constant 0.5, frozen 1, prior 1",
                )
            ],
        ),
    ],
)
def test_each_action_is_answered(
    commands: list[tuple[str, dict[str, Any]]], expected: list[tuple[str, ...]]
) -> None:
    signed = [
        wanted(action, nonce, pool="s", **fields) for nonce, (action, fields) in enumerate(commands, start=1)
    ]
    found = [(kind, member, serving, reason) for kind, _, member, serving, reason in changes(fold(*signed))]
    assert found == expected


def test_a_pool_that_is_not_there_is_answered_by_the_partition_it_would_be_in() -> None:
    case = declared()
    case = replace(case, partitions=3)
    answers = {
        partition: changes(
            PartitionProcessor(case, partition).step(
                records(case, [wanted("promote", member="constant", pool="nowhere")])
            )
        )
        for partition in range(3)
    }
    home = partition_of(b"nowhere", 3)
    refusal = ("refused", "nowhere", "constant", "logistic", "promote by ann: this key has no pool yet")
    assert answers == {partition: [refusal] if partition == home else [] for partition in range(3)}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (unsigned("freeze"), "the command is not signed"),
        (sign(unsigned("freeze"), "orders", OTHER_PRIVATE), "the signature is not that of operator 'ann'"),
        (sign(unsigned("freeze"), "others", PRIVATE), "the signature is not that of operator 'ann'"),
        (unsigned("freeze", signature="no hex"), "the signature is not that of operator 'ann'"),
        (
            sign(unsigned("freeze", operator="bob"), "orders", PRIVATE),
            "'bob' is no operator of this case",
        ),
        (
            msgspec.structs.replace(wanted("freeze"), action="unfreeze"),
            "the signature is not that of operator 'ann'",
        ),
        (
            msgspec.structs.replace(wanted("promote", member="a"), member="b"),
            "the signature is not that of operator 'ann'",
        ),
    ],
)
def test_what_is_not_signed_by_an_operator_is_a_dead_letter(command: Command, reason: str) -> None:
    out = fold(command)
    assert refusals(out) == [("command", reason)]
    assert changes(out) == []


def test_a_replayed_command_is_a_dead_letter_and_so_is_one_with_an_older_nonce() -> None:
    out = fold(wanted("freeze", 5), wanted("freeze", 5), wanted("unfreeze", 4), wanted("unfreeze", 6))
    assert [kind for kind, *_ in changes(out)] == ["freeze"] * 2 + ["unfreeze"] * 2
    assert refusals(out) == [
        ("command", f"replayed: nonce {nonce} is not above 5, the last one of operator 'ann'")
        for nonce in (5, 4)
    ]


def test_nonces_outlast_a_restart_and_steps_change_nothing() -> None:
    case = declared()
    log = records(case, trade(wanted("promote", 7, member="constant"), wanted("promote", 7, member="spare")))
    expected = PartitionProcessor(case, 0).step(log)
    found = folded_with_restarts(case, log)
    assert all(getattr(found, kind) == getattr(expected, kind) for kind in KINDS)
    assert len(expected.dead_letters) == 1


def times(outcome: bytes) -> tuple[Any, ...]:
    fields = json.loads(outcome)
    return tuple(fields[name] for name in ("event_id", "at", "status", "horizon"))


def test_a_command_moves_no_time() -> None:
    assert changes(fold(wanted("freeze", at=datetime(2099, 1, 1, tzinfo=UTC))))
    with_command = fold(wanted("unfreeze", at=datetime(1999, 1, 1, tzinfo=UTC)))
    assert with_command.dead_letters == []
    assert [times(o.value) for o in with_command.outcomes] == [times(o.value) for o in fold().outcomes]


def test_new_commands_have_rising_nonces_and_are_signed() -> None:
    first = new_command("orders", "ann", PRIVATE, "freeze")
    out = fold(first, wanted("unfreeze", first.nonce + 1))
    assert [kind for kind, *_ in changes(out)] == ["freeze"] * 2 + ["unfreeze"] * 2


def test_an_operator_is_declared_with_a_public_key() -> None:
    for operators in ({"ann": "key"}, {"": PUBLIC}, {"ann": PUBLIC.upper() + "A"}):
        with pytest.raises(DeclarationError, match="operator"):
            replace(orders, operators=operators)
