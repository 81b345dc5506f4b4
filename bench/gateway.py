"""Latency through the gateway and without it: one client, the same worker, requests in turns.

`python -m driftline.bench.gateway` starts a broker, a worker and a gateway of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from driftline.infra.gateway.serve import keys_of
from driftline.infra.local.kafka import LocalStack, free_port
from driftline.infra.settings import Settings
from driftline.infra.topics.administration import ensure_topics
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.simulation.sources import open_source

FLIGHTS = "driftline.examples.flights:flights"
ANSWERED_IN = 60.0
"""Seconds in which the worker and the gateway are there, and each request is answered."""
WARM = 200
"""Requests that are not counted."""


class _Answered(msgspec.Struct):
    event_id: str


@contextmanager
def _running(environment: dict[str, str], log: Path, *command: str) -> Iterator[None]:
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "driftline", *command], env=environment, stdout=said, stderr=said
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


class _Client:
    """Asks by the topics or by the gateway, one request at a time."""

    def __init__(self, case: UseCase, bootstrap: str, address: str, key: str) -> None:
        self._case = case
        self._codec = case.codec()
        self._topics = case.topics("")
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=0)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
        self._address = f"{address}/v1/cases/{case.name}/predictions"
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    async def start(self) -> None:
        await self._producer.start()
        await self._consumer.start()
        places = [TopicPartition(self._topics.predictions, n) for n in range(self._case.partitions)]
        self._consumer.assign(places)
        await self._consumer.seek_to_beginning(*places)

    async def stop(self) -> None:
        await self._producer.stop()
        await self._consumer.stop()

    async def send(self, event: Any) -> None:
        key = self._codec.key(event)
        numbers = range(self._case.partitions) if key is None else [partition_of(key, self._case.partitions)]
        for number in numbers:
            await self._producer.send(self._topics.log, self._codec.encode(event), key, number)

    async def by_topics(self, event: Any) -> None:
        await self.send(event)
        await self.published(event.id)

    async def published(self, event_id: str) -> None:
        """Return when the request's prediction has been consumed."""
        decode = msgspec.json.Decoder(_Answered).decode
        async with asyncio.timeout(ANSWERED_IN):
            while True:
                for records in (await self._consumer.getmany(timeout_ms=1_000)).values():
                    if any(decode(record.value).event_id == event_id for record in records):
                        return

    async def by_gateway(self, session: aiohttp.ClientSession, event: Any) -> None:
        body = msgspec.json.encode(event)
        async with session.post(self._address, data=body, headers=self._headers) as answer:
            if answer.status != 200:
                raise RuntimeError(f"the gateway answered {answer.status}: {await answer.text()}")
            await answer.read()


async def _until_ready(session: aiohttp.ClientSession, address: str) -> None:
    async with asyncio.timeout(ANSWERED_IN):
        while True:
            try:
                async with session.get(f"{address}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass  # it does not listen yet
            await asyncio.sleep(0.1)


async def _measured(
    case: UseCase, bootstrap: str, address: str, key: str, count: int
) -> dict[str, list[float]]:
    """Seconds of each counted request, by way."""
    client = _Client(case, bootstrap, address, key)
    taken: dict[str, list[float]] = {"topics": [], "gateway": []}
    asked = 0
    async with aiohttp.ClientSession() as session:
        await _until_ready(session, address)
        await client.start()
        try:
            for event in open_source(case, None, None):
                if not isinstance(event, case.task.ask):
                    await client.send(event)
                    continue
                begun = time.perf_counter()
                if asked % 2:
                    await client.by_gateway(session, event)
                else:
                    await client.by_topics(event)
                if asked >= WARM:
                    taken["gateway" if asked % 2 else "topics"].append(time.perf_counter() - begun)
                asked += 1
                if asked == WARM + 2 * count:
                    return taken
        finally:
            await client.stop()
    raise RuntimeError(f"the source has {asked:,} requests only")


def main(count: int) -> dict[str, Any]:
    """p50 and p99 in ms of both ways, and the ratios."""
    case = load_case(FLIGHTS)
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as name:
        folder = Path(name)
        stack = LocalStack(folder)
        bootstrap = stack.up().bootstrap
        try:
            ensure_topics(bootstrap, case.topics("").all())
            own = {"DRIFTLINE_HOME": name, "DRIFTLINE_BOOTSTRAP": bootstrap, "DRIFTLINE_NAMESPACE": ""}
            environment = os.environ | own
            key = keys_of(Settings(home=folder)).add("bench", ["produce"])
            port = free_port()
            address = f"http://127.0.0.1:{port}"
            serve = ("gateway", "serve", FLIGHTS, "--port", str(port))
            with (
                _running(environment, folder / "worker.log", "worker", FLIGHTS),
                _running(environment, folder / "gateway.log", *serve),
            ):
                taken = asyncio.run(_measured(case, bootstrap, address, key, count))
        finally:
            stack.down(wipe=True)
    found: dict[str, Any] = {}
    for way, seconds in taken.items():
        cuts = quantiles(seconds, n=100)
        found[way] = {"p50_ms": round(cuts[49] * 1e3, 2), "p99_ms": round(cuts[98] * 1e3, 2)}
    return found | {
        f"{cut}_ratio": round(found["gateway"][f"{cut}_ms"] / found["topics"][f"{cut}_ms"], 2)
        for cut in ("p50", "p99")
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000, help="counted requests of each way")
    print(json.dumps(main(parser.parse_args().requests), indent=2))
