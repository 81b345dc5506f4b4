"""`shop.orders` after the field `note` of its requests was given up, in two ways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shop import Settled, orders

from driftline import HOUR, Binary, Event, Label, UseCase, count, field


class Deleted(Event, tag="asked"):
    order: str
    shop: str
    amount: float
    product: str | None = None


class Retired(Event, tag="asked", retired=("note",)):
    order: str
    shop: str
    amount: float
    product: str | None = None


def asking(asked: type[Event]) -> UseCase:
    """The case with another class of requests."""
    return replace(
        orders,
        events=[asked, Settled],
        features={"amount": field("amount"), "asked_1h": count(asked, by="shop", over=HOUR)},
        task=Binary(
            "bad", ask=asked, label=Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=2 * HOUR)
        ),
    )


deleted, retired = asking(Deleted), asking(Retired)


def orders_asked_by(asked: type[Event], models: Any = orders.models) -> UseCase:
    """The orders, with the amount alone, where `asked` is the request."""
    return UseCase(
        "orders",
        key="shop",
        events=[asked, Settled],
        features={"amount": field("amount")},
        task=Binary(
            "bad", ask=asked, label=Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=2 * HOUR)
        ),
        models=models,
    )
