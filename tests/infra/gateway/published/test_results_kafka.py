"""What a gateway has read when it is ready."""

from __future__ import annotations

import asyncio
import uuid
from types import SimpleNamespace

import msgspec
import pytest
import shop
from kafka import KafkaProducer

from driftline.infra.gateway.published import results as results_module
from driftline.infra.gateway.published.results import PublishedResults
from driftline.infra.topics.administration import ensure_topics


@pytest.mark.parametrize("ahead", [0.0, 30 * 86_400.0, -30 * 86_400.0])
def test_what_was_published_within_the_horizon_is_known_whatever_this_machines_clock_is(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    namespace = f"t{uuid.uuid4().hex[:8]}"
    topics = shop.orders.topics(namespace)
    ensure_topics(bootstrap, topics.all())
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for number in range(40):
        value = msgspec.json.encode({"event_id": f"asked-{number}"})
        producer.send(topics.predictions, value, partition=0, headers=[("source", b"%d:0" % number)]).get(30)
    producer.close()
    clock = results_module.time.time
    monkeypatch.setattr(results_module, "time", SimpleNamespace(time=lambda: clock() + ahead))

    async def known() -> list[bool]:
        results = PublishedResults(shop.orders, bootstrap, namespace)
        reading = asyncio.create_task(results.run())
        try:
            async with asyncio.timeout(60):
                while not results.is_ready:
                    await asyncio.sleep(0.02)
            return [results.find(f"asked-{number}") is not None for number in range(40)]
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    assert asyncio.run(known()) == [True] * 40
