"""How the gateway treats connections, whatever client is at their other end; there is no Kafka here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import shop

from driftline.infra.gateway import client_patience, connection, middleware
from driftline.infra.local.kafka import free_port
from tests.infra.gateway.served_app import Place, listening

BASE = "/v1/cases/orders"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Connected:
    """A client that sends bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, *, has_body: bool = True) -> Answer:
        """The next answer, whose length it says."""
        async with asyncio.timeout(60):
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            length = int(headers["content-length"]) if has_body else 0
            return Answer(int(first.split()[1]), headers, await self._reader.readexactly(length))

    async def rest(self) -> bytes:
        """All that comes until the gateway closes the connection."""
        async with asyncio.timeout(60):
            return await self._reader.read()

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


Use = Callable[[Place, Connected], Awaitable[None]]
With = Callable[[Use], None]


@pytest.fixture
def connected(tmp_path: Path) -> With:
    """Runs something with a connection to a gateway."""

    def run(use: Use) -> None:
        async def with_connection() -> None:
            nowhere = f"127.0.0.1:{free_port()}"
            async with listening(shop.orders, nowhere, tmp_path) as place:
                client = Connected(*await asyncio.open_connection("127.0.0.1", place.port))
                try:
                    await use(place, client)
                finally:
                    await client.close()

        asyncio.run(with_connection())

    return run


def test_one_connection_serves_one_request_after_the_other(connected: With) -> None:
    async def use(place: Place, client: Connected) -> None:
        schema = place.head(f"GET {BASE}/schema")
        await client.send(schema)
        first = await client.answer()
        await client.send(place.head(f"HEAD {BASE}/schema"))
        head = await client.answer(has_body=False)
        assert (first.status, head.status) == (200, 200)
        assert head.headers["content-length"] == str(len(first.body))
        await client.send(place.head(f"PUT {BASE}/schema", "Content-Length: 2") + b"{}" + schema + schema)
        assert [(await client.answer()).status for _ in range(3)] == [405, 200, 200], "pipelined"
        await client.send(place.head(f"GET {BASE}/schema", "Connection: close"))
        assert (await client.answer()).body == first.body
        assert await client.rest() == b""

    connected(use)


def test_a_body_may_come_in_chunks_and_its_client_may_wait_to_be_asked_for_it(connected: With) -> None:
    async def use(place: Place, client: Connected) -> None:
        chunked = place.head(f"POST {BASE}/predictions", "Transfer-Encoding: chunked")
        await client.send(chunked + b'4\r\n{"a"\r\n')
        await client.send(b"4\r\n: 1}\r\n0\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, json.loads(answer.body)["stage"]) == (422, "decode")
        await client.send(place.head(f"POST {BASE}/predictions", "Content-Length: 2", "Expect: 100-continue"))
        assert (await client.answer(has_body=False)).status == 100
        await client.send(b"{}")
        assert (await client.answer()).status == 422

    connected(use)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: gateway\r\nX: " + b"x" * 70_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS client's first bytes
        b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["large headers", "TLS", "length", "two lengths", "no host"],
)
def test_what_is_no_http_is_refused_and_its_connection_closed(connected: With, sent: bytes) -> None:
    async def use(place: Place, client: Connected) -> None:
        await client.send(sent)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 400 "), answer

    connected(use)


def test_a_web_socket_is_none_here(connected: With) -> None:
    async def use(place: Place, client: Connected) -> None:
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        await client.send(
            place.head(f"GET {BASE}/schema", *upgrade, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
        )
        assert (await client.answer()).status == 200, "answered as if it had not asked for one"

    connected(use)


@pytest.mark.parametrize("begins", [b"", b"GET /livez HTTP/1.1\r\nHost: gat"])
def test_a_head_that_does_not_come_is_not_waited_for(
    connected: With, monkeypatch: pytest.MonkeyPatch, begins: bytes
) -> None:
    monkeypatch.setattr(connection, "HEAD_WITHIN", 0.3)

    async def use(place: Place, client: Connected) -> None:
        await client.send(begins)
        assert await client.rest() == b""

    connected(use)


def test_the_head_of_a_later_request_is_not_waited_for_either(
    connected: With, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_WITHIN", 0.3)

    async def use(place: Place, client: Connected) -> None:
        await client.send(place.head("GET /livez"))
        assert (await client.answer()).status == 200
        await client.send(b"GET /livez HTTP/1.1\r\n")
        assert await client.rest() == b""

    connected(use)


def test_a_body_that_does_not_come_is_a_problem(connected: With, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_WITHIN", 0.1)
    monkeypatch.setattr(middleware, "BODY_WITHIN", 0.3)

    async def use(place: Place, client: Connected) -> None:
        await client.send(place.head(f"POST {BASE}/predictions", "Content-Length: 10") + b"{")
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close"), "the head was in time"
        assert await client.rest() == b""

    connected(use)


def test_a_client_waits_from_the_arrival_of_its_request_on(
    connected: With, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late the gateway comes to it; what it then asks has a moment all the same."""
    begun: list[tuple[float, float]] = []
    patience = 100.0

    def note_arrival(scope: MutableMapping[str, Any]) -> None:
        scope[client_patience.ARRIVED] -= len(begun) * patience / 2
        before(scope)
        now = asyncio.get_running_loop().time()
        deadline = client_patience.while_waited_for().when()
        assert deadline is not None
        begun.append((deadline - scope[client_patience.ARRIVED], deadline - now))

    async def use(place: Place, client: Connected) -> None:
        for _ in range(3):
            await client.send(place.head(f"GET {BASE}/schema"))
            assert (await client.answer()).status == 200

    before = client_patience.note_arrival
    monkeypatch.setattr(client_patience, "ANSWERS_IN", patience)
    monkeypatch.setattr(client_patience, "note_arrival", note_arrival)
    connected(use)
    (first, _), (second, _), (_, third) = begun
    assert [first, second] == [pytest.approx(patience), pytest.approx(patience)]
    assert third >= client_patience.TRIED_FOR
