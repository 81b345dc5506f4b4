"""Reads single records of a case's topics by position, over one connection that stays open."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from driftline.infra.gateway.problems import ANSWERS_IN, not_now
from driftline.infra.gateway.published.kept_consumer import KeptConsumer

LOOKUP_POLL_MS = 200
READ_ON = 1_000
"""The gap between two wanted records up to which the ones between are read, not skipped with a seek. A fetch
returns about as many records."""

Wanted = dict[TopicPartition, dict[int, asyncio.Future[Any]]]
"""The waiting futures by partition and offset. The result None means that there is no such record."""


class RecordLookup:
    """Reads records for many callers at once. Calls that come during a read are served together by the next.

    Each partition is read in the order of its offsets. A record that Kafka does not give `within` this many
    seconds raises Problem 503.
    """

    def __init__(self, bootstrap: str, within: float = ANSWERS_IN) -> None:
        self._within = within
        self._consumer = KeptConsumer(bootstrap)
        self._wanted: Wanted = defaultdict(dict)
        self._serving: asyncio.Task[None] | None = None

    async def record(self, topic: str, partition: int, offset: int) -> Any | None:
        """The record at a position; None when the topic does not have it. Raises Problem 503."""
        wanted = self._wanted[TopicPartition(topic, partition)]
        found = wanted.setdefault(offset, asyncio.get_running_loop().create_future())
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve())
        try:
            async with asyncio.timeout(self._within):
                return await asyncio.shield(found)
        except (KafkaError, OSError, TimeoutError):
            raise not_now() from None

    async def _serve(self) -> None:
        while self._wanted:
            wanted, self._wanted = self._wanted, defaultdict(dict)
            try:
                async with asyncio.timeout(self._within):
                    await _read(await self._consumer.started(), wanted)
            except (KafkaError, OSError, TimeoutError) as error:
                self._consumer.drop()
                for future in (each for futures in wanted.values() for each in futures.values()):
                    if not future.done():
                        future.set_exception(error)
                        future.exception()  # if no caller waits any more, asyncio would log it

    async def close(self) -> None:
        """Close the connection. Waiting calls get no result."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        await self._consumer.close()


async def _read(consumer: AIOKafkaConsumer, wanted: Wanted) -> None:
    """Resolve all futures. Raises KafkaError."""
    places = list(wanted)
    consumer.assign(places)
    begins = await consumer.beginning_offsets(places)
    ends = await consumer.end_offsets(places)
    open_ = {}
    for place, futures in wanted.items():
        line = _Line(futures)
        line.pass_over(begins[place])
        line.end_at(ends[place])
        if line.next is not None:
            consumer.seek(place, line.next)
            open_[place] = line
    while open_:
        for place, records in (await consumer.getmany(*open_, timeout_ms=LOOKUP_POLL_MS)).items():
            line = open_[place]
            for record in records:
                line.take(record)
            if line.next is None:
                del open_[place]
            elif line.next - records[-1].offset > READ_ON:
                consumer.seek(place, line.next)


class _Line:
    """The wanted offsets of one partition, in ascending order."""

    def __init__(self, futures: dict[int, asyncio.Future[Any]]) -> None:
        self._futures = futures
        self._offsets = sorted(futures, reverse=True)

    @property
    def next(self) -> int | None:
        """The first offset that is still wanted."""
        return self._offsets[-1] if self._offsets else None

    def take(self, record: Any) -> None:
        """Take the next record of the partition."""
        self.pass_over(record.offset)
        if self.next == record.offset:
            _give(self._futures[self._offsets.pop()], record)

    def pass_over(self, offset: int) -> None:
        """Resolve wanted offsets before this one with None: the partition has no such records."""
        while self._offsets and self._offsets[-1] < offset:
            _give(self._futures[self._offsets.pop()], None)

    def end_at(self, offset: int) -> None:
        """Resolve wanted offsets from this one on with None: the partition ends here."""
        for beyond in [each for each in self._offsets if each >= offset]:
            self._offsets.remove(beyond)
            _give(self._futures[beyond], None)


def _give(future: asyncio.Future[Any], record: Any) -> None:
    if not future.done():
        future.set_result(record)
