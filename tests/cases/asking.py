"""Orders that are asked about by an event of another declaration."""

from __future__ import annotations

from typing import Any

from shop import Settled, orders

from driftline import HOUR, Binary, Event, Label, UseCase, field


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
