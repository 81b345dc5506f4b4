"""Reads the topics of a run, as any consumer would."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from driftline.infra.errors import InfraError
from driftline.infra.report.run_records import FEATURE_SAMPLE, RunRecords
from driftline.streams.archive.epochs import is_epoch
from driftline.streams.declare.topics import Topics
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.route import pool_key_of
from driftline.streams.records.messages import Prediction
from driftline.streams.records.ports import Place
from driftline.streams.simulation.digest import Digests

if TYPE_CHECKING:
    from kafka import KafkaConsumer

IDLE_FOR_AT_MOST = 120.0


class OutputRecord(NamedTuple):
    """A record of an output topic; (offset, ordinal) is its source position."""

    partition: int
    offset: int
    ordinal: int
    key: bytes | None
    value: bytes


@contextmanager
def opened(bootstrap: str, **settings: Any) -> Iterator[KafkaConsumer]:
    """A reader of committed records outside of any group."""
    from driftline.streams.connection import clients

    consumer = clients.consumer(
        bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        group_id=None,
        **settings,
    )
    try:
        yield consumer
    finally:
        consumer.close()


def _partitions(reader: KafkaConsumer, topic: str) -> list[Any]:
    from kafka import TopicPartition

    return [TopicPartition(topic, p) for p in sorted(reader.partitions_for_topic(topic) or ())]


def end_offsets(reader: KafkaConsumer, topic: str) -> dict[int, int]:
    """Where each partition of a topic ends now."""
    return {tp.partition: end for tp, end in reader.end_offsets(_partitions(reader, topic)).items()}


def only_markers(reader: KafkaConsumer, place: Place, begin: int, end: int) -> bool:
    """Whether the offsets [begin, end) of a partition are markers of transactions alone, and no records."""
    (partition,) = (tp for tp in _partitions(reader, place.topic) if tp.partition == place.partition)
    reader.assign([partition])
    reader.seek(partition, begin)
    idle_since = time.monotonic()
    while reader.position(partition) < end:
        if reader.poll(timeout_ms=100, max_records=1):
            return False
        if time.monotonic() - idle_since > IDLE_FOR_AT_MOST:
            raise InfraError(f"{place} could not be read from offset {begin} on")
    return True


def newest_predictions(reader: KafkaConsumer, topic: str) -> list[Prediction]:
    """The newest prediction of each partition."""
    partitions = _partitions(reader, topic)
    ends = reader.end_offsets(partitions)
    reader.assign(partitions)
    for tp, end in ends.items():
        reader.seek(tp, max(0, end - 1))
    fetched = reader.poll(timeout_ms=100, max_records=len(partitions))
    return [
        msgspec.json.decode(records[-1].value, type=Prediction) for records in fetched.values() if records
    ]


def read_topic(bootstrap: str, topic: str) -> Iterator[OutputRecord]:
    """Every committed record of an output topic up to its present end, each source position once.

    Within a partition they come in the order of their source positions. Code epochs, which no input caused,
    are left out. Raises InfraError when the end cannot be reached.
    """
    from driftline.streams.records.positions import position_of

    with opened(bootstrap, max_poll_records=5_000, max_partition_fetch_bytes=4_194_304) as reader:
        partitions = _partitions(reader, topic)
        ends = reader.end_offsets(partitions)
        reader.assign(partitions)
        reader.seek_to_beginning(*partitions)
        seen = dict.fromkeys((tp.partition for tp in partitions), (-1, -1))
        idle_since = time.monotonic()
        while any(reader.position(tp) < end for tp, end in ends.items()):
            fetched = reader.poll(timeout_ms=500)
            if fetched:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > IDLE_FOR_AT_MOST:
                raise InfraError(f"the end of {topic} could not be read: {ends}")
            for tp, records in fetched.items():
                for record in records:
                    if is_epoch(record):
                        continue
                    position = position_of(record.headers)
                    if position <= seen[tp.partition]:
                        continue
                    seen[tp.partition] = position
                    yield OutputRecord(tp.partition, *position, record.key, record.value)


def read_back(
    bootstrap: str, case: UseCase, topics: Topics, predictions: int
) -> tuple[RunRecords, dict[str, str]]:
    """What the report needs of the topics, and their digests; there are about so many predictions."""
    evidence = RunRecords(max(1, predictions // FEATURE_SAMPLE), pool_key_of(case))
    digests = Digests(topics.learning, topics.predicting)

    def read(kind: str) -> Iterator[OutputRecord]:
        for record in read_topic(bootstrap, getattr(topics, kind)):
            digests.update(kind, record.partition, record.offset, record.ordinal, record.value)
            yield record

    for record in read("predictions"):
        evidence.prediction(record.key, record.value, record.partition, record.offset)
    for record in read_topic(bootstrap, topics.outcomes):
        evidence.outcome(record.value)
    for record in read("drift"):
        evidence.drift(record.value)
    for record in read("models"):
        evidence.change(record.value)
    return evidence, digests.as_dict()
