"""Clients that go while they wait: their events are in the log, and nobody else waits because of them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import shop

from driftline.infra.gateway.middleware import Limits
from driftline.infra.topics.administration import ensure_topics
from driftline.streams.connection import async_clients
from tests.infra.gateway.gateways import Answer, Client, encoded
from tests.infra.gateway.served_app import Place, listening

AT_ONCE = 3
"""Requests that the gateway answers at once."""


async def log_has(bootstrap: str, topic: str, count: int) -> None:
    """Return when the log has so many records."""
    consumer = async_clients.consumer(bootstrap, auto_offset_reset="earliest")
    consumer.subscribe([topic])
    await consumer.start()
    try:
        found = 0
        while found < count:
            found += sum(map(len, (await consumer.getmany(timeout_ms=100)).values()))
    finally:
        await consumer.stop()


def asked(client: Client, number: int) -> Coroutine[Any, Any, Answer]:
    """A request, or a fact, whose client would wait for a minute."""
    if number % 2:
        return client.post("/predictions", encoded(shop.asked(number, number)), Prefer="wait=60")
    return client.post("/events", encoded(shop.settled(number, number)), Prefer="wait=60")


def test_who_has_gone_takes_no_place_of_others(bootstrap: str, tmp_path: Path) -> None:
    """No worker answers, so that all wait; a client goes once its event is in the log."""
    namespace = f"t{uuid.uuid4().hex[:8]}"
    topics = shop.orders.topics(namespace)
    ensure_topics(bootstrap, topics.all())

    async def use(place: Place) -> None:
        async with aiohttp.ClientSession() as session:
            client = Client(session, place.port, place.key)
            asking = [asyncio.create_task(asked(client, number)) for number in range(AT_ONCE)]
            await log_has(bootstrap, topics.log, AT_ONCE)
            status, _, headers = await client.get("/schema")
            assert (status, "Retry-After" in headers) == (429, True), "all places are taken"
            for each in asking:
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            async with asyncio.timeout(30):  # half of what they would have waited
                while (await client.get("/schema"))[0] != 200:
                    await asyncio.sleep(0.05)

    async def run() -> None:
        limits = Limits(requests=AT_ONCE)
        async with listening(shop.orders, bootstrap, tmp_path, namespace=namespace, limits=limits) as place:
            await use(place)

    asyncio.run(run())
