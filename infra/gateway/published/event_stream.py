"""Server-sent events: the records of a topic as they are published.

Each stream reads the topic itself, so it continues from any position that a client gives. Records that a slow
client has not read yet stay in Kafka, so memory does not grow.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from driftline.infra.gateway.problems import ANSWERS_IN, not_now, too_many_streams
from driftline.infra.gateway.published.offset_vector import OffsetVector, encoded, gaps, within
from driftline.infra.gateway.published.topic_reader import TopicExtent
from driftline.streams.connection import async_clients
from driftline.streams.connection.closing import Endings, end

log = logging.getLogger("driftline.gateway")

HEARTBEAT = 10.0
"""Seconds without records after which a comment is sent, so that no client or proxy closes the connection."""
STREAM_POLL_MS = 500
EVENTS_AT_ONCE = 500
FETCHED_BYTES = 256 << 10
"""Bytes of a partition that are fetched ahead."""


class RecordStream:
    """The records of a topic for one client."""

    def __init__(
        self, consumer: AIOKafkaConsumer, at: OffsetVector, gone: Sequence[Mapping[str, int]]
    ) -> None:
        self._consumer = consumer
        self._at = at
        self._gone = gone

    @classmethod
    async def open(
        cls, bootstrap: str, topic: str, since: OffsetVector | None, endings: Endings
    ) -> RecordStream:
        """Start at an offset vector, or at the topic's current end. Raises Problem: 422, 503."""
        consumer = async_clients.consumer(
            bootstrap,
            auto_offset_reset="none",  # deleted records are reported, not skipped silently
            fetch_max_wait_ms=STREAM_POLL_MS,
            max_partition_fetch_bytes=FETCHED_BYTES,
        )
        try:
            async with asyncio.timeout(ANSWERS_IN):
                await consumer.start()
                extent = await TopicExtent.of(consumer, topic)
                at = extent.ends if since is None else within(since, extent.begins, extent.ends)
                extent.seek(consumer, at)
        except BaseException as error:
            endings.begin(consumer)
            if isinstance(error, (KafkaError, OSError, TimeoutError)):
                raise not_now() from None
            raise
        return cls(consumer, at, gaps(since, at))

    def opening(self) -> bytes:
        """The first events: the starting position, and the requested records that retention has deleted."""
        said = b"retry: 1000\nid: %s\n: from here on\n\n" % encoded(self._at).encode()
        for gap in self._gone:
            said += named_event("gap", gap)
        return said

    async def next(self) -> list[bytes]:
        """The events of the next records; empty when none came for a moment. Raises KafkaError."""
        try:
            found = await self._consumer.getmany(timeout_ms=STREAM_POLL_MS, max_records=EVENTS_AT_ONCE)
        except OffsetOutOfRangeError as error:
            return await self._deleted(error)
        return [self._event(record) for some in found.values() for record in some]

    def _event(self, record: Any) -> bytes:
        self._at[record.partition] = record.offset + 1
        return b"id: %s\ndata: %s\n\n" % (encoded(self._at).encode(), record.value)

    async def _deleted(self, error: OffsetOutOfRangeError) -> list[bytes]:
        """Continue behind records that retention deleted before this client read them. Raises the error if
        the topic has become shorter than it was."""
        wanted: dict[TopicPartition, int] = error.args[0]
        begins = await self._consumer.beginning_offsets(list(wanted))
        if any(begins[place] <= offset for place, offset in wanted.items()):
            raise error
        events = []
        for place, offset in wanted.items():
            self._consumer.seek(place, begins[place])
            self._at[place.partition] = begins[place]
            gap = {"partition": place.partition, "from": offset, "to": begins[place]}
            events.append(b"id: %s\n" % encoded(self._at).encode() + named_event("gap", gap))
        return events

    async def close(self) -> None:
        """Close the connection."""
        await end(self._consumer)


def named_event(name: str, data: Mapping[str, Any]) -> bytes:
    """A server-sent event with a name, for anything that is not a record."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


class OpenStreams:
    """The open streams of a gateway: at most `most`, and all of them end when the gateway ends."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0
        self._endings = Endings()
        self.is_ending = False

    async def answer(self, opened: Callable[[Endings], Awaitable[RecordStream]]) -> Response:
        """The response that sends a stream. Raises Problem 429 beyond the limit, and every Problem of
        `opened`."""
        if self._open >= self._most:
            raise too_many_streams(self._most)
        self._open += 1
        try:
            return _StreamResponse(await opened(self._endings), self)
        except BaseException:
            self._open -= 1
            raise

    async def closed(self, stream: RecordStream) -> None:
        """Close a stream and free its place."""
        self._open -= 1
        await stream.close()


class _StreamResponse(Response):
    """Sends a stream until its client disconnects, its connection times out (see `connection`), or the
    gateway ends."""

    media_type = "text/event-stream"

    def __init__(self, stream: RecordStream, streams: OpenStreams) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["Content-Length"]
        self._stream = stream
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._send_all(send, gone)
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone
            await self._streams.closed(self._stream)

    async def _send_all(self, send: Send, gone: asyncio.Task[None]) -> None:
        await _give(send, self._stream.opening())
        said = time.monotonic()
        while not gone.done():
            if self._streams.is_ending:
                await _end(send, "the gateway ends: connect again")
                return
            try:
                events = await self._stream.next()
            except (KafkaError, OSError) as error:
                await _end(send, f"Kafka cannot be read: {type(error).__name__}: connect again")
                return
            if not events and time.monotonic() - said >= HEARTBEAT:
                events = [b": alive\n\n"]
            if events:
                await _give(send, b"".join(events))
                said = time.monotonic()


async def _give(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _end(send: Send, reason: str) -> None:
    await _give(send, named_event("end", {"reason": reason}), more=False)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
