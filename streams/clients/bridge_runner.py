"""Copies the records of a foreign topic into the log over a bridge, repeating some if necessary. A batch is
mapped, enriched, appended to the log and acknowledged, and only then committed: records that were on their
way when the process was killed are sent twice, under the same ids, and the fold drops the second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    OutOfOrderSequenceNumber,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from kafka.errors import KafkaError as AnyKafkaError

from driftline.features.online.transient_failures import Outage
from driftline.settings import KafkaSecurity
from driftline.streams.archive.log_reader import LogReader
from driftline.streams.clients.bridge import Bridge, ForeignRecord
from driftline.streams.clients.enrichment import Enricher, FeatureReader
from driftline.streams.connection import async_clients
from driftline.streams.connection.batches import PlainRecord, packed
from driftline.streams.connection.closing import end
from driftline.streams.connection.request_limit import limit_requests
from driftline.streams.declare.events import Event
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.errors import Refused, StreamsError
from driftline.streams.records.ports import Place

BRIDGED_AT_ONCE = 500
"""Records that are mapped, enriched and committed at once."""
BRIDGE_POLL_MS = 200
BATCH_BYTES = 262_144
RECONNECT_AFTER = 2.0
LONGEST_WAIT_MS = 86_400_000
"""How long a batch may take, since the online store may be away; a loop that hangs sends no heartbeats."""
BRIDGED_FROM = "bridged-from"
"""Header of the log's records and of dead letters: topic:partition:offset of the foreign record."""
_PASSING = (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaTimeoutError,
    OSError,
    OutOfOrderSequenceNumber,
    RebalanceInProgressError,
    TimeoutError,
    UnknownMemberIdError,
)


class BridgeGap(StreamsError):
    """Records of the foreign topic were deleted before they were bridged."""


class BridgeReport(msgspec.Struct):
    """Counts: records read, records without an event by `map`, records refused, events appended, and fields
    that were filled or had no value."""

    bridge: str
    topic: str
    records: int = 0
    ignored: int = 0
    refused: int = 0
    events: int = 0
    filled: int = 0
    missing: int = 0

    def __str__(self) -> str:
        """A line for people."""
        return (
            f"{self.bridge}: {self.records:,} records of {self.topic}: {self.events:,} events, "
            f"{self.ignored:,} of no interest, {self.refused:,} refused; fields read: {self.filled:,}, "
            f"missing: {self.missing:,}"
        )


