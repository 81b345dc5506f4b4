"""The real broker, by aiokafka, for the owners of partitions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from contextlib import asynccontextmanager
from threading import Lock
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    ProducerFenced,
)

from driftline.streams.archive.parts import Archive
from driftline.streams.connection import async_clients, clients, closing
from driftline.streams.connection.batches import packed
from driftline.streams.connection.request_limit import ANSWERED_WITHIN
from driftline.streams.connection.security import own_security
from driftline.streams.declare.topics import INPUT_LIMIT
from driftline.streams.records.outputs import Output
from driftline.streams.records.ports import (
    Appender,
    AppendFailed,
    BrokerSilent,
    Extent,
    Fenced,
    Place,
    RecordsMissing,
    StoredRecord,
    TopicMissing,
    TopicShape,
)
from driftline.streams.records.positions import headers_of
from driftline.streams.transport.fence import fenced_producer
from driftline.streams.transport.merged_requests import MergedRequests

RECORDS_IN_READ = 128
"""Records that a read hands over at once: few enough not to delay other partitions."""
POSITION_POLL_MS = 10
"""Milliseconds between checks of the position: aiokafka waits on if there are only control markers."""
ACCEPTED_WITHIN = 10.0
"""Seconds within which the broker must have written an output to all replicas."""
ANSWERS_WITHIN = 20.0
"""Seconds after which a query, which may be several requests, is given up."""
READ_WITHIN = 30.0
"""Seconds without an answer after which a read is given up."""


class AppendedRecord(NamedTuple):
    """A record as the broker has it, known from its acknowledgement; `timestamp` is in ms, negative if the
    broker did not tell it."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


OnAppended = Callable[[Place, Sequence[AppendedRecord]], object]


class _Sent(NamedTuple):
    """A batch of outputs that was sent."""

    place: Place
    outputs: Sequence[Output]
    delivery: asyncio.Future[Any]


