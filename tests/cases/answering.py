"""Small cases of every kind of answer and of key: a class without any key, a number with its interval by a
whole number, a decision by an enum, and how odd something is by a moment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import driftline as dl

START = datetime(2024, 5, 6, 8, tzinfo=UTC)
REQUESTS = 60
"""Of each case; every other one has the same key."""


class Found(dl.Event, tag="found"):
    plant: str
    species: str
    height: float


class Named(dl.Event, tag="named"):
    plant: str
    family: str


class Species(dl.Reference, tag="species"):
    species: str
    leaves: float


class Ride(dl.Event, tag="ride"):
    driver: int
    ride: str
    km: float


class Arrived(dl.Event, tag="arrived"):
    driver: int
    ride: str
    minutes: float


class Zone(Enum):
    NORTH = "north zone/1"
    SOUTH = "south"


class Heard(dl.Event, tag="heard"):
    zone: Zone
    alarm: str
    level: float


class Checked(dl.Event, tag="checked"):
    zone: Zone
    alarm: str
    fire: bool


class Metered(dl.Event, tag="metered"):
    shift: datetime
    load: float


class Shares:
    """The share of each label so far."""

    def __init__(self) -> None:
        self.seen: dict[Any, int] = {}

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        self.seen[y] = self.seen.get(y, 0) + 1

    def predict_proba_one(self, x: dict[str, Any]) -> dict[Any, float]:
        total = sum(self.seen.values())
        return {label: n / total for label, n in self.seen.items()}


class Average:
    """The mean of the labels so far."""

    def __init__(self) -> None:
        self.n, self.total = 0, 0.0

    def learn_one(self, x: dict[str, Any], y: float) -> None:
        self.n, self.total = self.n + 1, self.total + y

    def predict_one(self, x: dict[str, Any]) -> float:
        return self.total / self.n if self.n else 0.0


class Distance:
    """How far a load is from those so far, in [0, 1)."""

    def __init__(self) -> None:
        self.n, self.total = 0, 0.0

    def learn_one(self, x: dict[str, Any]) -> None:
        self.n, self.total = self.n + 1, self.total + x["load"]

    def score_one(self, x: dict[str, Any]) -> float:
        far = abs(x["load"] - self.total / self.n) if self.n else 0.0
        return far / (1.0 + far)


plants = dl.UseCase(
    "plants",
    events=[Found, Named, Species],
    features={
        "height": dl.field("height"),
        "leaves": dl.lookup(Species, "leaves", by="species"),
        "found": dl.count(Found, by="species", over=dl.DAY),
    },
    task=dl.Multiclass(
        "family", ask=Found, label=dl.Label(Named, on="plant", value=lambda e: e.family, wait=dl.DAY)
    ),
    models=dl.Shared(dl.Member("shares", Shares)),
)

rides = dl.UseCase(
    "rides",
    key="driver",
    partitions=2,
    events=[Ride, Arrived],
    features={"km": dl.field("km"), "rides": dl.count(Ride, by="driver", over=dl.DAY)},
    task=dl.Regression(
        "minutes",
        ask=Ride,
        label=dl.Label(Arrived, on="ride", value=lambda e: e.minutes, wait=dl.DAY),
        coverage=0.8,
    ),
    models=dl.PerKey(dl.Member("average", Average)),
)

alarms = dl.UseCase(
    "alarms",
    key="zone",
    partitions=2,
    events=[Heard, Checked],
    features={"level": dl.field("level"), "heard": dl.count(Heard, by="zone", over=dl.DAY)},
    task=dl.Binary(
        "fire",
        ask=Heard,
        label=dl.Label(Checked, on="alarm", value=lambda e: e.fire, wait=dl.DAY),
        decision=dl.Decision(false_positive=1, false_negative=9),
    ),
    models=dl.PerKey(dl.Member("shares", Shares)),
)

meters = dl.UseCase(
    "meters",
    key="shift",
    partitions=2,
    events=[Metered],
    features={"load": dl.field("load"), "metered": dl.count(Metered, by="shift", over=dl.DAY)},
    task=dl.Anomaly("odd", ask=Metered, wait=dl.MINUTE),
    models=dl.PerKey(dl.Member("distance", Distance)),
)


def _at(n: int, seconds: float = 0.0) -> datetime:
    return START + timedelta(minutes=2 * n, seconds=seconds)


def plant_events() -> Iterator[dl.Event]:
    yield Species(id="fern", at=START, species="fern", leaves=7.0)
    for n in range(REQUESTS):
        yield Found(id=f"found-{n}", at=_at(n), plant=f"p{n}", species="fern" if n % 2 else "moss", height=n)
        yield Named(id=f"named-{n}", at=_at(n, 9), plant=f"p{n}", family=("rose", "lily", "ivy")[n % 3])


def ride_events() -> Iterator[dl.Event]:
    for n in range(REQUESTS):
        driver = (-7, 2**53)[n % 2]
        yield Ride(id=f"ride-{n}", at=_at(n), driver=driver, ride=f"r{n}", km=1.5 * n)
        yield Arrived(id=f"arrived-{n}", at=_at(n, 9), driver=driver, ride=f"r{n}", minutes=3.0 * n)


def alarm_events() -> Iterator[dl.Event]:
    for n in range(REQUESTS):
        zone = list(Zone)[n % 2]
        yield Heard(id=f"heard-{n}", at=_at(n), zone=zone, alarm=f"a{n}", level=n / 10)
        yield Checked(id=f"checked-{n}", at=_at(n, 9), zone=zone, alarm=f"a{n}", fire=n % 4 == 0)


def meter_events() -> Iterator[dl.Event]:
    for n in range(REQUESTS):
        yield Metered(id=f"metered-{n}", at=_at(n), shift=START + timedelta(hours=n % 2), load=n % 5)
