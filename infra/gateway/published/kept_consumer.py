"""A consumer outside any group that stays open between requests, and is replaced after an error."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer

from driftline.streams.connection import async_clients
from driftline.streams.connection.closing import Endings

FETCH_WAIT_MS = 10
"""Milliseconds that the broker keeps a fetch waiting at a partition's end: the next request waits as long."""


class KeptConsumer:
    """One consumer at a time, started when it is first needed."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._endings = Endings()
        self._consumer: AIOKafkaConsumer | None = None

    async def started(self) -> AIOKafkaConsumer:
        """The consumer. Raises KafkaError and OSError."""
        if self._consumer is None:
            self._consumer = async_clients.consumer(
                self._bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=FETCH_WAIT_MS
            )
            await self._consumer.start()
        return self._consumer

    def drop(self) -> None:
        """Begin to close the consumer: the next request opens a new connection."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._endings.begin(consumer)

    async def close(self) -> None:
        """Close the connection."""
        self.drop()
        await self._endings.over()
