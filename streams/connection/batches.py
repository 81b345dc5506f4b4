"""Packs records into as few batches as there is room for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aiokafka import AIOKafkaProducer

PlainRecord = tuple[bytes | None, bytes | None, list[Any]]
"""Key, value and headers of a record to send: names and values, in a list, as aiokafka takes no other."""


def packed(producer: AIOKafkaProducer, records: Iterable[PlainRecord]) -> Iterator[Any]:
    """Closed batches of the records, in order, for `producer.send_batch`; at least one."""
    batch = producer.create_batch()
    for key, value, headers in records:
        if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
            batch.close()
            yield batch
            batch = producer.create_batch()
            batch.append(timestamp=None, key=key, value=value, headers=headers)
    batch.close()
    yield batch
