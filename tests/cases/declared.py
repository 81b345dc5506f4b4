"""Small declarations that are right, to be changed in one thing."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any

import driftline as dl

LONG = "as_the_supplier_knows_it" * 3


class Kind(Enum):
    FOOD = "food"


class Asked(dl.Event, tag="asked"):
    order: str
    shop: str
    amount: float
    price: Decimal = Decimal(1)
    day: date | None = None
    tags: list[str] | None = None
    weight: float = 1.0
    region: str | None = None
    part: Any = None
    number: int = 0
    kind: Kind = Kind.FOOD
    as_the_supplier_knows_itas_the_supplier_knows_itas_the_supplier_knows_it: str = ""


class Settled(dl.Event, tag="settled"):
    order: str
    shop: str
    bad: float
    name: str = ""
    region: str | None = None
    part: Any = None
    number: str = ""
    kind: str = "food"
    as_the_supplier_knows_itas_the_supplier_knows_itas_the_supplier_knows_it: str = ""


class Other(dl.Event, tag="other"):
    shop: str
    x: float


class Product(dl.Reference, tag="product"):
    order: str
    weight: float
    number: str = ""


def logistic() -> Any:
    from river import linear_model

    return linear_model.LogisticRegression()


def label(**changed: Any) -> dl.Label[Any]:
    said: dict[str, Any] = {"on": "order", "value": lambda e: e.bad > 0.5, "wait": dl.HOUR}
    return dl.Label(changed.pop("event", Settled), **said | changed)


def task(**changed: Any) -> dl.Binary[Any]:
    return dl.Binary(changed.pop("name", "bad"), ask=changed.pop("ask", Asked), label=label(**changed))


def orders(**changed: Any) -> dl.UseCase:
    said: dict[str, Any] = {
        "name": "orders", "key": "shop", "events": [Asked, Settled],
        "features": {"amount": dl.field("amount")}, "task": task(),
        "models": dl.PerKey(champion=dl.Member("logistic", logistic)),
    }  # fmt: skip
    said |= changed
    return dl.UseCase(said.pop("name"), **said)
