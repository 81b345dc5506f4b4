"""Requests of all kinds, many of them broken: none is a fault of the gateway, the log holds events alone."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
import shop
from yarl import URL

from tests.infra.gateway.gateways import BASE, Gateways, asked, encoded

AT_ONCE = 16
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 1e308, 10**40, "", "x", "\u0000", "ü" * 700, "2024-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", [], {}, [[]], {"id": "x"}, "clock", "command", "settled",
)  # fmt: skip
HEADERS = ("Prefer", "Content-Type", "Authorization", "X-Request-ID", "Accept", "Content-Encoding")
PATHS = (
    "/predictions",
    "/events",
    "/predictions/",
    "/events/x",
    "/predictions/%00",
    "/features/none",
    "/records/outcomes?since=9:1&limit=0",
    "/records/drift?since=0:0",
    "/streams/models?since=x",
    "/lineage/%2e",
    "/commands",
    "",
    "//",
)


def mutated(draw: random.Random, number: int) -> bytes:
    """An event that is changed in a place or two; now and then what is no JSON at all."""
    event = json.loads(encoded(asked(number)))
    for _ in range(draw.randrange(3)):
        name = draw.choice([*event, "more", "type", "at"])
        if draw.random() < 0.3:
            event.pop(name, None)
        else:
            event[name] = draw.choice(VALUES)
    body = json.dumps(event).encode()
    kind = draw.random()
    if kind < 0.05:
        return b"[" * 50_000
    if kind < 0.1:
        return draw.randbytes(draw.randrange(200))
    if kind < 0.15:
        return body[: draw.randrange(len(body))]
    if kind < 0.2:
        return b"\n".join([body, b"", body[:-1], b"\xff"])
    return body


def request(draw: random.Random, number: int, key: str) -> tuple[str, str, bytes, dict[str, str]]:
    """Method, path, body and headers."""
    headers = {"Authorization": f"Bearer {key}", "Prefer": "wait=5", "Content-Type": "application/json"}
    if draw.random() < 0.3:
        text = draw.choice(
            ("", "x" * 3_000, "wait=99999999", "wait=-1", "application/x-ndjson", "Bearer", "gzip")
        )
        headers[draw.choice(HEADERS)] = text
    method = "POST" if draw.random() < 0.9 else draw.choice(("GET", "PUT", "DELETE", "PATCH", "OPTIONS"))
    path = draw.choice(PATHS[:2]) if draw.random() < 0.8 else draw.choice(PATHS)
    return method, BASE + path, mutated(draw, number), headers


@pytest.mark.parametrize("count", [400, pytest.param(4_000, marks=pytest.mark.soak)])
def test_no_request_is_a_fault(
    system_of: Callable[..., Any], eventually: Callable[..., Any], count: int
) -> None:
    system = system_of("shop:orders")
    worker = system.start()
    system.produce(shop.trade(20))
    eventually(lambda: system.folded(worker))
    gateways = Gateways(system)
    draw = random.Random(count)
    requests = [request(draw, 10_000 + number, gateways.key) for number in range(count)]
    statuses: Counter[int] = Counter()

    async def run() -> None:
        port = gateways.start()
        await gateways.until_ready(port)
        turns = asyncio.Semaphore(AT_ONCE)
        async with aiohttp.ClientSession() as session:

            async def one(method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
                url = URL(f"http://127.0.0.1:{port}{path}", encoded=True)
                async with turns, session.request(method, url, data=body, headers=headers) as answer:
                    text = await answer.read()
                    assert answer.status < 500, (method, path, body[:300], headers, text)
                    if answer.status >= 400 and not path.endswith("//"):
                        assert json.loads(text)["status"] == answer.status
                    statuses[answer.status] += 1

            await asyncio.gather(*(one(*each) for each in requests))
            async with session.get(f"http://127.0.0.1:{port}/livez") as answer:
                assert answer.status == 200

    asyncio.run(run())
    assert statuses[200] > 0
    assert statuses[422] > 0
    codec = system.case.codec()
    for record in system.read(system.topics.log):
        assert isinstance(codec.decode(record.value, record.key), tuple(system.case.events))
    assert worker.poll() is None
