"""Freshness: the time from an event's production until its value can be read in another process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from driftline import (
    HOUR,
    Binary,
    Event,
    EventProducer,
    FeatureClient,
    Label,
    Member,
    PerKey,
    UseCase,
    count,
    latest,
    mean,
)
from driftline.bench.peers.process import PeerFailed
from driftline.features.errors import FeaturesError
from driftline.features.feast.repository_location import RepositoryLocation

KEYS = 20
"""The number of keys. Events are about each in turn."""
BETWEEN_READS = 0.001
"""Seconds between two reads of all keys. The time of a value is that of the read that finds it."""
READABLE_WITHIN = 60.0
VIEW = "ticks_by_key"


class Tick(Event, tag="tick"):
    """The event that the features are computed from."""

    key: str
    number: float


class Asked(Event, tag="asked"):
    """The request of the task; it is never sent."""

    key: str
    order: str


class Settled(Event, tag="settled"):
    """The label of the task; it is never sent."""

    key: str
    order: str


def _logistic() -> Any:
    from river import linear_model

    return linear_model.LogisticRegression()


ticks = UseCase(
    "ticks",
    key="key",
    partitions=2,
    events=[Tick, Asked, Settled],
    features={
        "number": latest(Tick, "number", by="key", ttl=HOUR),
        **{f"mean_{n}m": mean(Tick, "number", by="key", over=60.0 * n) for n in range(1, 9)},
        "count_1h": count(Tick, by="key", over=HOUR),
    },
    task=Binary("x", ask=Asked, label=Label(Settled, on="order", value=lambda event: True, wait=HOUR)),
    models=PerKey(champion=Member("logistic", _logistic)),
    clock="wall",
)


def _events() -> Iterator[Tick]:
    number = 0
    while True:
        number += 1
        at = datetime.now(UTC)
        yield Tick(id=f"tick-{number}", at=at, key=f"k{number % KEYS}", number=float(number))


def measure(
    bootstrap: str,
    namespace: str,
    place: RepositoryLocation,
    check: Callable[[], None],
    pace: dict[int, float],
) -> dict[str, Any]:
    """p50 and p99 in ms by rate (events a second); `pace` is the seconds of each.

    `check` raises when the worker has ended. An event counts as readable once its key's row is of it or
    of a later one.
    """
    events = _events()
    found: dict[str, Any] = {}
    with (
        EventProducer(ticks, bootstrap, namespace=namespace) as producer,
        FeatureClient(ticks, place) as client,
    ):
        _await_store(client, check)
        _run(producer, client, events, check, 100, 1.0)  # the worker has begun, connections are open
        for rate, seconds in pace.items():
            delays = sorted(_run(producer, client, events, check, rate, seconds))
            found[str(rate)] = {
                "events": len(delays),
                "p50_ms": delays[len(delays) // 2] * 1e3,
                "p99_ms": delays[int(len(delays) * 0.99)] * 1e3,
            }
    return found


def _await_store(client: FeatureClient, check: Callable[[], None]) -> None:
    """Wait until the worker has made the store."""
    while True:
        try:
            client.get(VIEW, {"key": "k0"})
            return
        except FeaturesError:
            check()
            time.sleep(0.1)


def _run(
    producer: EventProducer,
    client: FeatureClient,
    events: Iterator[Tick],
    check: Callable[[], None],
    rate: int,
    seconds: float,
) -> list[float]:
    waiting_by_key: list[list[tuple[float, float]]] = [[] for _ in range(KEYS)]
    wanted = int(rate * seconds)

    def send() -> None:
        start = time.perf_counter()
        for index in range(wanted):
            while (left := start + index / rate - time.perf_counter()) > 0:
                time.sleep(left)
            event = next(events)
            waiting_by_key[int(event.number) % KEYS].append((event.number, time.perf_counter()))
            producer.send(event)

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    keys = [{"key": f"k{n}"} for n in range(KEYS)]
    delays: list[float] = []
    progress = time.monotonic()
    while len(delays) < wanted:
        time.sleep(BETWEEN_READS)
        rows = client.get_many(VIEW, keys, ["number"])
        now = time.perf_counter()
        for waiting, row in zip(waiting_by_key, rows, strict=True):
            number = row["number"]
            while isinstance(number, (int, float)) and waiting and waiting[0][0] <= number:
                delays.append(now - waiting.pop(0)[1])
                progress = time.monotonic()
        if time.monotonic() - progress > READABLE_WITHIN:
            check()
            raise PeerFailed(f"{wanted - len(delays)} events did not become readable")
    sending.join()
    return delays
