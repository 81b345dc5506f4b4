"""Small cases of a shop that workers of the tests serve; some of their code fails on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from driftline import (
    HOUR,
    Binary,
    Event,
    Label,
    Member,
    PerKey,
    Reference,
    Regression,
    Shared,
    UseCase,
    count,
    derive,
    field,
    mean,
)

START = datetime(2024, 1, 1, tzinfo=UTC)
FRAGILE_ORDER = "o100"
"""The order on which the feature function and the label rule of `faulty` raise."""
HEALTHY_LABELS = 30
"""Labels that the champion of `faulty` learns before its answers are no numbers any more."""


class Asked(Event, tag="asked"):
    order: str
    shop: str
    amount: float
    product: str | None = None
    note: str | None = None


class Settled(Event, tag="settled"):
    order: str
    shop: str
    bad: float


class Dropped(Event, tag="dropped"):
    order: str
    shop: str


class Product(Reference, tag="product"):
    product: str
    weight: float


def logistic() -> Any:
    from river import linear_model, preprocessing

    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def linear() -> Any:
    from river import linear_model, preprocessing

    return preprocessing.StandardScaler() | linear_model.LinearRegression()


class TurnsNaN:
    """An estimator whose probabilities stop being numbers."""

    def __init__(self) -> None:
        self.seen = 0

    def learn_one(self, x: dict[str, Any], y: bool) -> None:
        self.seen += 1

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: float("nan") if self.seen >= HEALTHY_LABELS else 0.75}


def fragile(event: Any) -> float:
    return 1 / 0 if event.order == FRAGILE_ORDER else 1.0


def is_bad(event: Any) -> bool:
    if event.order == FRAGILE_ORDER:
        raise LookupError("no rule for this order")
    return bool(event.bad > 0.5)


def asked(n: int, minute: float, shop: str = "s", **fields: Any) -> Asked:
    """Order `n` at `minute` after the start."""
    at = START + timedelta(minutes=minute)
    given = {"id": f"asked-{n}", "at": at, "order": f"o{n}", "shop": shop, "amount": 1.0 + n % 7}
    return Asked(**given | fields)


def settled(n: int, minute: float, shop: str = "s", **fields: Any) -> Settled:
    """What became of order `n`, at `minute` after the start."""
    at = START + timedelta(minutes=minute)
    given = {"id": f"settled-{n}", "at": at, "order": f"o{n}", "shop": shop, "bad": float(n % 7 > 3)}
    return Settled(**given | fields)


def trade(orders: int = 150) -> Iterator[Event]:
    """Orders of two shops, a minute apart, each settled half a minute later."""
    for n in range(orders):
        shop = "s" if n % 3 else "w"
        yield asked(n, n, shop)
        yield settled(n, n + 0.5, shop)


features = {
    "amount": field("amount"),
    "bad_1h": mean(Settled, "bad", by="shop", over=HOUR),
    "asked_1h": count(Asked, by="shop", over=HOUR),
}

orders = UseCase(
    "orders",
    key="shop",
    partitions=2,
    events=[Asked, Settled],
    features=features,
    task=Binary(
        "bad", ask=Asked, label=Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=2 * HOUR)
    ),
    models=PerKey(champion=Member("logistic", logistic), frozen_after=20),
    max_jump=24 * HOUR,
    source="shop:trade",
)

faulty = UseCase(
    "faulty",
    key="shop",
    partitions=2,
    events=[Asked, Settled],
    features=features | {"fragile": derive(fragile)},
    task=Binary("bad", ask=Asked, label=Label(Settled, on="order", value=is_bad, wait=2 * HOUR)),
    models=PerKey(
        champion=Member("nan", TurnsNaN), challengers=[Member("logistic", logistic)], frozen_after=20
    ),
    max_jump=24 * HOUR,
)

live = UseCase(
    "live",
    key="shop",
    partitions=2,
    events=[Asked, Settled],
    features=features,
    task=Binary("bad", ask=Asked, label=Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=2.0)),
    models=PerKey(champion=Member("logistic", logistic)),
    clock="wall",
)
prompt = replace(live, lateness=1.0)
"""A live case of which the waits end soon: by default a live case allows its events a minute."""
punctual = replace(
    prompt,
    task=Binary("bad", ask=Asked, label=Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=30.0)),
)
"""A live case of which the waits end within a test, though clock events pass meanwhile."""


class Constant:
    """An estimator that learns nothing."""

    def learn_one(self, x: dict[str, Any], y: bool) -> None: ...

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: 0.125}


orders_anew = replace(orders, models=PerKey(champion=Member("constant", Constant), frozen_after=20))

OPERATOR_KEY = "01" * 32
"""The private key of ann, who operates `operated`."""
operated = replace(
    orders,
    models=PerKey(
        champion=Member("logistic", logistic), challengers=[Member("constant", Constant)], frozen_after=20
    ),
    operators={"ann": "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"},
)

more_features = features | {
    "bad_2h": mean(Settled, "bad", by="shop", over=2 * HOUR),
    "worst_order": mean(Settled, "bad", by=("shop", "order"), over=HOUR),
}
orders_with_more = replace(orders, features=more_features)
"""`orders` after two features were added, one of them with a view of its own."""


def dearer(orders: int = 3_000) -> Iterator[Event]:
    """Orders as in `trade` whose amounts are 20 higher from the middle on."""
    for n in range(orders):
        shop = "s" if n % 3 else "w"
        yield asked(n, n, shop, amount=1.0 + n % 7 + (20.0 if 2 * n >= orders else 0.0))
        yield settled(n, n + 0.5, shop)


BAD = Binary("bad", ask=Asked, label=Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=2 * HOUR))
LOSS = Regression(
    "loss",
    ask=Asked,
    label=Label(Settled, on="order", value=lambda e: e.bad, wait=900 * HOUR, void=[Dropped]),
)
MODELS = {
    "bad": PerKey(champion=Member("logistic", logistic)),
    "loss": Shared(champion=Member("linear", linear)),
}
questions = UseCase(
    "orders",
    key="shop",
    events=[Asked, Settled, Dropped],
    features=features,
    tasks=[BAD, LOSS],
    models=MODELS,
    max_jump=24 * HOUR,
    source="shop:trade",
)
"""Two questions about an order, asked at once: will it turn out bad, and how bad?"""
