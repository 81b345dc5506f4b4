"""The newest records of a topic, over all partitions."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from driftline.infra.errors import InfraError
from driftline.streams.archive.log_reader import LogReader
from driftline.streams.archive.parts import ArchivedRecord


class _Read(NamedTuple):
    partition: int
    record: ArchivedRecord


def newest(bootstrap: str, topic: str, count: int) -> list[dict[str, Any]]:
    """Up to `count` newest records by append time, oldest first: partition, offset, source, value.

    A value that is no JSON (a dead letter) is given as text; other headers are given too.
    """
    with LogReader(bootstrap) as reader:
        known = reader.topic(topic)
        if known is None:
            raise InfraError(f"there is no topic {topic} at {bootstrap}: has a worker or producer run?")
        read = [
            _Read(number, record) for number in known[1] for record in _last(reader, topic, number, count)
        ]
    read.sort(key=lambda each: (each.record.timestamp, each.partition, each.record.offset))
    return [_shown(*each) for each in read[-count:]]


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
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    text = (record.value or b"").decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return {"partition": partition, "offset": record.offset, **headers, "value": value}
