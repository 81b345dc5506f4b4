"""Ends clients of Kafka within a time limit, whatever the broker does.

aiokafka's `stop` waits for records being sent, for a minute and more if the broker is silent. It waits for
ever when a consumer is stopped right after `unsubscribe` while a fetch is on its way: the fetching task takes
the cancellation for that of the fetch. A second cancellation ends it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

log = logging.getLogger("driftline.broker")

ENDS_WITHIN = 1.0
"""Seconds that a client has to end by itself, and again after each cancellation."""
CANCELLATIONS = 3


async def end(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """End a client, without waiting for a producer's acknowledgements. Raises nothing: a client that does not
    end is disconnected and abandoned, and the log reports it.
    """
    if isinstance(client, AIOKafkaProducer):
        ended = await _within(_abandoned(client)) and await _within(client.client.close())
    else:
        ended = await _within(client.stop()) or await _within(client._client.close())
    if not ended:
        log.warning("a connection to Kafka did not end in time: %s is left to itself", type(client).__name__)


class Endings:
    """Ends clients in the background: otherwise a silent broker would delay those who have an answer."""

    def __init__(self) -> None:
        self._ending: set[asyncio.Task[None]] = set()

    def begin(self, client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
        """Begin to end a client."""
        ending = asyncio.create_task(end(client))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def over(self) -> None:
        """Return when all have ended."""
        await asyncio.gather(*self._ending)


async def _abandoned(producer: AIOKafkaProducer) -> None:
    """End the sending of a producer; its own `stop` waits until everything is acknowledged."""
    producer._closed = True
    await producer._sender.close()


async def _within(ending: Any) -> bool:
    """Whether it ended; if it takes too long, it is cancelled repeatedly."""
    task = asyncio.ensure_future(ending)
    task.add_done_callback(_log_failure)
    try:
        for _ in range(1 + CANCELLATIONS):
            await asyncio.wait([task], timeout=ENDS_WITHIN)
            if task.done():
                return not task.cancelled()
            task.cancel()
    finally:
        task.cancel()  # the caller was cancelled
    return False


def _log_failure(task: asyncio.Future[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("a connection to Kafka did not end well: %s: %s", type(error).__name__, error)
