"""Sales of tills, bridged from a foreign topic, with features of the orders of the same shop."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import shop

from driftline import (
    HOUR,
    Binary,
    Bridge,
    Enrichment,
    Event,
    ForeignRecord,
    Label,
    Member,
    PerKey,
    Reference,
    UseCase,
    count,
    field,
)


class Sold(Event, tag="sold"):
    shop: str
    sale: str
    amount: float
    bad_1h: float | None = None
    asked_1h: int | None = None


class Returned(Event, tag="returned"):
    shop: str
    sale: str


class Tariff(Reference, tag="tariff"):
    product: str
    rate: float


sales = UseCase(
    "sales",
    key="shop",
    partitions=2,
    events=[Sold, Returned, Tariff],
    features={
        "amount": field("amount"),
        "bad_1h": field("bad_1h"),
        "sold_1h": count(Sold, by="shop", over=HOUR),
    },
    task=Binary("returned", ask=Sold, label=Label(Returned, on="sale", value=lambda e: True, wait=HOUR)),
    models=PerKey(champion=Member("logistic", shop.logistic), frozen_after=20),
    lateness=HOUR,
)


def event_of(record: ForeignRecord) -> Any:
    """A sale, a sale that was returned at once, a tariff for every partition, or nothing."""
    content = record.json()
    at = shop.START + timedelta(seconds=content["second"])
    if content["what"] == "drawer opened":
        return None
    if content["what"] == "tariff":
        return Tariff(id=record.id, at=at, product="all", rate=content["rate"])
    sold = Sold(id=record.id, at=at, shop=content["shop"], sale=record.id, amount=content["amount"])
    if content["what"] == "returned":
        return [sold, Returned(id=f"{record.id}:back", at=at, shop=content["shop"], sale=record.id)]
    return sold


enrichment = Enrichment(
    shop.orders, "orders_by_shop", key={"shop": "shop"}, fields={"bad_1h": "bad_1h", "asked_1h": "asked_1h"}
)
till = Bridge("till", sales, topic="pos", map=event_of, enrich=[enrichment])
hasty = replace(till, name="hasty", enrich=[replace(enrichment, patience=0.0)])
