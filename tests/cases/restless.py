"""Cases that do not repeat themselves, each for a reason of its own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from parcels import Sent, on_two, replicated
from shop import Constant, features, orders, trade

from driftline import HOUR, Event, Member, PerKey, UseCase, derive, mean

_seen = 0


def by_clock(event: Any) -> float:
    return time.perf_counter() % 1.0


def by_chance(event: Any) -> float:
    return random.random()


def by_order(event: Any) -> float:
    return float(sum(2**n * len(name) for n, name in enumerate({"a", "bb", "ccc", "dddd"})))


def by_place(event: Any) -> float:
    return float(id(event) % 9_973)


class Thing:
    """Hashed by where it lies in memory."""

    def __init__(self, weight: int) -> None:
        self.weight = weight


def by_things(event: Any) -> float:
    """So many that their order depends on the pages that they are in: where they are within a page may be the
    same in every process."""
    things = {Thing(number) for number in range(400)}
    return float(sum(place * thing.weight for place, thing in enumerate(things)))


_members = set[str]()


def by_membership(event: Any) -> float:
    """A set that is remembered outside of the fold."""
    _members.add(event.id)
    return float(len(_members))


def by_count(event: Any) -> float:
    global _seen
    _seen += 1
    return float(_seen)


def some() -> Iterator[Event]:
    yield from islice(trade(), 60)


def _with(function: Callable[[Any], float]) -> UseCase:
    return replace(
        orders,
        features=features | {"restless": derive(function)},
        models=PerKey(champion=Member("constant", Constant), frozen_after=20),
        source="restless:some",
    )


clock, chance, order, count = map(_with, (by_clock, by_chance, by_order, by_count))
place, things, membership = map(_with, (by_place, by_things, by_membership))
calm = _with(lambda event: event.amount)
calm_stages, calm_replicas = on_two, replace(replicated, partitions=2)
count_in_stages = replace(
    on_two, features={**on_two.features, "restless": mean(Sent, by_count, by="depot", over=HOUR)}
)


def forest() -> Any:
    from river.forest import ARFClassifier

    return ARFClassifier(n_models=2)


unseeded = replace(calm, models=PerKey(champion=Member("forest", forest)))
