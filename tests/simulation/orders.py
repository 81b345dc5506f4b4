"""The use case of the simulation, and logs of it: small, cheap, and with something for every output topic.

One label answers several requests, so that one input causes several outputs in a topic; some amounts break
a member, so that the sparse models topic gets two records from one input; operators promote and roll back;
what is known of a shop is looked up; poison, duplicates, late events and control markers are in every log.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec

from driftline import (
    HOUR,
    MINUTE,
    Binary,
    Event,
    Label,
    Member,
    PerKey,
    Reference,
    Shared,
    UseCase,
    count,
    field,
    lookup,
    mean,
)
from driftline.streams.archive.epochs import Code
from driftline.streams.code.fingerprint import Fingerprint
from driftline.streams.declare.commands import sign
from driftline.streams.declare.events import Command

START = 1_700_000_000
BREAKING = 13.0
"""An amount that no member can learn from."""
Input = tuple[bytes | None, bytes]
"""Key and value of a record of the log."""


class Asked(Event, tag="asked"):
    order: str
    shop: str
    amount: float


class Settled(Event, tag="settled"):
    order: str
    shop: str
    bad: float


class Dropped(Event, tag="dropped"):
    order: str
    shop: str


class Opened(Reference, tag="opened"):
    shop: str
    size: float


class Tally:
    """Predicts the share of bad labels, by whether the amount is high, as if it had seen `doubts` labels
    before, half of them bad; every label shows in the bytes."""

    def __init__(self, doubts: float) -> None:
        self.labels = [doubts, doubts]
        self.bad = [doubts / 2, doubts / 2]

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        side = x["amount"] > 5.0
        share = self.bad[side] / self.labels[side]
        return {True: share, False: 1.0 - share}

    def learn_one(self, x: dict[str, Any], y: bool) -> None:
        if x["amount"] == BREAKING:
            raise ValueError("this amount breaks the model")
        side = x["amount"] > 5.0
        self.labels[side] += 1
        self.bad[side] += y


def slow_tally() -> Tally:
    return Tally(20.0)


def quick_tally() -> Tally:
    return Tally(1.0)


def _case(lateness: float, scope: type[PerKey]) -> UseCase:
    label = Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=2 * HOUR, void=[Dropped])
    return UseCase(
        "orders",
        key="shop",
        events=[Asked, Settled, Dropped, Opened],
        features={
            "amount": field("amount", valid=(0.0, 8.0)),
            "size": lookup(Opened, "size", by="shop"),
            "bad_1h": mean(Settled, "bad", by="shop", over=HOUR),
            "asked_1h": count(Asked, by="shop", over=HOUR),
        },
        task=Binary("bad", ask=Asked, label=label),
        models=scope(
            champion=Member("tally", slow_tally),
            challengers=[Member("second", quick_tally)],
            frozen_after=6,
            metrics=False,
            monitoring=None,
        ),
        operators={"operator": "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c"},
        lateness=lateness,
        max_jump=24 * HOUR,
    )


CASES = (_case(0.0, PerKey), _case(10 * MINUTE, Shared))
CODE = Code("simulated", Fingerprint("3.11", "simulated", "simulated"))
OTHER_CODE = Code("another", CODE.fingerprint)
_OPERATOR_KEY = "07" * 32
_HIGH = ("o1", "o3", "o5")
"""Orders of high amounts, which are bad for the most part where that can be learned at all."""
_SHOPS = {"o1": "a", "o2": "a", "o3": "b", "o4": "b", "o5": "c"}


def inputs(random: Random, length: int) -> list[Input | None]:
    """The records of a log in order; None is a control marker."""
    made: list[Input | None] = []
    at = float(START)
    sure = random.choice((0.5, 0.95))
    for number in range(length):
        at += random.choice((0.0, 1.0, 60.0, 600.0, 1800.0))
        made.append(_input(random, number, at, made, sure))
    return made


def _input(random: Random, number: int, at: float, earlier: list[Input | None], sure: float) -> Input | None:
    chance = random.random()
    if chance < 0.06:
        return None
    if chance < 0.10:
        return b"a", b"{poison"
    if chance < 0.14 and earlier:
        return random.choice(earlier)
    if chance < 0.20:
        return None, _event("clock", number, at)
    if chance < 0.24:
        return None, _command(random, number, at)
    order = random.choice(tuple(_SHOPS))
    shop = _SHOPS[order]
    if random.random() < 0.15:
        at -= random.choice((30.0, 300.0, 3000.0))
    named = f',"order":"{order}","shop":"{shop}"'
    if chance < 0.60:
        amount = BREAKING if random.random() < 0.04 else random.randrange(1, 6) + 4 * (order in _HIGH)
        return shop.encode(), _event("asked", number, at, f'{named},"amount":{amount}')
    if chance < 0.64:
        about = f',"shop":"{shop}","size":{random.randrange(1, 4)}'
        return shop.encode(), _event("opened", number, at, about)
    if chance < 0.94:
        return shop.encode(), _event(
            "settled", number, at, f'{named},"bad":{int((random.random() < sure) == (order in _HIGH))}'
        )
    return shop.encode(), _event("dropped", number, at, named)


def _command(random: Random, number: int, at: float) -> bytes:
    action, member = random.choice((("promote", "second"), ("promote", "tally"), ("rollback", "")))
    # numbers are given again, so that some commands look like old ones
    nonce = number if random.random() < 0.7 else number // 2
    command = Command(
        id=f"e{number}",
        at=datetime(2024, 1, 10, tzinfo=UTC) + timedelta(seconds=at - START),
        action=action,
        operator="operator",
        nonce=nonce,
        member=member,
    )
    return msgspec.json.encode(sign(command, "orders", _OPERATOR_KEY))


def _event(tag: str, number: int, at: float, fields: str = "") -> bytes:
    return written(tag, f"e{number}", at - START, fields)


def written(tag: str, name: str, seconds: float, fields: str = "") -> bytes:
    """An event as the log has it, so many seconds after the beginning."""
    day, seconds = divmod(int(seconds), 86_400)
    hour, seconds = divmod(seconds, 3600)
    minute, second = divmod(seconds, 60)
    when = f"2024-01-{10 + day:02d}T{hour:02d}:{minute:02d}:{second:02d}Z"
    return f'{{"type":"{tag}","id":"{name}","at":"{when}"{fields}}}'.encode()
