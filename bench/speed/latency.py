"""Latency under a paced load: from an event's production to the consumption of its prediction.

One process produces and consumes; the service under test is another. A driftline worker and a bare
aiokafka loop take turns on the same events, at the same pace, so that what else the machine does
falls on both.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from driftline.bench.log import Log, mark_of_request
from driftline.bench.peers.process import Assignment, Limits, PeerFailed, Process
from driftline.bench.speed.attempts import say
from driftline.streams.declare.usecase import UseCase

SCRAPED_EVERY = 1.0
RAMP_SECONDS = 0.5
"""The start of each run is not counted."""


class _Answer(msgspec.Struct):
    """A prediction, or a request that came back."""

    id: str
    event_id: str = ""


class _Request(msgspec.Struct):
    id: str


@dataclass(slots=True)
class _Service:
    """One service under test: what was sent to it, what came back."""

    process: Process
    assignment: Assignment
    consumer: AIOKafkaConsumer
    position: int = 0
    sent: dict[str, float] = field(default_factory=dict)
    latencies: dict[str, float] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    runs: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    """(p50, p99) in ms of the rounds that count, by rate."""
    failure: str | None = None
    """Why the service takes no more turns."""

    async def collect(self) -> None:
        """Note when predictions arrive, until cancelled."""
        decode = msgspec.json.Decoder(_Answer).decode
        while True:
            fetched = await self.consumer.getmany(timeout_ms=1000)
            now = time.perf_counter()
            for records in fetched.values():
                for record in records:
                    answer = decode(record.value)
                    key = answer.event_id or answer.id
                    sent = self.sent.pop(key, None)
                    if sent is not None:
                        self.latencies[key] = now - sent
            if fetched:
                self.changed.set()

    async def all_answered(self, limits: Limits) -> None:
        """Wait until nothing is open; raises PeerFailed when no answer comes, or not all in time."""
        try:
            async with asyncio.timeout(limits.round):
                while self.sent:
                    self.changed.clear()
                    self.process.check()
                    await asyncio.wait_for(self.changed.wait(), limits.stalled)
        except TimeoutError:
            raise self.process.failure(f"left {len(self.sent)} requests unanswered") from None

    def figures(self) -> dict[str, Any]:
        """Medians by rate, and the `failure` where there is one."""
        found: dict[str, Any] = {
            str(rate): {
                "p50_ms": median(p50 for p50, _ in runs),
                "p99_ms": median(p99 for _, p99 in runs),
                "runs_p99_ms": [p99 for _, p99 in runs],
            }
            for rate, runs in self.runs.items()
        }
        return found if self.failure is None else found | {"failure": self.failure}


class _Load:
    """The events, and which of them are requests."""

    def __init__(self, case: UseCase, log: Log, producer: AIOKafkaProducer) -> None:
        asked = mark_of_request(case)
        decode = msgspec.json.Decoder(_Request).decode
        self._producer = producer
        self.events = [
            (partition, record, decode(record.value).id if asked in record.value else None)
            for partition, record in log.sequence
        ]

    async def send(self, service: _Service, until: int, rate: float | None) -> list[str]:
        """Send events up to position `until`, `rate` a second; returns the requests' ids to count."""
        start = time.perf_counter()
        first = service.position
        counted: list[str] = []
        skip = first + (RAMP_SECONDS * rate if rate else 0)
        topic = service.assignment.log
        for index in range(first, until):
            if rate:
                due = start + (index - first) / rate
                while (left := due - time.perf_counter()) > 0:
                    await asyncio.sleep(left)
            partition, record, request = self.events[index]
            if request is not None:
                service.sent[request] = time.perf_counter()
                if index >= skip:
                    counted.append(request)
            await self._producer.send(topic, record.value, key=record.key, partition=partition)
        service.position = until
        return counted


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class _Turns:
    """Services that take turns under the same load; one that fails takes no more of them."""

    def __init__(self, load: _Load, services: Sequence[_Service], limits: Limits) -> None:
        self._load = load
        self._services = services
        self._limits = limits

    async def warm_up(self, until: int) -> None:
        """Give every service the events up to a position, as fast as they go."""
        for service in self._services:
            await self._turn(service, until, None)

    async def run(self, lengths: dict[int, int], rounds: int) -> None:
        """Rounds of so many events by rate. The first one is not counted: the broker's virtual machine
        compiles what a paced load runs, on a core that the first services would do without."""
        for round_ in range(rounds + 1):
            for rate, length in lengths.items():
                for service in self._services if round_ % 2 == 0 else reversed(self._services):
                    delays = await self._turn(service, service.position + length, rate)
                    if delays and round_ > 0:
                        figures = _quantile(delays, 0.5), _quantile(delays, 0.99)
                        service.runs.setdefault(rate, []).append(figures)

    async def _turn(self, service: _Service, until: int, rate: float | None) -> list[float]:
        """Delays in ms of the requests that count."""
        if service.failure is not None:
            return []
        try:
            counted = await self._load.send(service, until, rate)
            await service.all_answered(self._limits)
            if rate and not counted:
                raise PeerFailed(f"no request among the events up to {until}: raise the limit")
        except (PeerFailed, KafkaError) as error:
            service.failure = str(error)
            say(service.failure)
            return []
        return [service.latencies[key] * 1e3 for key in counted]


