"""Records by their positions, many at once: what a client's repeated requests need."""

from __future__ import annotations

import asyncio
import json
import random

from driftline.infra.gateway.problems import Problem
from driftline.infra.gateway.published.record_lookup import READ_ON, RecordLookup
from driftline.infra.local.kafka import free_port
from tests.infra.gateway.published.drift_topic import DriftTopic

WITHIN = 60.0
"""Seconds: on a busy machine a connection alone takes a while."""


def test_each_who_asks_gets_its_own_record_and_none_where_there_is_none(bootstrap: str) -> None:
    topic, count, first = DriftTopic(bootstrap), 3 * READ_ON, 700
    topic.publish(count)
    topic.delete_before(first)
    wanted = [*random.Random(1).sample(range(count), 300), 0, first - 1, first, count - 1, count, count + 50]

    async def run() -> list[int | None]:
        lookup = RecordLookup(bootstrap, WITHIN)
        try:
            found = await asyncio.gather(*(lookup.record(topic.name, 0, offset) for offset in wanted * 2))
            again = await lookup.record(topic.name, 0, first)
            assert again.offset == first
            assert await lookup.record(topic.name, 1, 0) is None
        finally:
            await lookup.close()
        assert [record.offset for record in found if record is not None] == [
            offset for offset in wanted * 2 if first <= offset < count
        ]
        return [None if record is None else json.loads(record.value)["number"] for record in found]

    assert asyncio.run(run()) == [offset if first <= offset < count else None for offset in wanted * 2]


def test_without_kafka_every_client_gets_503_and_may_retry() -> None:
    async def run() -> None:
        lookup = RecordLookup(f"127.0.0.1:{free_port()}", 0.5)
        try:
            for _ in range(2):
                asked = [lookup.record("topic", 0, offset) for offset in range(20)]
                for answer in await asyncio.gather(*asked, return_exceptions=True):
                    assert isinstance(answer, Problem)
                    assert answer.status == 503
        finally:
            await lookup.close()

    asyncio.run(run())
