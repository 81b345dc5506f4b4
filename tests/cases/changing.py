"""A shop whose orders change, and an operator who commands: drift and promotions really come of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from shop import OPERATOR_KEY, START, Constant, asked, logistic, operated, settled

from driftline import Combination, Command, Event, Member, Monitoring, PerKey, Promotion
from driftline.streams.declare.commands import sign

ORDERS = 4_200
TURNED = 2_600
"""From this order on nearly all are bad, which was half of them."""
BROKEN = 3_600
"""From this order on all have the same amount."""

COMMANDS: dict[int, dict[str, Any]] = {
    500: {"action": "promote", "member": "constant", "pool": "s"},
    520: {"action": "rollback", "pool": "s"},
    540: {"action": "freeze"},
    560: {"action": "unfreeze"},
    580: {"action": "remove", "member": "constant"},
    600: {"action": "add", "member": "spare"},
}
"""What the operator commands before which order."""


def bayes() -> Any:
    from river import naive_bayes

    return naive_bayes.GaussianNB()


def events() -> Iterator[Event]:
    """Orders of two shops, a minute apart, each settled half a minute later, with commands among them."""
    rng = random.Random(7)
    for n in range(ORDERS):
        if n in COMMANDS:
            at = START + timedelta(minutes=n)
            given = {"id": f"command-{n}", "at": at, "operator": "ann", "nonce": n}
            yield sign(Command(**given | COMMANDS[n]), "changing", OPERATOR_KEY)
        shop = "sw"[n % 2]
        amount = rng.uniform(1.0, 7.0)
        bad = amount > (4.0 if n < TURNED else 1.5) if rng.random() < 0.95 else rng.random() < 0.5
        yield asked(n, n, shop, amount=amount if n < BROKEN else 5.0)
        yield settled(n, n + 0.5, shop, bad=float(bad))


changing = replace(
    operated,
    name="changing",
    models=PerKey(
        Member("constant", Constant),
        [
            Member("logistic", logistic),
            Member("bayes", bayes, rate=0.5),
            Member("spare", logistic, reserve=True),
            Combination("blend"),
        ],
        frozen_after=50,
        monitoring=Monitoring(false_alarm_every=5_000, cooldown=128),
        promotion=Promotion(warm_up=50, min_labels=50, cooldown=50, slice_labels=50, most=20),
        budget=2.5,
    ),
    slices=["shop"],
    source="changing:events",
)
