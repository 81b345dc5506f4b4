"""Fencing on Kafka: one owner's ordinary sends refuse every earlier owner's, without transactions.

`InitProducerId` with a transactional id bumps that id's epoch; one empty, aborted transaction over
the output partitions leaves a marker with the new epoch in each, so that every broker knows it; then
idempotent sends go out under the same producer id and the epoch after. A producer of an older epoch gets
ProducerFenced (or InvalidProducerEpoch) from each of those partitions. Costs about 10 ms, once a
take-over; later sends cost what they always do.

This module, `driftline.streams.connection.closing`, `driftline.streams.connection.request_limit`,
`driftline.streams.transport.frame` (an isolation level) and
`driftline.streams.transport.merged_requests` use aiokafka's internals, no others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from driftline.settings import KafkaSecurity
from driftline.streams.connection import async_clients
from driftline.streams.connection.closing import end
from driftline.streams.connection.request_limit import limit_requests

MARKED_WITHIN = 20.0
TRANSACTION_TIMEOUT_MS = 10_000
BACKOFF_MS = 5
"""Milliseconds between checks whether the markers are written."""


async def fenced_producer(
    bootstrap: str, security: KafkaSecurity, owner: str, places: Sequence[TopicPartition], **settings: Any
) -> AIOKafkaProducer:
    """A started idempotent producer, the only one of `owner` that `places` still accept.

    `settings` are AIOKafkaProducer's. Raises KafkaError.
    """
    marker = async_clients.producer(
        bootstrap,
        security,
        transactional_id=owner,
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        **settings,
    )
    try:
        await marker.start()
        await _mark(marker, places)
    finally:
        await end(marker)
    # the abort is answered before its markers are written: until then a place still accepts the previous
    # owner. The broker gives out another epoch only when all are written.
    settled = async_clients.producer(
        bootstrap, security, transactional_id=owner, retry_backoff_ms=BACKOFF_MS, **settings
    )
    try:
        await settled.start()
        producer_id, epoch = settled._txn_manager.producer_id, settled._txn_manager.producer_epoch
    finally:
        await end(settled)
    producer = async_clients.producer(bootstrap, security, enable_idempotence=True, acks="all", **settings)
    producer._txn_manager.set_pid_and_epoch(producer_id, epoch)
    limit_requests(producer.client)
    try:
        await producer.start()
    except BaseException:
        await end(producer)
        raise
    return producer


async def _mark(marker: AIOKafkaProducer, places: Sequence[TopicPartition]) -> None:
    """One empty aborted transaction over all places."""
    manager = marker._txn_manager
    await marker.begin_transaction()
    for place in places:
        manager.maybe_add_partition_to_txn(place)
    # the sender sleeps until it is woken for work; places are added by it, not by a send
    manager.notify_task_waiter()
    deadline = asyncio.get_running_loop().time() + MARKED_WITHIN
    while manager.partitions_to_add():
        if asyncio.get_running_loop().time() > deadline:
            raise KafkaTimeoutError(f"the fence was not set within {MARKED_WITHIN:g} s")
        await asyncio.sleep(0.001)
    await marker.abort_transaction()
