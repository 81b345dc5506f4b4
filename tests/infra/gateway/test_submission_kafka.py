"""Events on their way into the log, whatever becomes of the producer that sends them."""

from __future__ import annotations

import asyncio
import uuid
from types import SimpleNamespace

import msgspec
import pytest
import shop
from kafka import TopicPartition

from driftline.infra.gateway import client_patience
from driftline.infra.gateway import submission as submission_module
from driftline.infra.gateway.problems import Problem
from driftline.infra.gateway.progress import FoldedOffsets
from driftline.infra.gateway.published.record_lookup import RecordLookup
from driftline.infra.gateway.published.results import PublishedResults
from driftline.infra.gateway.published.topic_reader import TopicExtent
from driftline.infra.gateway.submission import Submission
from driftline.infra.topics.administration import ensure_topics
from driftline.streams.connection import async_clients
from driftline.streams.declare.partitioning import partition_of


def submission(bootstrap: str, namespace: str) -> Submission:
    case = shop.orders
    results = PublishedResults(case, bootstrap, namespace)
    progress = FoldedOffsets(case, bootstrap, namespace)
    return Submission(case, bootstrap, namespace, results, progress, RecordLookup(bootstrap, within=PATIENCE))


PATIENCE = 60.0
"""Seconds for what takes a moment, however busy the machine is."""
PREDICTION = msgspec.json.encode({"event_id": "asked-1", "prediction": False})


def read_prediction(to: Submission, namespace: str, place: tuple[int, int]) -> None:
    """The gateway reads the prediction of the request with the id `asked-1` at a place of the log."""
    partition, source = place
    headers = [("source", b"%d:0" % source)]
    record = SimpleNamespace(headers=headers, value=PREDICTION, offset=0, timestamp=0)
    to._results._read_record(TopicPartition(shop.orders.topics(namespace).predictions, partition), record)


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
    async with asyncio.timeout(PATIENCE):
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


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients wait for Kafka for longer than a second."""
    monkeypatch.setattr(client_patience, "ANSWERS_IN", PATIENCE)


@pytest.mark.usefixtures("patient")
def test_a_prediction_that_is_read_as_its_request_arrives_answers_it(bootstrap: str) -> None:
    namespace = f"t{uuid.uuid4().hex[:8]}"
    ensure_topics(bootstrap, shop.orders.topics(namespace).all())

    async def run() -> None:
        sending = submission(bootstrap, namespace)
        try:
            place = await appended(sending, 1)  # by another gateway; here it is sent again
            request = asyncio.create_task(sending.predict(shop.asked(1, 0.0)))
            await asyncio.sleep(0)  # it has looked for the prediction, and found none
            read_prediction(sending, namespace, place)
            async with asyncio.timeout(PATIENCE):
                assert await request == PREDICTION
        finally:
            await sending.close()

    asyncio.run(run())


@pytest.mark.usefixtures("patient")
def test_the_prediction_of_another_event_with_its_id_is_no_answer_to_a_request(bootstrap: str) -> None:
    namespace = f"t{uuid.uuid4().hex[:8]}"
    ensure_topics(bootstrap, shop.orders.topics(namespace).all())

    async def run() -> None:
        sending = submission(bootstrap, namespace)
        try:
            place = await appended(sending, 1)  # by another gateway
            request = asyncio.create_task(sending.predict(shop.asked(1, 0.0, amount=99.0)))
            await asyncio.sleep(0)
            read_prediction(sending, namespace, place)
            with pytest.raises(Problem) as error:
                await request
            assert (error.value.status, error.value.extra["stage"]) == (422, "id")
        finally:
            await sending.close()

    asyncio.run(run())


def test_a_request_that_is_on_its_way_is_not_sent_again_whoever_asks_without_waiting(bootstrap: str) -> None:
    namespace = f"t{uuid.uuid4().hex[:8]}"
    topics = shop.orders.topics(namespace)
    ensure_topics(bootstrap, topics.all())
    event = shop.asked(1, 0.0)
    place = partition_of(shop.orders.codec().key(event) or b"", shop.orders.partitions), 0

    async def run() -> None:
        sending = submission(bootstrap, namespace)
        try:
            async with sending._starting:  # there is no producer yet, as long as Kafka does not answer
                for _ in range(2):
                    answers = await asyncio.gather(
                        *(sending.predict(event) for _ in range(50)), return_exceptions=True
                    )
                    assert {(type(each), each.status) for each in answers} == {(Problem, 503)}
            async with asyncio.timeout(PATIENCE):
                await sending._outstanding[event.id].is_sent.wait()
                request = asyncio.create_task(sending.predict(event))
                await asyncio.sleep(0)  # it has joined the one before
                read_prediction(sending, namespace, place)
                assert await request == PREDICTION
            await sending._lookup.close()  # nothing is read of Kafka for what was sent here
            assert await sending.predict(event) == PREDICTION
            with pytest.raises(Problem) as other:
                await sending.predict(shop.asked(1, 0.0, amount=99.0))
            assert (other.value.status, other.value.extra["stage"]) == (422, "id")
        finally:
            await sending.close()
        consumer = async_clients.consumer(bootstrap)
        await consumer.start()
        try:
            extent = await TopicExtent.of(consumer, topics.log)
            assert extent.ends == {number: int(number == place[0]) for number in range(topics.partitions)}
        finally:
            await consumer.stop()

    asyncio.run(run())


def test_no_more_requests_are_on_their_way_than_there_is_room_for(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission_module, "MOST_OUTSTANDING", 2)

    async def run() -> None:
        sending = submission(bootstrap, "")
        try:
            async with sending._starting:
                first = [asyncio.create_task(sending.predict(shop.asked(number, 0.0))) for number in range(2)]
                await asyncio.sleep(0)
                with pytest.raises(Problem) as error:
                    await sending.predict(shop.asked(2, 0.0))
                assert (error.value.status, error.value.headers["Retry-After"]) == (429, "1")
                for each in first:
                    each.cancel()  # their clients go; they are on their way all the same
                with pytest.raises(Problem) as again:
                    await sending.predict(shop.asked(2, 0.0))
                assert again.value.status == 429
        finally:
            await sending.close()

    asyncio.run(run())
