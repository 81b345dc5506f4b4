"""Sends what the fold puts out, in order, and knows how far each output topic has come.

One producer a partition of the log. Batches go out in the order of source positions and each is
awaited. When one fails the outbox is dead: nothing later is sent, so what a topic ends with always
proves a contiguous prefix. Its owner then takes the partition over anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from streams.errors import StreamsError
from streams.outputs import Output, Outputs
from streams.topics import INPUT_LIMIT, Topics

Position = tuple[int, int]
"""(input offset, ordinal): the source position of an output record."""
NOTHING: Position = (-1, -1)
SOURCE = "source"
TAIL_DEADLINE = 30.0


class OutboxFailed(StreamsError):
    """An output was not accepted; the partition has to be taken over anew."""


def parse_source(headers: Sequence[tuple[str, bytes]]) -> Position:
    """The source position in a record's headers; raises StreamsError when there is none."""
    for name, value in headers:
        if name == SOURCE:
            offset, _, ordinal = value.decode().partition(":")
            return int(offset), int(ordinal)
    raise StreamsError(f"a record without the header {SOURCE!r}: somebody else writes to an output topic")


async def read_tail(consumer: AIOKafkaConsumer, tp: TopicPartition, begin: int, end: int) -> Position:
    """Source position of the last data record of an output partition's [begin, end).

    The last offsets may be control markers, so ever larger pieces of the end are read.
    """
    if end > begin:
        consumer.assign([tp])
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TAIL_DEADLINE
    span = 1
    while end > begin:
        low = max(begin, end - span)
        consumer.seek(tp, low)
        last: Any = None
        while await consumer.position(tp) < end:
            for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, ()):
                last = record
            if loop.time() > deadline:
                raise StreamsError(f"the end of {tp.topic}-{tp.partition} could not be read: {low}..{end}")
        if last is not None:
            return parse_source(last.headers)
        if low == begin:
            break
        span *= 16
    return NOTHING


class Outbox:
    """The outputs of one partition."""

    def __init__(self, bootstrap: str, topics: Topics, partition: int) -> None:
        self._bootstrap = bootstrap
        self._partition = partition
        self._names = {
            "predictions": topics.predictions,
            "outcomes": topics.outcomes,
            "drift": topics.drift,
            "models": topics.models,
            "dead_letters": topics.dead_letters,
        }
        self._producer: AIOKafkaProducer | None = None
        self.tails: dict[str, Position] = {}

    async def open(self) -> None:
        """Read the tails and start the producer."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, isolation_level="read_committed", enable_auto_commit=False
        )
        await consumer.start()
        try:
            places = {kind: TopicPartition(name, self._partition) for kind, name in self._names.items()}
            begins = await consumer.beginning_offsets(list(places.values()))
            ends = await consumer.end_offsets(list(places.values()))
            for kind, tp in places.items():
                self.tails[kind] = await read_tail(consumer, tp, begins[tp], ends[tp])
        finally:
            await consumer.stop()
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            enable_idempotence=True,
            acks="all",
            linger_ms=0,
            max_batch_size=262_144,
            max_request_size=4 * INPUT_LIMIT,
        )
        await self._producer.start()

    async def send(self, out: Outputs) -> None:
        """Send what lies beyond the tails and return when the broker has acknowledged all of it."""
        deliveries: list[Any] = []
        sent: dict[str, Position] = {}
        try:
            for kind in self._names:
                outputs: list[Output] = getattr(out, kind)
                tail = self.tails[kind]
                # positions ascend: only the first ones can lie at or before the tail
                fresh = (
                    outputs
                    if outputs and (outputs[0].offset, outputs[0].ordinal) > tail
                    else [o for o in outputs if (o.offset, o.ordinal) > tail]
                )
                if fresh:
                    await self._append(self._names[kind], fresh, deliveries)
                    sent[kind] = (fresh[-1].offset, fresh[-1].ordinal)
            for delivery in deliveries:
                await delivery
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            raise OutboxFailed(
                f"partition {self._partition}: an output was not accepted: {type(error).__name__}: {error}"
            ) from error
        self.tails.update(sent)

    async def _append(self, topic: str, outputs: list[Output], deliveries: list[Any]) -> None:
        producer = self._producer
        if producer is None:
            raise OutboxFailed(f"partition {self._partition}: the outbox is closed")
        batch = producer.create_batch()
        for output in outputs:
            headers = [(SOURCE, b"%d:%d" % (output.offset, output.ordinal)), *output.headers]
            if batch.append(key=output.key, value=output.value, timestamp=None, headers=headers) is None:
                batch.close()
                deliveries.append(await producer.send_batch(batch, topic, partition=self._partition))
                batch = producer.create_batch()
                batch.append(key=output.key, value=output.value, timestamp=None, headers=headers)
        batch.close()
        deliveries.append(await producer.send_batch(batch, topic, partition=self._partition))

    async def close(self) -> None:
        """End the producer; what was not acknowledged is not waited for."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()
