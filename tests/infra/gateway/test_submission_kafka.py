"""Events on their way into the log, whatever becomes of the producer that sends them."""

from __future__ import annotations

import asyncio
import uuid
from types import SimpleNamespace

import msgspec
import shop
from kafka import TopicPartition

from driftline.infra.gateway.problems import Problem
from driftline.infra.gateway.progress import FoldedOffsets
from driftline.infra.gateway.published.record_lookup import RecordLookup
from driftline.infra.gateway.published.results import PublishedResults
from driftline.infra.gateway.submission import Submission
from driftline.infra.topics.administration import ensure_topics


def submission(bootstrap: str, namespace: str) -> Submission:
    case = shop.orders
    results = PublishedResults(case, bootstrap, namespace)
    progress = FoldedOffsets(case, bootstrap, namespace)
    return Submission(case, bootstrap, namespace, results, progress, RecordLookup(bootstrap))


async def is_appended(to: Submission, number: int) -> tuple[int, int] | None:
    """Where an event is; None if its outcome is unknown."""
    try:
        (position,) = await to.append(shop.asked(number, 0.0))
    except Problem as problem:
        if problem.status != 503:
            raise
        return None
    return position


async def appended(to: Submission, number: int) -> tuple[int, int]:
    """Where an event is, which is sent again for as long as its outcome is unknown."""
    async with asyncio.timeout(60):
        while (position := await is_appended(to, number)) is None:
            pass
        return position


def test_a_producer_that_is_of_no_use_any_more_is_replaced(bootstrap: str) -> None:
    namespace = f"t{uuid.uuid4().hex[:8]}"
    ensure_topics(bootstrap, shop.orders.topics(namespace).all())

    async def run() -> None:
        sending = submission(bootstrap, namespace)
        try:
            partition, offset = await appended(sending, 1)
            assert sending._producer is not None
            await sending._producer.stop()  # it refuses all that comes, as one does whose sequence is broken
            assert await appended(sending, 1) == (partition, offset + 1)
        finally:
            await sending.close()

    asyncio.run(run())


def test_a_prediction_that_is_read_as_its_request_arrives_answers_it(bootstrap: str) -> None:
    namespace = f"t{uuid.uuid4().hex[:8]}"
    ensure_topics(bootstrap, shop.orders.topics(namespace).all())
    value = msgspec.json.encode({"event_id": "asked-1", "prediction": False})
    prediction = SimpleNamespace(headers=[("source", b"0:0")], value=value, offset=0, timestamp=0)

    async def run() -> None:
        sending = submission(bootstrap, namespace)
        try:
            await appended(sending, 1)  # by another gateway; here it is sent again
            request = asyncio.create_task(sending.predict(shop.asked(1, 0.0)))
            await asyncio.sleep(0)  # it has looked for the prediction, and found none
            place = TopicPartition(shop.orders.topics(namespace).predictions, 0)
            sending._results._read_record(place, prediction)
            async with asyncio.timeout(30):
                assert await request == value
        finally:
            await sending.close()

    asyncio.run(run())
