"""The cost of HTTP: one client that asks the gateway, and one that asks over the topics, in turns.

Both wait for each answer before they ask again, and the same worker answers both.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from driftline.bench.log import Log
from driftline.bench.peers.job import Job
from driftline.bench.peers.process import Assignment, Limits, PeerFailed, Process
from driftline.infra.gateway.serve import keys_of
from driftline.infra.local.kafka import free_port
from driftline.infra.settings import Settings
from driftline.streams.declare.usecase import UseCase
from driftline.streams.simulation.sources import LogRecord

WAYS = ("topics", "gateway")
WARM = 200
"""Requests of each way that are not counted."""


class _Answer(msgspec.Struct):
    event_id: str


class _Event(msgspec.Struct):
    type: str
    id: str


class _Client:
    """Asks in either way, one request at a time."""

    def __init__(self, assignment: Assignment, log: Log, address: str, limits: Limits) -> None:
        self._assignment = assignment
        self._partitions = log.partitions
        self._limits = limits
        self._producer = AIOKafkaProducer(bootstrap_servers=assignment.bootstrap, linger_ms=0)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=assignment.bootstrap, isolation_level="read_committed"
        )
        self._address = address
        self._read = msgspec.json.Decoder(_Answer).decode

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        await self._producer.start()
        await self._consumer.start()
        try:
            topic = self._assignment.predictions
            self._consumer.assign([TopicPartition(topic, number) for number in range(self._partitions)])
            yield
        finally:
            await self._producer.stop()
            await self._consumer.stop()

    async def send(self, partition: int, record: LogRecord) -> None:
        await self._producer.send(self._assignment.log, record.value, record.key, partition)

    async def consumed(self, event_id: str) -> None:
        """Return when the request's prediction was consumed. Raises TimeoutError."""
        async with asyncio.timeout(self._limits.stalled):
            while True:
                for records in (await self._consumer.getmany(timeout_ms=1_000)).values():
                    if any(self._read(record.value).event_id == event_id for record in records):
                        return

    async def posted(self, session: aiohttp.ClientSession, record: LogRecord) -> None:
        """Return when the gateway has answered. Raises PeerFailed for any other answer than a prediction."""
        async with session.post(self._address, data=record.value) as answer:
            body = await answer.read()
        if answer.status != 200:
            raise PeerFailed(f"the gateway answered {answer.status}: {body[:300]!r}")


@contextmanager
def _served(assignment: Assignment, port: int) -> Iterator[None]:
    environment = os.environ | {
        "DRIFTLINE_HOME": assignment.home,
        "DRIFTLINE_BOOTSTRAP": assignment.bootstrap,
        "DRIFTLINE_NAMESPACE": assignment.namespace,
    }
    command = [sys.executable, "-m", "driftline", "gateway", "serve", assignment.case, "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=sys.stderr)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


async def _until_ready(session: aiohttp.ClientSession, address: str, limits: Limits) -> None:
    async with asyncio.timeout(limits.stalled):
        while True:
            try:
                async with session.get(f"{address}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass  # it does not listen yet
            await asyncio.sleep(0.1)


async def _taken(
    case: UseCase, log: Log, client: _Client, session: aiohttp.ClientSession, requests: int
) -> dict[str, list[float]]:
    """Seconds of each counted request, by way."""
    asks = Job(case).asks
    decode = msgspec.json.Decoder(_Event).decode
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for partition, record in log.sequence:
        event = decode(record.value)
        if event.type != asks:
            await client.send(partition, record)
            continue
        way = WAYS[sum(map(len, taken.values())) % 2]
        begun = time.perf_counter()
        if way == "gateway":
            await client.posted(session, record)
        else:
            await client.send(partition, record)
            await client.consumed(event.id)
        taken[way].append(time.perf_counter() - begun)
        if len(taken[WAYS[-1]]) == WARM + requests:
            return {way: seconds[WARM:] for way, seconds in taken.items()}
    raise PeerFailed(f"the log has no {2 * (WARM + requests):,} requests: raise the limit")


def measure(
    case: UseCase, log: Log, worker: Process, assignment: Assignment, requests: int, limits: Limits
) -> dict[str, Any]:
    """p50 and p99 in ms of so many requests of each way, while `worker` serves the assignment.

    Raises PeerFailed where the log has fewer, or one is not answered.
    """
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    key = keys_of(Settings(home=Path(assignment.home))).add("bench", ["produce"])

    async def run() -> dict[str, list[float]]:
        client = _Client(assignment, log, f"{address}/v1/cases/{case.name}/predictions", limits)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        async with aiohttp.ClientSession(headers=headers) as session, client.connected():
            await _until_ready(session, address, limits)
            return await _taken(case, log, client, session, requests)

    with _served(assignment, port):
        try:
            taken = asyncio.run(run())
        except TimeoutError:
            raise worker.failure(f"or the gateway gave nothing for {limits.stalled:g} s") from None
    return {way: _figures(seconds) for way, seconds in taken.items()}


def _figures(seconds: list[float]) -> dict[str, float]:
    cuts = quantiles(seconds, n=100)
    return {"p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}
