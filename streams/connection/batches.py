"""Packs records into as few batches as there is room for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer

PlainRecord = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes | None]]]
"""Key, value and headers of a record to send."""


def packed(producer: AIOKafkaProducer, records: Iterable[PlainRecord]) -> Iterator[Any]:
    """Closed batches of the records, in order, for `producer.send_batch`; at least one."""
    batch = producer.create_batch()
    for key, value, headers in records:
        record = {"key": key, "value": value, "headers": list(headers)}
        if batch.append(timestamp=None, **record) is None:
            batch.close()
            yield batch
            batch = producer.create_batch()
            batch.append(timestamp=None, **record)
    batch.close()
    yield batch
