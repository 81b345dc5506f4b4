"""A case with a key, a feature and a slice of every type that a declaration accepts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import msgspec

import driftline as dl

START = datetime(2024, 5, 6, 8, tzinfo=UTC)
Price = NewType("Price", float)


class Region(Enum):
    NORTH = "north"
    SOUTH = "south"


class Level(Enum):
    LOW = 1
    HIGH = 2


class Read(dl.Event, tag="read"):
    region: Region
    flag: bool
    when: datetime
    code: UUID
    day: date
    number: int
    unit: str
    side: Literal["left", "right"]
    real: float = 0.5
    price: Price = Price(1.0)
    positive: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    level: Level = Level.LOW
    anything: Any = None
    maybe: int | None = None


class Judged(dl.Event, tag="judged"):
    region: Region
    code: UUID
    bad: bool


class Kind(dl.Reference, tag="kind"):
    code: UUID
    region: Region
    weight: float


KEYS = ("region", "flag", "when", "code", "day", "number", "unit", "side")


def logistic() -> Any:
    from river import linear_model, preprocessing

    return preprocessing.OneHotEncoder() | linear_model.LogisticRegression()


def doubled(level: int) -> int:
    return 2 * level


readings = dl.UseCase(
    "typed", key="region", events=[Read, Judged, Kind], partitions=2, slices=KEYS,
    features={
        **{name: dl.field(name) for name in
           ("flag", "unit", "side", "real", "price", "positive", "level", "anything", "maybe")},
        "area": dl.field("region"),
        "reads": dl.count(Read, by=KEYS, over=timedelta(days=1)),
        "prices": dl.mean(Read, "price", by="region", over=dl.DAY),
        "sides": dl.distinct(Read, "side", by="region", over=dl.DAY),
        "heavy": dl.lookup(Kind, "weight", by="code"),
        "home": dl.lookup(Kind, "region", by="code"),
        "twice": dl.on_demand(doubled, of="level", kind=int),
    },
    task=dl.Binary("bad", ask=Read, label=dl.Label(Judged, on="code", value=lambda e: e.bad, wait=dl.DAY)),
    models=dl.PerKey(champion=dl.Member("logistic", logistic)),
)  # fmt: skip


def code_of(n: int) -> UUID:
    return UUID(int=n + 1)


def events(count: int = 60) -> Iterator[dl.Event]:
    """Readings of a few keys, whose labels come a minute later."""
    for n in range(3):
        yield Kind(id=f"k{n}", at=START, code=code_of(n), region=list(Region)[n % 2], weight=float(n))
    for n in range(count):
        at = START + timedelta(minutes=2 * n)
        region = list(Region)[n % 2]
        yield Read(
            id=f"r{n}", at=at, region=region, flag=n % 2 == 0, when=START + timedelta(hours=n % 2),
            code=code_of(n), day=date(2024, 5, 6), number=2**53 + 1 + n % 2, unit="m", side="left",
            level=list(Level)[n % 2], anything="a" if n % 2 else "b", maybe=None if n % 2 else 7,
        )  # fmt: skip
        yield Judged(id=f"t{n}", at=at + timedelta(minutes=1), region=region, code=code_of(n), bad=n % 2 == 0)
