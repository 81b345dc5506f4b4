"""Commands of operators: signed events in the log that change which member serves or learns."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from driftline.declaration_check import NOT_EMPTY, check_argument
from driftline.streams.declare.events import Action, Command
from driftline.streams.errors import DeclarationError

_KEY = re.compile(r"[0-9a-f]{64}")


def check_operators(operators: Mapping[str, str]) -> None:
    """Raise DeclarationError for a wrong operator name or public key."""
    for name, key in operators.items():
        if not name or not _KEY.fullmatch(key):
            raise DeclarationError(
                f"operator {name!r}: an Ed25519 public key is 64 hex digits in lower case, not {key!r}; "
                "`driftline models key` makes one"
            )


def _signed(case: str, command: Command) -> bytes:
    """The bytes that are signed: the case and all fields of the command but the signature."""
    task = () if command.task is msgspec.UNSET else (command.task,)
    return msgspec.json.encode(
        [
            "driftline command",
            case,
            command.id,
            command.at.astimezone(UTC),
            command.action,
            command.pool,
            command.member,
            command.budget,
            command.operator,
            command.nonce,
            *task,
        ]
    )


def new_key() -> tuple[str, str]:
    """A new operator's (private key, public key), 64 hex digits each."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return key.private_bytes_raw().hex(), key.public_key().public_bytes_raw().hex()


def new_command(
    case: str,
    operator: str,
    private_key: str,
    action: Action,
    *,
    pool: str = "",
    member: str = "",
    budget: float | None = None,
    task: str = "",
) -> Command:
    """A new signed command of an operator, to be sent with `EventProducer`.

    `case` is the case's name, `operator` a name in `UseCase.operators`, and `private_key` that operator's
    Ed25519 key as 64 hex digits, from `driftline models key`. `action` is "promote", "rollback", "freeze",
    "unfreeze", "add", "remove" or "budget". `pool` is the key of a pool; "" is every pool. `member` is the
    member to promote, add or remove; `budget` is the new `PerKey.budget`. `task` is the case's `addressee`,
    which is not empty only if the case is one of several tasks. The nonce is the current time in units of 10
    microseconds, so an operator's clock must not go back. Raises DeclarationError for a wrong argument.

    >>> key = "11" * 32
    >>> new_command("flights", "ann", key, "freeze", pool="JFK").pool
    'JFK'
    >>> new_command("flights", "ann", "no key", "freeze")
    Traceback (most recent call last):
        ...
    driftline.errors.DeclarationError: new_command: private_key: ... `driftline models key` makes one
    """
    said = {
        "case": (case, Annotated[str, NOT_EMPTY]), "operator": (operator, Annotated[str, NOT_EMPTY]),
        "action": (action, Action), "pool": (pool, str), "member": (member, str),
        "budget": (budget, float | None), "task": (task, str),
    }  # fmt: skip
    for name, (value, hint) in said.items():
        check_argument(value, hint, f"new_command: {name}", DeclarationError)
    if not (isinstance(private_key, str) and _KEY.fullmatch(private_key)):  # never shown in a message
        raise DeclarationError(
            "new_command: private_key: expected 64 hex digits in lower case; `driftline models key` makes one"
        )
    unsigned = Command(
        id=f"command-{uuid.uuid4()}", at=datetime.now(UTC), action=action, pool=pool, member=member,
        budget=budget, operator=operator, nonce=time.time_ns() // 10_000, task=task or msgspec.UNSET,
    )  # fmt: skip
    return sign(unsigned, case, private_key)


def sign(unsigned: Command, case: str, private_key: str) -> Command:
    """The command with its signature for this case. Raises ValueError for a wrong private key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private_key))
    signature = key.sign(_signed(case, unsigned)).hex()
    return msgspec.structs.replace(unsigned, signature=signature)


@dataclass(slots=True)
class AuthorityState:
    """The last nonce of each operator."""

    nonces: dict[str, int] = field(default_factory=dict)


class Authority:
    """Decides which commands a partition of a case obeys: each must be signed by a declared operator, and
    counts once."""

    def __init__(self, case: str, operators: Mapping[str, str], addressee: str = "") -> None:
        self._case = case
        self._operators = operators
        self._addressee = addressee or msgspec.UNSET
        self._s = AuthorityState()

    def is_meant(self, command: Command) -> bool:
        """Whether a command is for this case, not for another task on the same log."""
        return command.task == self._addressee

    def refusal(self, command: Command) -> str | None:
        """Why the command is not obeyed; None if it is. A second call with the same command refuses it as
        replayed."""
        operator = command.operator
        key = self._operators.get(operator)
        if key is None:
            return f"{operator!r} is no operator of this case"
        if not command.signature:
            return "the command is not signed"
        if not self._is_signed_by(key, command):
            return f"the signature is not that of operator {operator!r}"
        last = self._s.nonces.get(operator, -1)
        if command.nonce <= last:
            return (
                f"replayed: nonce {command.nonce} is not above {last}, the last one of operator {operator!r}"
            )
        self._s.nonces[operator] = command.nonce
        return None

    def _is_signed_by(self, key: str, command: Command) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            signature = bytes.fromhex(command.signature)
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(
                signature, _signed(self._case, command)
            )
        except (InvalidSignature, ValueError):
            return False
        return True

    def state(self) -> AuthorityState:
        """The last nonces. The state is not copied."""
        return self._s

    def restore(self, state: AuthorityState) -> None:
        """Continue from a stored state."""
        self._s = state