class KafkaAppender:
    """Sends batches with an idempotent producer and waits for each. `on_appended` is called with the records
    of each batch for one of `read_here`, the topics that are read here too."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        read_here: Container[str] = (),
        on_appended: OnAppended | None = None,
    ) -> None:
        self._producer = producer
        self._read_here = read_here
        self._on_appended = on_appended

    async def append(self, batches: Mapping[Place, Sequence[Output]]) -> Mapping[Place, int]:
        """See `Appender`."""
        try:
            sent = [one for place, outputs in batches.items() for one in await self._send(place, outputs)]
            return {one.place: await self._delivered(one) for one in sent}
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(f"another owner has taken over: {error}") from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise AppendFailed(f"an output was not accepted: {type(error).__name__}: {error}") from error

    async def _send(self, place: Place, outputs: Sequence[Output]) -> list[_Sent]:
        """Send in as few batches as there is room for; returns them in order."""
        sent: list[_Sent] = []
        begin = 0
        for batch in packed(self._producer, ((o.key, o.value, headers_of(o)) for o in outputs)):
            end = begin + batch.record_count()
            delivery = await self._producer.send_batch(batch, place.topic, partition=place.partition)
            # when one fails, or a later one cannot be sent, this one's error is not awaited
            delivery.add_done_callback(lambda done: done.cancelled() or done.exception())
            sent.append(_Sent(place, outputs[begin:end], delivery))
            begin = end
        return sent

    async def _delivered(self, sent: _Sent) -> int:
        """The offset after a batch, when it is acknowledged."""
        first = await sent.delivery  # a batch is delivered at the offset of its first record
        if self._on_appended is not None and sent.place.topic in self._read_here:
            records = [
                AppendedRecord(offset, first.timestamp, first.timestamp_type, o.key, o.value, headers_of(o))
                for offset, o in enumerate(sent.outputs, first.offset)
            ]
            self._on_appended(sent.place, records)
        end: int = first.offset + len(sent.outputs)
        return end

    async def close(self) -> None:
        """See `Appender`."""
        await closing.end(self._producer)


class KafkaBroker:
    """Reads with consumers outside any group, kept for the next read; one worker's own.

    Records that Kafka has deleted are read from the archive, if there is one that has them.
    """

    def __init__(self, bootstrap: str, archive: Archive | None = None) -> None:
        self._bootstrap = bootstrap
        self._archive = archive
        self._idle: list[AIOKafkaConsumer] = []
        self._security = own_security()  # read once: a take-over must be short
        self._shapes = TopicShapes(bootstrap)
        self._requests = MergedRequests()
        self._read_here: Container[str] = ()
        self._on_appended: OnAppended | None = None

    def tell_appended(self, topics: Container[str], on_appended: OnAppended) -> None:
        """From now on, call `on_appended` with what was appended to one of these topics and acknowledged."""
        self._read_here, self._on_appended = topics, on_appended

    async def fence(self, owner: str, places: Sequence[Place]) -> Appender:
        """See `Broker`."""
        try:
            async with asyncio.timeout(ANSWERS_WITHIN):
                producer = await fenced_producer(
                    self._bootstrap,
                    self._security,
                    owner,
                    [TopicPartition(*place) for place in places],
                    linger_ms=0,
                    max_batch_size=262_144,
                    max_request_size=4 * INPUT_LIMIT,
                    request_timeout_ms=int(ACCEPTED_WITHIN * 1000),
                )
        except (KafkaError, OSError, TimeoutError) as error:
            raise AppendFailed(f"fencing failed: {type(error).__name__}: {error}") from error
        self._requests.join(producer.client)
        return KafkaAppender(producer, self._read_here, self._on_appended)

    async def extents(self, places: Sequence[Place]) -> Mapping[Place, Extent]:
        """See `Broker`."""
        wanted = [TopicPartition(*place) for place in places]
        async with _answer("which offsets there are"):
            async with self._reader() as consumer:
                begins = await consumer.beginning_offsets(wanted)
                ends = await consumer.end_offsets(wanted)
            shapes = await asyncio.to_thread(self._shapes.of, sorted({place.topic for place in places}))
        extents = {}
        for place, tp in zip(places, wanted, strict=True):
            topic_id = shapes[place.topic].topic_id
            extents[place] = Extent(topic_id, await self._earliest(place, begins[tp], topic_id), ends[tp])
        return extents

    async def topics(self, names: Sequence[str]) -> Mapping[str, TopicShape]:
        """See `Broker`."""
        async with _answer("which topics there are"):
            return await asyncio.to_thread(self._shapes.of, names)

    async def first_offset(self, place: Place) -> int:
        """See `Broker`."""
        tp = TopicPartition(*place)
        async with _answer(f"what {place} begins with"), self._reader() as consumer:
            return await self._earliest(place, (await consumer.beginning_offsets([tp]))[tp])

    async def _earliest(self, place: Place, kept: int, topic_id: str | None = None) -> int:
        """The first offset that Kafka or, without a gap before it, the archive (of this topic) has."""
        if self._archive is None or kept == 0:
            return kept
        manifest = await asyncio.to_thread(self._archive.manifest, *place)
        if manifest is None or manifest.end < kept or topic_id not in (None, manifest.topic_id):
            return kept
        return min(kept, manifest.begin)

    async def _archived(self, place: Place, begin: int, end: int) -> AsyncIterator[Sequence[StoredRecord]]:
        """The archive's records of [begin, end), which Kafka has deleted."""
        if self._archive is None or await self._earliest(place, end) > begin:
            raise RecordsMissing(f"{place}: offsets {begin} to {end} have been deleted and are in no archive")
        parts = self._archive.read(*place, begin, end)
        while records := await asyncio.to_thread(next, parts, None):
            for start in range(0, len(records), RECORDS_IN_READ):
                yield records[start : start + RECORDS_IN_READ]
                await asyncio.sleep(0)

    async def read(self, place: Place, begin: int, end: int) -> AsyncIterator[Sequence[StoredRecord]]:
        """See `Broker`."""
        if begin >= end:
            return
        tp = TopicPartition(*place)
        async with self._reader() as consumer:
            first = (await consumer.beginning_offsets([tp]))[tp]
            if first > begin:
                async for records in self._archived(place, begin, min(first, end)):
                    yield records
                begin = min(first, end)
            if begin == end:
                return  # a partition taken back before it is fetched from ends aiokafka's fetching for good
            consumer.assign([tp])
            consumer.seek(tp, begin)
            loop = asyncio.get_running_loop()
            moved = loop.time()
            while (position := await consumer.position(tp)) < end:
                fetched = (
                    await consumer.getmany(tp, timeout_ms=POSITION_POLL_MS, max_records=RECORDS_IN_READ)
                ).get(tp, [])
                records = [record for record in fetched if record.offset < end]
                if records:
                    yield records
                if await consumer.position(tp) > position:
                    moved = loop.time()
                elif loop.time() - moved > READ_WITHIN:
                    raise BrokerSilent(f"{place}: offsets {position} to {end} could not be read")
                await asyncio.sleep(0)  # records already fetched are handed over without a pause

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        is_new = not self._idle
        if not is_new:
            consumer = self._idle.pop()
        else:
            consumer = async_clients.consumer(
                self._bootstrap,
                self._security,
                auto_offset_reset="none",
                # a broker answers a connection's requests in order: a fetch that waits at a partition's end
                # for half a second delays the next request as long
                fetch_max_wait_ms=POSITION_POLL_MS,
            )
        try:
            if is_new:
                await consumer.start()
            yield consumer
        except BaseException:
            await closing.end(consumer)
            raise
        if read := {tp.topic for tp in consumer.assignment()}:
            consumer.unsubscribe()  # otherwise it would continue to fetch
            # without any topic it would ask for the metadata of every topic in the cluster
            consumer._client.set_topics(read)
        self._idle.append(consumer)

    async def close(self) -> None:
        """End the connections."""
        while self._idle:
            await closing.end(self._idle.pop())
        await asyncio.to_thread(self._shapes.close)


