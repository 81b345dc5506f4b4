"""Which zone a parcel goes to: models of River's that keep their classes in sets and dicts of their own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from driftline import HOUR, Event, Label, Member, Multiclass, PerKey, UseCase, field

START = datetime(2024, 5, 6, 8, tzinfo=UTC)
ZONES = ("north", "south", "east", "west", "centre")


class Sent(Event, tag="sent"):
    parcel: str
    depot: str
    a: float
    b: float


class Arrived(Event, tag="arrived"):
    parcel: str
    depot: str
    zone: str


def nearest() -> Any:
    from river.neighbors import SWINN, KNNClassifier

    return KNNClassifier(engine=SWINN(seed=1))


def adaptive() -> Any:
    from river.tree import HoeffdingAdaptiveTreeClassifier

    return HoeffdingAdaptiveTreeClassifier(grace_period=50, seed=1)


def forest() -> Any:
    from river.forest import AMFClassifier

    return AMFClassifier(n_estimators=3, seed=1)


zones = UseCase(
    "zones",
    key="depot",
    events=[Sent, Arrived],
    features={"a": field("a"), "b": field("b")},
    task=Multiclass("zone", ask=Sent, label=Label(Arrived, on="parcel", value=lambda e: e.zone, wait=HOUR)),
    models=PerKey(Member("knn", nearest), [Member("hat", adaptive), Member("amf", forest)]),
    source="zones:events",
)


def events() -> Iterator[Event]:
    """600 parcels; each lies at its zone, more or less."""
    random = Random(7)
    for number in range(600):
        at = START + timedelta(minutes=number)
        zone = random.randrange(len(ZONES))
        a, b = zone % 2 + random.gauss(0, 0.4), zone // 2 + random.gauss(0, 0.4)
        yield Sent(id=f"s{number}", at=at, parcel=str(number), depot="d", a=a, b=b)
        yield Arrived(
            id=f"a{number}", at=at + timedelta(seconds=30), parcel=str(number), depot="d", zone=ZONES[zone]
        )
