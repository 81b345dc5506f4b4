"""Cases of several keys: parcels by their sender, depot and courier, one model for all; payments as well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec

from driftline import HOUR, MINUTE, Binary, Event, Label, Member, PerKey, Shared, UseCase, count, field, mean
from driftline.examples.payments import payments


class Sent(Event, tag="sent"):
    parcel: str
    sender: str
    depot: str
    courier: str
    weight: float


class Broken(Event, tag="broken"):
    parcel: str


class Withdrawn(Event, tag="withdrawn"):
    parcel: str


class Closed(Event, tag="closed"):
    depot: str


class Share:
    """The share of labels so far that are true."""

    def __init__(self) -> None:
        self.seen = [1, 1]

    def learn_one(self, x: dict[str, Any], y: bool) -> None:
        self.seen[y] += 1

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: self.seen[True] / sum(self.seen)}


START = datetime(2024, 5, 6, tzinfo=UTC)
WAIT = 10 * MINUTE
parcels = UseCase(
    "parcels",
    key="sender",
    events=[Sent, Broken, Withdrawn, Closed],
    features={
        "weight": field("weight"),
        "of_sender": count(Sent, by="sender", over=HOUR),
        "at_depot": mean(Sent, "weight", by="depot", over=HOUR),
        "closings": count(Closed, by="depot", over=HOUR),
        "with_courier": count(Sent, by="courier", over=HOUR),
    },
    task=Binary(
        "breaks",
        ask=Sent,
        label=Label(Broken, on="parcel", value=lambda _: True, wait=WAIT, void=[Withdrawn], at_expiry=False),
    ),
    models=Shared(Member("share", Share)),
    source="parcels:events",
)
on_two = replace(parcels, partitions=2)
replicated = replace(
    parcels, models=Shared(Member("share", Share), frozen_after=20, replicas=2, publish_every=8)
)


def carried(sent: Sent) -> float:
    """The weight; raises where nobody carries that much."""
    if sent.weight > 100:
        raise ValueError("nobody carries that")
    return sent.weight


class Half(Share):
    """Another model than the one before."""

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: super().predict_proba_one(x)[True] / 2}


on_two_anew = replace(on_two, models=Shared(Member("half", Half)))
fragile = replace(
    on_two, features={**parcels.features, "carried": mean(Sent, carried, by="depot", over=HOUR)}
)
"""One whose stage by depot refuses heavy parcels, which the log's stage has accepted."""
by_courier = PerKey(Member("share", Share), by="courier")


def events(number: int = 300, seed: int = 1) -> Iterator[Event]:
    """Parcels, one every few seconds, and what becomes of them, in the order of time."""
    random = Random(seed)
    coming: list[tuple[float, Event]] = []
    now = 0.0

    def at(seconds: float) -> datetime:
        return START + timedelta(seconds=round(seconds, 6))

    for i in range(number):
        now += random.expovariate(0.2)
        names = (f"{kind}{random.randrange(9)}" for kind in ("sender", "depot", "courier"))
        sender, depot, courier = names
        sent = Sent(id=f"s{i}", at=at(now), parcel=f"p{i}", sender=sender, depot=depot, courier=courier,
                    weight=random.random())  # fmt: skip
        coming.append((now, sent))
        then = now + random.uniform(0, 1.3 * WAIT)
        if random.random() < 0.3:
            coming.append((then, Broken(id=f"b{i}", at=at(then), parcel=f"p{i}")))
        elif random.random() < 0.1:
            coming.append((then, Withdrawn(id=f"w{i}", at=at(then), parcel=f"p{i}")))
        if random.random() < 0.1:
            coming.append((now, Closed(id=f"c{i}", at=at(now), depot=depot)))
    yield from (event for _, event in sorted(coming, key=lambda one: one[0]))


payments_on_4 = replace(payments, partitions=4)

LOST = Binary(
    "lost", ask=Sent, label=Label(Withdrawn, on="parcel", value=lambda _: True, wait=WAIT, at_expiry=False)
)
twofold = replace(
    on_two,
    task=None,
    tasks=[parcels.task, LOST],
    models={
        "breaks": replicated.models,
        "lost": replace(replicated.models, publish_every=timedelta(seconds=30)),
    },
)
"""Two questions about a parcel, whose answers each have replicas at the end of a chain."""


def heavier(number: int = 600) -> Iterator[Event]:
    """Parcels as in `events`, of which the second half weighs 20 more."""
    sent = 0
    for event in events(number):
        sent += isinstance(event, Sent)
        is_later = isinstance(event, Sent) and 2 * sent > number
        yield msgspec.structs.replace(event, weight=event.weight + 20.0) if is_later else event
