"""The newest records of a topic, over all partitions."""

from __future__ import annotations

import json
from typing import Any


def newest(bootstrap: str, topic: str, count: int) -> list[dict[str, Any]]:
    """Up to `count` newest records by append time, oldest first: partition, offset, source, value.

    A value that is no JSON (a dead letter) is given as text; other headers are given too.
    """
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, isolation_level="read_committed"
    )
    try:
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            from infra.errors import InfraError

            raise InfraError(f"there is no topic {topic} at {bootstrap}: has a worker or producer run?")
        places = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(places)
        begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
        for place in places:
            consumer.seek(place, max(begins[place], ends[place] - count))
        records = []
        while any(consumer.position(place) < ends[place] for place in places):
            for fetched in consumer.poll(1000).values():
                records.extend(fetched)
    finally:
        consumer.close()
    records.sort(key=lambda r: (r.timestamp, r.partition, r.offset))
    return [_shown(record) for record in records[-count:]]


def _shown(record: Any) -> dict[str, Any]:
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    try:
        value = json.loads(record.value)
    except ValueError:
        value = record.value.decode("utf-8", "replace")
    return {"partition": record.partition, "offset": record.offset, **headers, "value": value}
