"""The newest records of a topic, over all partitions."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from driftline.infra.errors import InfraError
from driftline.streams.archive.log_reader import SHORT_SILENCE, LogReader
from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.records.positions import header_texts


class _Read(NamedTuple):
    partition: int
    record: ArchivedRecord


def newest_records(bootstrap: str, topic: str, count: int) -> list[dict[str, Any]]:
    """Up to `count` newest records by append time, oldest first: partition, offset, source, value.

    A value that is no JSON (a dead letter) is given as text; other headers are given too.
    """
    with LogReader(bootstrap, silence=SHORT_SILENCE) as reader:
        numbers = partitions_of(reader, bootstrap, topic)
        read = [_Read(number, record) for number in numbers for record in _last(reader, topic, number, count)]
    read.sort(key=lambda each: (each.record.timestamp, each.partition, each.record.offset))
    return [_shown(*each) for each in read[-count:]]


def partitions_of(reader: LogReader, bootstrap: str, topic: str) -> list[int]:
    """The partitions of a topic of a case; raises InfraError where there is no such topic."""
    known = reader.topic(topic)
    if known is None:
        raise InfraError(f"there is no topic {topic} at {bootstrap}: has a worker or producer run?")
    return known[1]


def _last(reader: LogReader, topic: str, partition: int, count: int) -> list[ArchivedRecord]:
    """The last records of a partition, looked for in ever larger pieces: offsets may hold none (a fence's
    marker, what was rolled back)."""
    begin, end = reader.extent(topic, partition)
    span, low = count, end
    records: list[ArchivedRecord] = []
    while low > begin and len(records) < count:
        low = max(begin, end - span)
        records = [record for chunk in reader.chunks(topic, partition, low, end) for record in chunk]
        span *= 4
    return records[-count:]


def _shown(partition: int, record: ArchivedRecord) -> dict[str, Any]:
    text = (record.value or b"").decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return {"partition": partition, "offset": record.offset, **header_texts(record.headers), "value": value}
