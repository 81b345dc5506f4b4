"""A case with every kind of feature."""

from __future__ import annotations

from dataclasses import replace

import shop
from shop import Asked, Product, Settled

from driftline import (
    HOUR,
    MINUTE,
    count,
    decayed,
    derive,
    difference,
    distinct,
    field,
    first,
    lag,
    latest,
    lookup,
    max,
    mean,
    min,
    on_demand,
    rate,
    ratio,
    since,
    std,
    sum,
)


def doubled(request: Asked) -> float:
    return 2 * request.amount


def grade(share: float, amount: float) -> str | None:
    """User code that is computed at the read, by Feast too."""
    return None if amount > 6.5 else f"{'high' if share > 0.5 else 'low'}-{round(amount)}"


features = {
    "amount": field("amount", unit="EUR", description="What the order costs", valid=(0, None)),
    "doubled": derive(doubled),
    "weight": lookup(Product, "weight", by="product", ttl=24 * HOUR),
    "mean": mean(Settled, "bad", by="shop", over=HOUR, owner="ann", tags={"team": "risk"}, valid=(0, 1)),
    "count": count(Asked, by="shop", over=HOUR, owner="ben", tags={"team": "risk"}),
    "sum": sum(Asked, "amount", by="shop", over=HOUR),
    "min": min(Asked, "amount", by="shop", over=HOUR),
    "max": max(Asked, "amount", by="shop", over=HOUR),
    "std": std(Asked, "amount", by="shop", over=HOUR),
    "latest": latest(Asked, "amount", by="shop", ttl=HOUR),
    "rate": rate(Asked, by="shop", over=HOUR),
    "first": first(Asked, "amount", by="shop", over=30 * MINUTE),
    "newest": lag(Asked, "amount", 1, by="shop", over=HOUR),
    "before": lag(Asked, "amount", 2, by="shop", over=HOUR, ttl=30 * MINUTE),
    "decayed": decayed(Asked, "amount", by="shop", half_life=5 * MINUTE),
    "products": distinct(Asked, "product", by="shop", over=HOUR, most=2),
    "since_settled": since(Settled, by="shop", over=HOUR, description="How long nothing was settled"),
    "order_count": count(Asked, by=("shop", "order"), over=HOUR, max_keys=3),
    "change": difference("newest", "before"),
    "share": ratio("sum", "count", unit="EUR"),
    "relative": ratio("amount", "share", valid=(0, 100)),
    "per_minute": ratio("count", "since_settled"),
    "grade": on_demand(grade, of=("mean", "amount"), kind=str),
}

kinds = replace(
    shop.orders,
    name="kinds",
    partitions=1,
    events=[Asked, Settled, Product],
    features=features,
    lateness=10 * MINUTE,
)
