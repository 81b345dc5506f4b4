"""Latency under a paced load: from an event's production to the consumption of its prediction.

One process produces and consumes; the service under test is another. A driftline worker and a bare
aiokafka loop take turns on the same events, at the same pace, so that what else the machine does
falls on both.
"""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from driftline.bench.job import Job
from driftline.bench.log import Log
from driftline.bench.peer import Assignment, PeerFailed, Process
from driftline.streams.declare.usecase import UseCase

ANSWER_DEADLINE = 60.0
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

    async def all_answered(self) -> None:
        """Wait until nothing is open; raises PeerFailed when no answer comes."""
        while self.sent:
            self.changed.clear()
            self.process.check()
            try:
                await asyncio.wait_for(self.changed.wait(), ANSWER_DEADLINE)
            except TimeoutError:
                raise self.process.failure(f"left {len(self.sent)} requests unanswered") from None


class _Load:
    """The events, and which of them are requests."""

    def __init__(self, case: UseCase, log: Log, producer: AIOKafkaProducer) -> None:
        asked = f'"type":"{Job(case).asks}"'.encode()
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


async def measure(
    case: UseCase,
    log: Log,
    services: dict[str, tuple[Process, Assignment]],
    pace_seconds: dict[int, float],
    rounds: int,
) -> dict[str, Any]:
    """p50 and p99 in ms of each service at each rate (events a second): medians of interleaved runs.

    `pace_seconds` is the length of one run by its rate; all are shortened alike when the log is short.
    A first round is not counted: the broker's virtual machine compiles what a paced load runs, on a core
    that the first services would do without.
    """
    bootstrap = next(iter(services.values()))[1].bootstrap
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=0)
    await producer.start()
    under_test: dict[str, _Service] = {}
    tasks = []
    for name, (process, assignment) in services.items():
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        consumer.assign([TopicPartition(assignment.predictions, p) for p in range(log.partitions)])
        under_test[name] = _Service(process, assignment, consumer)
        tasks.append(asyncio.create_task(under_test[name].collect()))
    load = _Load(case, log, producer)
    needed = int((rounds + 1) * sum(rate * seconds for rate, seconds in pace_seconds.items()))
    warm = max(len(load.events) - needed - 100, len(load.events) // 4)  # the rest is for the runs
    runs: dict[str, dict[int, list[tuple[float, float]]]] = {
        name: {rate: [] for rate in pace_seconds} for name in under_test
    }
    gc.collect()
    gc.freeze()
    try:
        for service in under_test.values():
            await load.send(service, warm, None)
            await service.all_answered()
        share = min(1.0, (len(load.events) - warm) / needed)
        for round_ in range(rounds + 1):
            for rate, seconds in pace_seconds.items():
                length = int(rate * seconds * share)
                order = list(under_test) if round_ % 2 == 0 else list(reversed(under_test))
                for name in order:
                    service = under_test[name]
                    counted = await load.send(service, service.position + length, rate)
                    await service.all_answered()
                    found = [service.latencies[key] * 1e3 for key in counted]
                    if not found:
                        raise PeerFailed(f"no request among {length} events: raise the limit")
                    if round_ > 0:
                        runs[name][rate].append((_quantile(found, 0.5), _quantile(found, 0.99)))
    finally:
        gc.unfreeze()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for service in under_test.values():
            await service.consumer.stop()
        await producer.stop()
    return {
        name: {
            str(rate): {
                "p50_ms": median(p50 for p50, _ in found),
                "p99_ms": median(p99 for _, p99 in found),
                "runs_p99_ms": [p99 for _, p99 in found],
            }
            for rate, found in by_rate.items()
        }
        for name, by_rate in runs.items()
    }