@asynccontextmanager
async def _collecting(
    services: dict[str, tuple[Process, Assignment]], partitions: int
) -> AsyncIterator[dict[str, _Service]]:
    """The services, their answers being collected."""
    under_test: dict[str, _Service] = {}
    tasks = []
    try:
        for name, (process, assignment) in services.items():
            consumer = AIOKafkaConsumer(bootstrap_servers=assignment.bootstrap, auto_offset_reset="earliest")
            await consumer.start()
            under_test[name] = _Service(process, assignment, consumer)
            consumer.assign([TopicPartition(assignment.predictions, p) for p in range(partitions)])
            tasks.append(asyncio.create_task(under_test[name].collect()))
            if assignment.metrics is not None:
                tasks.append(asyncio.create_task(_scrape(assignment.metrics)))
        yield under_test
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for service in under_test.values():
            await service.consumer.stop()


async def _scrape(address: str) -> None:
    """Scrape a worker's metrics once a second, until cancelled, as Prometheus would."""
    async with aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientConnectionError):  # until it listens
                async with session.get(f"http://{address}/metrics") as answer:
                    await answer.read()
            await asyncio.sleep(SCRAPED_EVERY)


async def measure(
    case: UseCase,
    log: Log,
    services: dict[str, tuple[Process, Assignment]],
    pace_seconds: dict[int, float],
    rounds: int,
    limits: Limits,
) -> dict[str, Any]:
    """p50 and p99 in ms of each service at each rate (events a second): medians of interleaved runs.

    `pace_seconds` is the length of one run by its rate; all are shortened alike when the log is short.
    A service that fails keeps the figures of its good rounds, beside its `failure`.
    """
    bootstrap = next(iter(services.values()))[1].bootstrap
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=0)
    await producer.start()
    load = _Load(case, log, producer)
    needed = int((rounds + 1) * sum(rate * seconds for rate, seconds in pace_seconds.items()))
    warm = max(len(load.events) - needed - 100, len(load.events) // 4)  # the rest is for the runs
    share = min(1.0, (len(load.events) - warm) / needed)
    gc.collect()
    gc.freeze()
    try:
        async with _collecting(services, case.topics().predicting) as under_test:
            turns = _Turns(load, list(under_test.values()), limits)
            await turns.warm_up(warm)
            await turns.run({rate: int(rate * s * share) for rate, s in pace_seconds.items()}, rounds)
    finally:
        gc.unfreeze()
        await producer.stop()
    return {name: service.figures() for name, service in under_test.items()}
