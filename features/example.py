"""Payments of a shop, which the docstrings of `driftline.features.declare.constructors` read features of.

Shop "s" was paid 10 at 9:10 and 20 at 9:40 by ann, and 60 at 9:50 by bob; a request comes at 10:00.

>>> from driftline.features.declare.constructors import mean
>>> from driftline.features.declare.declaration import HOUR
>>> at_ten(mean(Paid, "amount", by="shop", over=HOUR))
30.0
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from driftline.features.declare.declaration import Feature
from driftline.features.state.feature_state import FeatureState

TEN = datetime(2026, 1, 1, 10, tzinfo=UTC)


class Paid(msgspec.Struct, frozen=True, tag="paid"):
    """A shop was paid."""

    id: str
    at: datetime
    shop: str
    payer: str
    amount: float


class ShopRequest(msgspec.Struct, frozen=True, tag="asked"):
    """A request, with the number of customers in the shop."""

    id: str
    at: datetime
    shop: str
    customers: int


PAYMENTS = tuple(
    Paid(str(number), TEN - timedelta(minutes=ago), "s", payer, amount)
    for number, (ago, payer, amount) in enumerate([(50, "ann", 10.0), (20, "ann", 20.0), (10, "bob", 60.0)])
)


def at_ten(feature: Feature, **others: Feature) -> Any:
    """The value of a feature at the request, None where it is missing; `others` are what it is made of."""
    state = FeatureState(others | {"feature": feature}, ShopRequest)
    for payment in PAYMENTS:
        state.update(payment, payment.at.timestamp())
    return state.read(ShopRequest("r", TEN, "s", 8), TEN.timestamp()).get("feature")
