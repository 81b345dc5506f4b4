"""An operator's side of commands: key files, sending, and what serves."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from driftline.infra.errors import InfraError
from driftline.online_models.members.member import Member
from driftline.streams.clients.producer import EventProducer
from driftline.streams.declare.commands import new_command, new_key
from driftline.streams.declare.events import Action, Command
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import DeclarationError

NEWEST_CHANGES = 10_000
"""Newest records of the models topic in which `serving` looks."""


def make_key(path: Path) -> str:
    """Write a new private key to a file that only its owner can read; returns the public key."""
    private, public = new_key()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InfraError(f"the key cannot be written to {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(private + "\n")
    return public


def signed_command(
    case: UseCase,
    operator: str,
    key: Path,
    *,
    action: Action,
    pool: str = "",
    member: str = "",
    budget: float | None = None,
) -> Command:
    """A command of an operator of the case, signed with the key in a file. Raises InfraError."""
    if operator not in case.operators:
        known = ", ".join(case.operators) or "none"
        raise InfraError(f"{case.name} declares no operator {operator!r}; it declares {known}")
    try:
        private = key.read_text().strip()
        return new_command(
            case.name, operator, private, action,
            pool=pool, member=member, budget=budget, task=case.addressee,
        )  # fmt: skip
    except OSError as error:
        raise InfraError(f"the key cannot be read from {key}: {error.strerror}") from None
    except DeclarationError as error:
        raise InfraError(f"{error} (the key is read from {key})") from None


def send_command(case: UseCase, bootstrap: str, namespace: str, command: Command) -> None:
    """Append a signed command to every partition of the case's log."""
    with EventProducer(case, bootstrap, namespace=namespace) as producer:
        producer.send(command)


def members(case: UseCase) -> list[dict[str, Any]]:
    """The members as declared."""
    models = case.models
    listed = []
    for number, member in enumerate((models.champion, *models.challengers)):
        role = "challenger" if number else "champion"
        if isinstance(member, Member):
            shares = {"rate": member.rate, "cost": member.cost, "reserve": member.reserve}
            listed.append({"name": member.name, "role": role, "kind": "member"} | shares)
        else:
            listed.append({"name": member.name, "role": role, "kind": member.kind})
    return listed


def serving(bootstrap: str, topic: str) -> dict[str, dict[str, Any]]:
    """The newest change of each pool, by key, as the newest records of the models topic have it."""
    from driftline.infra.topics.tail import newest_records

    return newest_by_pool(record["value"] for record in newest_records(bootstrap, topic, NEWEST_CHANGES))


def newest_by_pool(records: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The newest change of each pool, by key, among records of the models topic, oldest first.

    >>> newest_by_pool([{"key": "JFK", "serving": "a"}, {"key": "JFK", "serving": "b"}, {"fold": 1}])
    {'JFK': {'key': 'JFK', 'serving': 'b'}}
    """
    pools = {record["key"]: record for record in records if "serving" in record}
    return dict(sorted(pools.items()))
