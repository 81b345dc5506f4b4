"""A Faust transport that hands over whole chunks: one Faust event is one chunk of a partition's records.

Faust's own path costs about 390 microseconds an event, this one about 8. Nothing is committed past
a frame that has not been acknowledged. As every reader of the log does, it reads committed records only.

Most chunks are fetched. Records between stages are often appended by the process that reads them: when the
broker has acknowledged them and given their offsets, they are known here, and are not waited for.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple

import faust
from aiokafka import AIOKafkaConsumer
from faust.tables import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from driftline.streams.connection.request_limit import limit_requests
from driftline.streams.transport.appended_records import AppendedRecords

FRAME_RECORDS = 500
WAITING_RECORDS = 4_000
"""Records of one partition that may wait to be acknowledged; more are left on the broker. (A limit of frames
would hold small ones back, and with them each fetch: aiokafka waits for what it has fetched to be taken.)"""
POLL = 1.0
POLL_FULL = 0.02
"""Seconds that a fetch waits for records; short, as a partition may be left out of it."""


class CommittedConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, reading committed records only, with a short limit for dropped connections.

    Faust reads committed only where it produces in transactions of its own, which driftline does not need.
    """

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # taken from there at its start
        limit_requests(consumer._client)
        return consumer

    async def fetch_all_but(self, unfetched: Collection[TP], read: Mapping[TP, int]) -> None:
        """Fetch from all assigned partitions but these; of those that were left out, from the offset up to
        which each is `read`."""
        consumer = self._ensure_consumer()
        for tp in consumer.paused() - unfetched:
            if tp in read:
                consumer.seek(tp, read[tp])
            consumer.resume(tp)
        consumer.pause(*(tp for tp in consumer.assignment() if tp in unfetched))

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Report nothing. Faust would, every few seconds, of each partition that recovers for long, as that
        commits nothing; `Standstill` knows which ones should have moved on."""


class _Frame(NamedTuple):
    """A frame that was handed over, and how many records it has."""

    message: ConsumerMessage
    records: int


class _Waiting:
    """The frames of a partition that are not acknowledged, in order."""

    def __init__(self) -> None:
        self._frames: deque[_Frame] = deque()
        self._passed: int | None = None
        self._records = 0

    def add(self, message: ConsumerMessage, records: int) -> None:
        """The next one."""
        self._frames.append(_Frame(message, records))
        self._records += records

    def records(self) -> int:
        """How many records wait."""
        while self._frames and self._frames[0].message.acked:
            first = self._frames.popleft()
            self._records -= first.records
            self._passed = first.message.offset + 1
        return self._records

    def passed(self) -> int | None:
        """The offset before which all are acknowledged; None until the first one is. It is returned each
        time: a commit may fail, and there may be no other record for long."""
        self.records()
        return self._passed


class FrameConsumer(driver.Consumer):  # type: ignore[misc]
    """Puts chunks of records, as lists, into the channels of their topic."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: dict[TP, _Waiting] = defaultdict(_Waiting)
        self._appended = AppendedRecords(monotonic)
        self._unfetched: set[TP] = set()
        self._committed: dict[TP, int] = {}

    def _new_consumer_thread(self) -> CommittedConsumerThread:
        return CommittedConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _new_offset(self, tp: TP) -> int | None:
        """The offset after the last frame before which all are acknowledged."""
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._waiting[tp].passed()

    def _should_commit(self, tp: TP, offset: int) -> bool:
        """Whether an offset is beyond what is committed. Faust takes a commit that failed for one that did
        not, and the next record, with the next commit, may be long in coming."""
        return offset > self._committed.get(tp, -1)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        is_done = bool(await super()._commit(offsets))
        if is_done:
            self._committed.update(offsets)
        return is_done

    async def _wait_next_records(self, timeout: float) -> tuple[Any, set[TP] | None]:
        """Fetch for the partitions that have room, so that a slow one never delays the others."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        await self._fetch_the_others()
        active = self._get_active_partitions()
        roomy = {tp for tp in active if self._has_room(tp)}
        if not roomy:
            await asyncio.sleep(POLL_FULL)
            return {}, active
        patience = timeout if len(roomy) == len(active) else POLL_FULL
        return await self._getmany(active_partitions=roomy, timeout=patience), active

    def _has_room(self, tp: TP) -> bool:
        return self._waiting[tp].records() < WAITING_RECORDS

    def _is_dead(self, generation: int) -> bool:
        app = self.app
        return (
            not self.flow_active
            or self.suspend_flow.is_set()
            or not app.flow_control.is_active()
            or generation != app.consumer_generation_id
            or self._stopped.is_set()
        )

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch, and hand over in frames, until the consumer or its fetcher is stopped."""
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                records, active = await self._wait_next_records(POLL)
                generation = self.app.consumer_generation_id
                await asyncio.sleep(0)  # the thread's answer may be ready at once every time
                if not records or self.should_stop:
                    continue
                if not self.flow_active:
                    await self.perform_seek()
                    continue
                for tp, frame in self._frames_of(records, active):
                    if self._is_dead(generation):
                        break  # the assignment has changed meanwhile
                    self._hand_over(tp, frame, generation)
                    self._hand_over_appended(tp, generation)
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    def _frames_of(self, records: dict[Any, list[Any]], active: set[TP] | None) -> Iterator[tuple[TP, Any]]:
        """The fetched records of partitions that are still assigned, in frames."""
        for partition, fetched in records.items():
            tp = TP(partition.topic, partition.partition)
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                continue
            read = self._read_offset[tp]
            # a seek sets it to the next offset to read, so it has to mean that here too: Faust's own code
            # takes it for the last one read, and skips the first record after each seek
            fresh = fetched if read is None else [r for r in fetched if r.offset >= read]
            for frame in _cut(fresh):
                yield tp, frame

    def _hand_over(self, tp: TP, frame: Sequence[Any], generation: int) -> None:
        """Hand over a whole frame, and note how far the partition is read."""
        last = frame[-1]
        message = ConsumerMessage(
            tp.topic, tp.partition, last.offset, last.timestamp / 1000.0, last.timestamp_type,
            [], None, b"", None, 0, 0, tp, generation_id=generation,
        )  # fmt: skip
        self._waiting[tp].add(message, len(frame))
        for channel in self.app.topics._tp_index[tp]:
            message.incref()
            channel.queue.put_nowait(self.app.create_event(None, frame, {}, message))
        self._read_offset[tp] = last.offset + 1

    def write_alone(self, partitions: Collection[TP]) -> None:
        """From now on, only this process writes to these partitions."""
        self._appended.write_alone(partitions)

    def appended(self, tp: TP, records: Sequence[Any]) -> None:
        """The broker has acknowledged records that this process appended, at offsets one after the other.
        They are handed over when they are the next ones of a partition that is read here."""
        generation = self.app.consumer_generation_id
        if tp in self._get_active_partitions() and not self._is_dead(generation):
            self._appended.add(tp, records)
            self._hand_over_appended(tp, generation)

    def _hand_over_appended(self, tp: TP, generation: int) -> None:
        """Hand over what was appended here and is next."""
        while (read := self._read_offset[tp]) is not None and self._has_room(tp):
            records = self._appended.take(tp, read)
            if records is None:
                return
            for frame in _cut(records):
                self._hand_over(tp, frame, generation)

    async def _fetch_the_others(self) -> None:
        """Have those partitions fetched from that need it, each from where it is read."""
        unfetched = self._appended.unfetched() & self._get_active_partitions()
        if unfetched != self._unfetched:
            read = {
                tp: offset
                for tp in self._unfetched - unfetched
                if (offset := self._read_offset[tp]) is not None  # else from the committed offset
            }
            self._unfetched = unfetched
            await self._thread.call_thread(self._thread.fetch_all_but, unfetched, read)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget the frames of what another worker may own now."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._waiting.pop(tp, None)
            self._committed.pop(tp, None)
        self._appended.forget(revoked)
        self._unfetched = set()


def _cut(records: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The records in frames."""
    for start in range(0, len(records), FRAME_RECORDS):
        yield records[start : start + FRAME_RECORDS]


class NoTables(TableManager):  # type: ignore[misc]
    """Stands for Faust's tables, of which there are none: otherwise Faust waits a second for some to be
    declared, and joins its group only then."""

    async def on_start(self) -> None:
        """Report that all tables are ready."""
        await self._update_channels()
        await self.recovery.start()


class FrameTransport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with the frame consumer."""

    Consumer = FrameConsumer


def install(app: faust.App) -> None:
    """Make the app's agents receive frames."""
    app.transport = FrameTransport(url=app.conf.broker, app=app, loop=app.loop)