class Bridger:
    """One process that runs a bridge; several of them share the topic's partitions. `foreign` is the Kafka
    that has the topic, `security` its security settings, `bootstrap` the Kafka that has the log. `readers`
    has one for each enrichment, in their order.
    """

    def __init__(
        self,
        bridge: Bridge,
        bootstrap: str,
        foreign: str,
        namespace: str,
        readers: Sequence[FeatureReader],
        security: KafkaSecurity | None = None,
    ) -> None:
        self._bridge = bridge
        self._bootstrap = bootstrap
        self._foreign = foreign
        self._security = security
        self._namespace = namespace
        self._codec = bridge.case.codec()
        self._log = bridge.case.topics(namespace).log
        self._letters = Place(bridge.dead_letters(namespace), 0)
        if bridge.topic in (self._log, self._letters.topic) and bootstrap == foreign:
            raise StreamsError(f"{bridge.name}: {bridge.topic} is what the bridge writes to")
        self._enrichers = [
            Enricher(declared, bridge.case.events, reader)
            for declared, reader in zip(bridge.enrich, readers, strict=True)
        ]
        self._outage = Outage(bridge.name)
        self.report = BridgeReport(bridge.name, bridge.topic)

    async def run(self, *, once: bool = False) -> None:
        """Run until cancelled; `once`: up to the topic's end at the start. It waits for a broker or an online
        store that is out of reach. Raises BridgeGap, FeaturesError for a store that cannot work as
        configured, and StreamsError if Kafka refuses permanently.
        """
        ends: dict[int, int] | None = None
        while True:
            try:
                topic_id, partitions = await asyncio.to_thread(self._look)
                if once and ends is None:
                    ends = partitions
                async with AsyncExitStack() as stack:
                    await self._carry(stack, topic_id, ends)
                return
            except (KafkaError, AnyKafkaError, OSError, TimeoutError) as error:
                if not _passes(error):
                    raise StreamsError(f"{self._bridge.name}: {type(error).__name__}: {error}") from error
                self._outage.failed(error)
                await asyncio.sleep(RECONNECT_AFTER)

    def _look(self) -> tuple[str, dict[int, int]]:
        """The foreign topic's id, and the end of each of its partitions."""
        with LogReader(self._foreign, security=self._security) as reader:
            known = reader.topic(self._bridge.topic)
            if known is None:
                raise StreamsError(f"there is no topic {self._bridge.topic} at {self._foreign}")
            topic_id, numbers = known
            return topic_id, {number: reader.extent(self._bridge.topic, number)[1] for number in numbers}

    async def _carry(self, stack: AsyncExitStack, topic_id: str, ends: Mapping[int, int] | None) -> None:
        """Copy batch after batch, until all of this process's partitions have reached their `ends`."""
        producer = async_clients.producer(
            self._bootstrap, enable_idempotence=True, acks="all", linger_ms=0,
            max_batch_size=BATCH_BYTES,
        )  # fmt: skip
        limit_requests(producer.client)
        stack.push_async_callback(end, producer)
        await producer.start()
        consumer = async_clients.consumer(
            self._foreign,
            self._security,
            group_id=self._bridge.group(topic_id, self._namespace),
            auto_offset_reset="earliest",  # records deleted before they were read are detected as a gap
            max_poll_interval_ms=LONGEST_WAIT_MS,
        )
        stack.push_async_callback(end, consumer)
        await consumer.start()
        done: dict[TopicPartition, int] = {}
        consumer.subscribe([self._bridge.topic], listener=_Forgetting(done))
        while True:
            fetched = await consumer.getmany(timeout_ms=BRIDGE_POLL_MS, max_records=BRIDGED_AT_ONCE)
            if fetched:
                self._outage.ended()
            for tp, records in fetched.items():
                await self._refuse_gap(consumer, tp, records[0].offset, done)
            await self._pass(
                producer, [record for records in fetched.values() for record in records], topic_id
            )
            following = {tp: records[-1].offset + 1 for tp, records in fetched.items()}
            if following:
                await consumer.commit(following)
                done |= following
            if ends is not None and await _reached(consumer, ends):
                return

    async def _refuse_gap(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int, done: Mapping[TopicPartition, int]
    ) -> None:
        """Raises BridgeGap if records before `offset` that were not bridged yet are deleted."""
        expected = done[tp] if tp in done else await consumer.committed(tp)
        if expected is None or expected >= offset:
            return
        begin = (await consumer.beginning_offsets([tp]))[tp]
        if begin > expected:  # otherwise the offsets between are markers, or were compacted away
            raise BridgeGap(
                f"{tp.topic}-{tp.partition}: offsets [{expected}, {begin}) were deleted before they were "
                f"bridged. To go on without them, set the offset of group {consumer._group_id} to {begin}"
            )

    async def _pass(self, producer: AIOKafkaProducer, fetched: Sequence[Any], topic_id: str) -> None:
        """Map, enrich and append records; returns when everything is acknowledged."""
        records = [_foreign(record, topic_id) for record in fetched]
        mapped: list[tuple[ForeignRecord, list[Event]]] = []
        refused: list[tuple[ForeignRecord, Refused]] = []
        for record in records:
            try:
                mapped.append((record, self._bridge.events_of(record)))
            except Refused as error:
                refused.append((record, error))
        events = [event for _, some in mapped for event in some]
        rows = await asyncio.gather(*(enricher.read(events) for enricher in self._enrichers))
        appended: dict[Place, list[PlainRecord]] = {}
        sent = 0
        for record, some in mapped:
            try:
                placed = [
                    place for event in some for place in self._placed(record, self._enriched(event, rows))
                ]
            except Refused as error:
                refused.append((record, error))
                continue
            sent += len(some)
            for place, plain in placed:
                appended.setdefault(place, []).append(plain)
        if refused:
            appended[self._letters] = [_letter(record, error) for record, error in refused]
        await asyncio.gather(*(_append(producer, place, plain) for place, plain in appended.items()))
        self._count(records, mapped, refused, sent)

    def _enriched(self, event: Event, rows: Sequence[Mapping[Any, Any]]) -> Event:
        for enricher, fields in zip(self._enrichers, rows, strict=True):
            event = enricher.enriched(event, fields)
        return event

    def _placed(self, record: ForeignRecord, event: Event) -> list[tuple[Place, PlainRecord]]:
        """The event's place in the log, and its record; raises Refused if the fold would refuse it."""
        value, key = self._codec.encode(event), self._codec.key(event)
        partitions = self._bridge.case.partitions
        targets = range(partitions) if key is None else (partition_of(key, partitions),)
        plain: PlainRecord = key, value, [(BRIDGED_FROM, _position(record))]
        return [(Place(self._log, number), plain) for number in targets]

    def _count(
        self, records: Sequence[Any], mapped: Sequence[Any], refused: Sequence[Any], sent: int
    ) -> None:
        report = self.report
        report.records += len(records)
        report.ignored += sum(not events for _, events in mapped)
        report.refused += len(refused)
        report.events += sent
        report.filled = sum(enricher.filled for enricher in self._enrichers)
        report.missing = sum(enricher.missing for enricher in self._enrichers)


class _Forgetting(ConsumerRebalanceListener):  # type: ignore[misc]
    """Forgets the progress of a partition that another process continues."""

    def __init__(self, done: dict[TopicPartition, int]) -> None:
        self._done = done

    def on_partitions_revoked(self, revoked: Any) -> None:
        for tp in revoked:
            self._done.pop(tp, None)

    def on_partitions_assigned(self, assigned: Any) -> None: ...


async def _reached(consumer: AIOKafkaConsumer, ends: Mapping[int, int]) -> bool:
    """Whether the process has partitions, and each has reached its end."""
    assigned = consumer.assignment()
    return bool(assigned) and all([await consumer.position(tp) >= ends[tp.partition] for tp in assigned])


async def _append(producer: AIOKafkaProducer, place: Place, records: Sequence[PlainRecord]) -> None:
    """Append records; each batch is acknowledged before the next, so that none overtakes one that failed."""
    for batch in packed(producer, records):
        await (await producer.send_batch(batch, place.topic, partition=place.partition))


def _foreign(fetched: Any, topic_id: str) -> ForeignRecord:
    return ForeignRecord(
        fetched.topic,
        topic_id,
        fetched.partition,
        fetched.offset,
        fetched.timestamp,
        fetched.key,
        fetched.value,
        tuple(map(tuple, fetched.headers)),
    )


def _position(record: ForeignRecord) -> bytes:
    return f"{record.topic}:{record.partition}:{record.offset}".encode()


def _letter(record: ForeignRecord, refused: Refused) -> PlainRecord:
    """The record unchanged; headers say where it was, and why it was refused."""
    return record.key, record.value, [*record.headers, (BRIDGED_FROM, _position(record)), *refused.headers]


def _passes(error: BaseException) -> bool:
    """Whether an error of Kafka is temporary, or ends by joining the group again or with a new producer."""
    return isinstance(error, _PASSING) or bool(getattr(error, "retriable", False))
