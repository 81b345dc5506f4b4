"""Published results: predictions by event id, refusals by the refused record.

A gateway reads all partitions outside any consumer group, so that each gateway sees every result and none
waits for a rebalance. At its start it reads the predictions of the last `dedup_horizon` (by append time): for
so long the fold drops repeats of an event, and the first prediction is the answer to all of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from driftline.features.online.transient_failures import Outage
from driftline.infra.gateway.published.positions_by_id import AnswerPlace, PositionsById
from driftline.infra.gateway.published.refusals import Refusals
from driftline.infra.gateway.published.topic_reader import last_records, places_of
from driftline.streams.archive.epochs import is_epoch
from driftline.streams.connection import async_clients
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import REPORT_ONLY, StreamsError
from driftline.streams.records.positions import header_texts, position_of

log = logging.getLogger("driftline.gateway")

KEPT_BYTES = 64 << 20
"""Bytes of the newest predictions that are kept in memory. Older ones are read from Kafka again."""
RESULTS_POLL_MS = 200


class KnownAnswer(NamedTuple):
    """A prediction as published, and the position of its request in the topic of the stage that answers."""

    partition: int
    source: int
    body: bytes
    content: int | None = None
    """Hash of the request's content, if this gateway knows it."""


class _Head(msgspec.Struct):
    event_id: str


class PublishedResults:
    """Predictions and refusals of one case, read from their topics for as long as `run` runs."""

    def __init__(self, case: UseCase, bootstrap: str, namespace: str) -> None:
        self._topics = case.topics(namespace)
        self._bootstrap = bootstrap
        self._horizon = case.dedup_horizon
        self._places = PositionsById(case.dedup_horizon)
        self._read_head = msgspec.json.Decoder(_Head).decode
        self._newest: OrderedDict[str, KnownAnswer] = OrderedDict()
        self._newest_bytes = 0
        self._answers: dict[str, asyncio.Future[KnownAnswer]] = {}
        self._outage = Outage(f"reading the results of {case.name}")
        self._consumer: AIOKafkaConsumer | None = None
        self._moved = asyncio.Condition()
        self.refusals = Refusals(case.task.ask, case.partitions)
        self.is_ready = False
        """Whether everything published in the `dedup_horizon` before the start has been read."""

    async def run(self) -> None:
        """Read until cancelled. Outages of the broker are waited out."""
        while True:
            try:
                await self._read()
            except (KafkaError, OSError, TimeoutError) as error:
                await asyncio.sleep(self._outage.failed(error))

    async def _read(self) -> None:
        consumer = async_clients.consumer(
            self._bootstrap,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=RESULTS_POLL_MS,
        )
        try:
            await consumer.start()
            ends = await self._begin(consumer)
            self._consumer = consumer
            while True:
                for place, records in (await consumer.getmany(timeout_ms=RESULTS_POLL_MS)).items():
                    for record in records:
                        self._take(place, record)
                self._outage.ended()
                async with self._moved:
                    self._moved.notify_all()
                if not self.is_ready:
                    positions = [await consumer.position(place) >= end for place, end in ends.items()]
                    self.is_ready = all(positions)
        finally:
            self._consumer = None
            await consumer.stop()

    async def _begin(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
        """Seek to where reading starts; returns the topics' ends at the start."""
        places = await places_of(consumer, self._topics.predictions, self._topics.dead_letters)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(places)
        now = await self._no_later_than_now(consumer, ends)
        consumer.assign(places)
        since = int((now - self._horizon) * 1000)
        begins = await consumer.offsets_for_times(dict.fromkeys(places, max(0, since)))
        for place, offset in begins.items():
            consumer.seek(place, ends[place] if offset is None else offset.offset)
        return ends

    async def _no_later_than_now(
        self, consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
    ) -> float:
        """A time that is ahead neither of this machine's clock nor of the broker's, which records have their
        times from: by a clock that is ahead, too few would be within the horizon."""
        firsts = await consumer.beginning_offsets(list(ends))
        found = await last_records(consumer, firsts, ends)
        newest = max((record.timestamp / 1000 for record in found.values()), default=0.0)
        return min(time.time(), newest)

    def _take(self, place: TopicPartition, record: Any) -> None:
        try:
            self._read_record(place, record)
        except (KeyError, msgspec.MsgspecError, StreamsError) as error:
            # a record that no fold wrote must not stop the answers to others
            log.error("%s-%d, offset %d: %r", place.topic, place.partition, record.offset, error)

    def _read_record(self, place: TopicPartition, record: Any) -> None:
        if is_epoch(record):
            self.refusals.begin_epoch()
            return
        source = position_of(record.headers)[0]
        if place.topic == self._topics.dead_letters:
            headers = header_texts(record.headers)
            if headers["stage"] not in REPORT_ONLY:
                position = (place.partition, source)
                self.refusals.add(position, record.value, headers["stage"], headers["reason"])
            return
        event_id = self._read_head(record.value).event_id
        # beyond the horizon, the same id is another request
        self._places.put(event_id, AnswerPlace(place.partition, record.offset), record.timestamp)
        answer = KnownAnswer(place.partition, source, record.value)
        self._keep(event_id, answer)
        waiting = self._answers.pop(event_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _keep(self, event_id: str, answer: KnownAnswer) -> None:
        before = self._newest.pop(event_id, None)
        self._newest[event_id] = answer
        self._newest_bytes += len(answer.body) - (0 if before is None else len(before.body))
        while self._newest_bytes > KEPT_BYTES:
            self._newest_bytes -= len(self._newest.popitem(last=False)[1].body)

    def find(self, event_id: str) -> AnswerPlace | None:
        """The position of a request's prediction, if it was published within the horizon."""
        return self._places.find(event_id)

    def newest(self, event_id: str) -> KnownAnswer | None:
        """The prediction itself, if it is still in memory."""
        return self._newest.get(event_id)

    def note_content(self, event_id: str, content: int) -> None:
        """Note the hash of the request's content beside its prediction, if that is still in memory."""
        answer = self._newest.get(event_id)
        if answer is not None:
            self._newest[event_id] = answer._replace(content=content)

    def answer_of(self, event_id: str) -> asyncio.Future[KnownAnswer]:
        """Resolves with the request's prediction. Call it before the request is sent."""
        waiting = self._answers.get(event_id)
        if waiting is None or waiting.done():
            waiting = self._answers[event_id] = asyncio.get_running_loop().create_future()
        return waiting

    async def read_to_end(self, topic: str, partition: int) -> None:
        """Return when all that a partition of predictions or dead letters has now has been read."""
        place = TopicPartition(topic, partition)
        end: int | None = None
        while True:
            consumer = self._consumer
            if consumer is not None:
                try:
                    if end is None:
                        end = (await consumer.end_offsets([place]))[place]
                    if await consumer.position(place) >= end:
                        return
                except KafkaError as error:
                    log.debug("asking again for the end of %s: %s", place, error)
            async with self._moved:
                await self._moved.wait()

    async def read_all_to_end(self) -> None:
        """The same for all partitions of both."""
        while self._consumer is None:
            async with self._moved:
                await self._moved.wait()
        for place in self._consumer.assignment():
            await self.read_to_end(place.topic, place.partition)

    def give_up(self, event_id: str) -> None:
        """Stop waiting for this prediction."""
        self._answers.pop(event_id, None)