@asynccontextmanager
async def _answer(question: str) -> AsyncIterator[None]:
    """Limits the time of a query. Raises BrokerSilent."""
    try:
        async with asyncio.timeout(ANSWERS_WITHIN):
            yield
    except TimeoutError as error:
        raise BrokerSilent(f"Kafka did not say within {ANSWERS_WITHIN:g} s {question}") from error


class TopicShapes:
    """Asks for ids and partition counts of topics, over one connection; thread-safe."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._asking = Lock()
        self._admin: Any = None

    def of(self, topics: Sequence[str]) -> dict[str, TopicShape]:
        """Each topic with the id that the broker gave it when it was made.

        Raises TopicMissing, and BrokerSilent when the broker did not answer.
        """
        from kafka.errors import KafkaError

        with self._asking:
            try:
                if self._admin is None:
                    self._admin = clients.admin(
                        self._bootstrap, request_timeout_ms=int(ANSWERED_WITHIN * 1000)
                    )
                described = self._admin.describe_topics(list(topics))
            except (KafkaError, OSError) as error:
                self._drop()
                # the errors of another client library than in the rest of this module
                raise BrokerSilent(f"{self._bootstrap}: {type(error).__name__}: {error}") from error
        shapes = {
            each["name"]: TopicShape(str(each["topic_id"]), len(each["partitions"]))
            for each in described
            if not each.get("error_code")
        }
        missing = [topic for topic in topics if topic not in shapes]
        if missing:
            raise TopicMissing(f"there is no topic {', '.join(missing)} at {self._bootstrap}")
        return shapes

    def _drop(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    def close(self) -> None:
        """End the connection."""
        with self._asking:
            self._drop()
