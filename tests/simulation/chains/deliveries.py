"""The chain of the simulation: features by two keys, one model for all, labels that know only their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple

import msgspec

from driftline import HOUR, Binary, Event, Label, Member, Shared, UseCase, count, field, mean
from driftline.streams.declare.partitioning import partition_of
from tests.simulation.orders import BREAKING, Tally, quick_tally, slow_tally, written

WAIT = 2 * HOUR
DELAYS = (60.0, 900.0, 3600.0, 7000.0, 3 * HOUR)
"""Seconds from a request to its label; the last ones come when it is not waited for any more."""


class Asked(Event, tag="asked"):
    order: str
    shop: str
    buyer: str
    amount: float


class Settled(Event, tag="settled"):
    order: str
    bad: float


class Dropped(Event, tag="dropped"):
    order: str


deliveries = UseCase(
    "deliveries",
    key="shop",
    events=[Asked, Settled, Dropped],
    features={
        "amount": field("amount", valid=(0.0, 8.0)),
        "of_shop": count(Asked, by="shop", over=HOUR),
        "of_buyer": mean(Asked, "amount", by="buyer", over=HOUR),
    },
    task=Binary(
        "bad",
        ask=Asked,
        label=Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=WAIT, void=[Dropped]),
    ),
    models=Shared(
        champion=Member("tally", slow_tally),
        challengers=[Member("second", quick_tally)],
        frozen_after=6,
        metrics=False,
        monitoring=None,
    ),
    max_jump=24 * HOUR,
)


class Diary(Tally):
    """A tally that notes what it has learned. What it noted before it was restored is pickled apart from
    what it notes afterwards: equal ones have different bytes, as trees have."""

    def __init__(self) -> None:
        super().__init__(20.0)
        self.noted: list[str] = []

    def learn_one(self, x: dict[str, Any], y: bool) -> None:
        super().learn_one(x, y)
        self.noted.append(WORD)


WORD = "learned " * 20

replicated = replace(
    deliveries,
    models=replace(deliveries.models, champion=Member("diary", Diary), replicas=2, publish_every=3),
)


class Input(NamedTuple):
    """A record of one partition of the log; None where it is a control marker."""

    partition: int
    record: tuple[bytes | None, bytes] | None


class Fate(msgspec.Struct):
    """What becomes of a request by the truth: the time of it, and of what is said of it, if anything is."""

    request: str
    at: float
    said: str = ""
    said_at: float = 0.0
    is_void: bool = False

    @property
    def status(self) -> str:
        """Of the outcome, when nothing of it is refused."""
        if not self.said or self.said_at - self.at >= WAIT:
            return "unlabelled"
        return "void" if self.is_void else "labelled"


class History(NamedTuple):
    """A log of several partitions, in the order in which it comes, and the truth about its requests."""

    inputs: list[Input]
    fates: list[Fate]


def history(random: Random, requests: int, partitions: int) -> History:
    """Requests, most of which are settled some time later; poison, repeats, events that come late, clocks and
    markers; at the end a clock for every partition, when everything is over."""
    coming: list[tuple[float, int, Input]] = []
    fates = []
    now = 0.0
    for number in range(requests):
        now += random.choice((0.0, 1.0, 60.0, 600.0))
        fate = Fate(f"a{number}", now)
        fates.append(fate)
        coming += [(at + _delay(random), len(coming) + n, one) for n, (at, one) in
                   enumerate(_about(random, fate, number, partitions))]  # fmt: skip
    inputs = []
    for at, _, one in sorted(coming, key=lambda each: each[:2]):
        inputs.append(one)
        inputs += _between(random, at, inputs, partitions)
    end = max(at for at, *_ in coming) + 4 * HOUR
    inputs += [_clock(f"end{partition}", end, partition) for partition in range(partitions)]
    return History(inputs, fates)


def _delay(random: Random) -> float:
    """How much later than its time an event comes."""
    return random.choice((30.0, 3000.0)) if random.random() < 0.05 else 0.0


def _about(random: Random, fate: Fate, number: int, partitions: int) -> Iterator[tuple[float, Input]]:
    order, shop, buyer = f"o{number}", f"shop{random.randrange(5)}", f"buyer{random.randrange(5)}"
    amount = BREAKING if random.random() < 0.04 else float(random.randrange(1, 10))
    named = f',"order":"{order}"'
    asked = f'{named},"shop":"{shop}","buyer":"{buyer}","amount":{amount}'
    yield fate.at, _at_home(shop, written("asked", fate.request, fate.at, asked), partitions)
    if random.random() < 0.8:
        fate.said, fate.said_at = f"s{number}", fate.at + random.choice(DELAYS)
        fate.is_void = random.random() < 0.2
        tag, fields = (
            ("dropped", named) if fate.is_void else ("settled", f'{named},"bad":{int(amount > 5.0)}')
        )
        yield fate.said_at, _at_home(order, written(tag, fate.said, fate.said_at, fields), partitions)


def _at_home(key: str, value: bytes, partitions: int) -> Input:
    return Input(partition_of(key.encode(), partitions), (key.encode(), value))


def _clock(name: str, at: float, partition: int) -> Input:
    return Input(partition, (None, written("clock", name, at)))


def _between(random: Random, at: float, before: list[Input], partitions: int) -> Iterator[Input]:
    chance, partition = random.random(), random.randrange(partitions)
    if chance < 0.05:
        yield Input(partition, None)
    elif chance < 0.08:
        yield Input(partition, (b"shop1", b"{poison"))
    elif chance < 0.12:
        yield random.choice(before)
    elif chance < 0.22:
        yield _clock(f"c{len(before)}", at, partition)
