"""Event streams whose clients are slow, silent or away for too long; their topic is the tests' own."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import shop

from driftline.infra.gateway import connection
from driftline.infra.gateway.middleware import Limits
from driftline.infra.gateway.published import event_stream
from tests.infra.gateway.published.drift_topic import DriftTopic
from tests.infra.gateway.served_app import Place, listening

PATH = "/v1/cases/orders/streams/drift"
LARGE = 100_000
"""Bytes of a record of which no client's buffers hold many."""


@pytest.fixture
def topic(bootstrap: str) -> DriftTopic:
    return DriftTopic(bootstrap)


Serve = Callable[..., Any]


@pytest.fixture
def serving(topic: DriftTopic, tmp_path: Path) -> Serve:
    def serve(streams: int = 10) -> Any:
        limits = Limits(streams=streams)
        return listening(shop.orders, topic.bootstrap, tmp_path, namespace=topic.namespace, limits=limits)

    return serve


@asynccontextmanager
async def lines(place: Place, query: str) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of a stream; each has to come within a minute."""
    headers = {"Authorization": f"Bearer {place.key}"}
    timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
    async with (
        aiohttp.ClientSession(timeout=timeout, read_bufsize=LARGE) as session,
        session.get(f"{place.address}{PATH}{query}", headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.read()

        async def read() -> AsyncIterator[str]:
            async for line in answer.content:
                yield line.decode().rstrip("\n")

        yield read()


async def until(read: AsyncIterator[str], beginning: str) -> str:
    async for line in read:
        if line.startswith(beginning):
            return line
    raise AssertionError(f"the stream ended without {beginning!r}")


def read_to_end(client: socket.socket) -> int:
    """How many bytes come until the connection is closed."""
    total = 0
    while read := client.recv(1 << 20):
        total += len(read)
    return total


def test_a_silent_stream_says_that_it_is_there(serving: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT", 0.1)

    async def run() -> None:
        async with serving() as place, lines(place, "") as read:
            for _ in range(2):
                assert await until(read, ": alive")

    asyncio.run(run())


def test_what_was_deleted_while_a_client_was_away_is_a_gap(topic: DriftTopic, serving: Serve) -> None:
    topic.publish(10)
    topic.delete_before(7)

    async def run() -> None:
        async with serving() as place, lines(place, "?since=0:2") as read:
            assert await until(read, "event: ") == "event: gap"
            assert json.loads((await anext(read)).removeprefix("data: ")) == {
                "partition": 0,
                "from": 2,
                "to": 7,
            }
            assert (await until(read, "id: ")) == "id: 0:8,1:0"
            assert json.loads((await anext(read)).removeprefix("data: "))["number"] == 7

    asyncio.run(run())


def test_what_is_deleted_while_a_client_reads_slowly_is_a_gap(topic: DriftTopic, serving: Serve) -> None:
    count = 400
    topic.publish(count, LARGE)

    async def run() -> None:
        async with serving() as place, lines(place, "?since=0:0") as read:
            first = json.loads((await until(read, "data: ")).removeprefix("data: "))
            await asyncio.to_thread(topic.delete_before, count - 1)
            numbers, gaps, name = [first["number"]], [], ""
            while numbers[-1] != count - 1:
                line = await anext(read)
                if line.startswith("event: "):
                    name = line
                elif line.startswith("data: ") and name:
                    gaps.append(json.loads(line.removeprefix("data: ")))
                    name = ""
                elif line.startswith("data: "):
                    numbers.append(json.loads(line.removeprefix("data: "))["number"])
            come = len(numbers) - 1
            assert numbers == [*range(come), count - 1], "in order, and none twice"
            assert gaps == [{"partition": 0, "from": come, "to": count - 1}]

    asyncio.run(run())


def test_a_client_that_takes_nothing_is_let_go_and_leaves_its_place_to_others(
    topic: DriftTopic, serving: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "TAKEN_WITHIN", 0.5)
    topic.publish(400, LARGE)

    async def run() -> None:
        async with serving(streams=1) as place, aiohttp.ClientSession() as session:
            headers = {"Authorization": f"Bearer {place.key}"}
            with socket.create_connection(("127.0.0.1", place.port)) as stuck:
                stuck.sendall(place.head(f"GET {PATH}?since=0:0"))
                async with asyncio.timeout(60):
                    while "read nothing" not in caplog.text:
                        await asyncio.sleep(0.05)
                async with asyncio.timeout(60):
                    while True:
                        async with session.get(place.address + PATH, headers=headers) as answer:
                            if answer.status == 200:
                                break
                            assert answer.status == 429
                        await asyncio.sleep(0.05)
                stuck.settimeout(60)
                assert await asyncio.to_thread(read_to_end, stuck) < 400 * LARGE

    asyncio.run(run())
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
