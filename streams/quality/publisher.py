"""Publishes the results for windows on the compacted topics of a case, once each, however often it runs.

A record's key is its window (and feature and kind), its bytes are a function of the log and the schema alone:
two publishers write the same, a repeat changes nothing, and a key that is there with the same bytes is not
written again. So no writer needs to be fenced, which the outputs of the fold need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from driftline.streams.archive.log_reader import LogReader
from driftline.streams.connection import clients
from driftline.streams.declare.topics import Topics
from driftline.streams.quality.judgement import Judged
from driftline.streams.records.messages import DataAnomaly


class PublishedCount(NamedTuple):
    """How many records were written; nothing where all was there."""

    statistics: int
    anomalies: int


def records_of(judged: Sequence[Judged]) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """Statistics and anomalies of one partition's windows as the topics hold them, by key."""
    statistics = {
        window.statistics.at.isoformat().encode(): msgspec.json.encode(window.statistics) for window in judged
    }
    return statistics, _by_key(anomaly for window in judged for anomaly in window.anomalies)


def _by_key(anomalies: Iterable[DataAnomaly]) -> dict[bytes, bytes]:
    return {
        f"{anomaly.at.isoformat()}/{anomaly.feature}/{anomaly.kind}".encode(): msgspec.json.encode(anomaly)
        for anomaly in anomalies
    }


class DataPublisher:
    """Writes to the topics at `bootstrap`."""

    def __init__(self, bootstrap: str, topics: Topics) -> None:
        self._bootstrap = bootstrap
        self._topics = topics

    def publish(
        self, judged: Mapping[int, Sequence[Judged]], skewed: Sequence[DataAnomaly] | None
    ) -> PublishedCount:
        """Write the records that are missing, by partition; anomalies that a window no longer has are
        removed, those of skew only if skew was computed (`skewed` is not None)."""
        statistics = anomalies = 0
        producer = clients.producer(self._bootstrap, acks="all", enable_idempotence=True, linger_ms=5)
        try:
            with LogReader(self._bootstrap) as reader:
                for partition, windows in judged.items():
                    statistics_records, found = records_of(windows)
                    found |= _by_key(one for one in skewed or () if one.partition == partition)
                    there = _newest(reader, self._topics.statistics, partition)
                    statistics += _write(
                        producer, self._topics.statistics, partition, _missing(statistics_records, there)
                    )
                    there = _newest(reader, self._topics.anomalies, partition)
                    if skewed is None:
                        there = {key: value for key, value in there.items() if not key.endswith(b"/skew")}
                    wanted = {**_gone(there, statistics_records, found), **_missing(found, there)}
                    anomalies += _write(producer, self._topics.anomalies, partition, wanted)
        finally:
            producer.close()
        return PublishedCount(statistics, anomalies)


def _missing(wanted: Mapping[bytes, bytes], there: Mapping[bytes, bytes]) -> dict[bytes, bytes | None]:
    return {key: value for key, value in wanted.items() if there.get(key) != value}


def _gone(
    there: Mapping[bytes, bytes], windows: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]
) -> dict[bytes, bytes | None]:
    """Tombstones for keys of these windows that no longer exist: the schema is another one, or was edited."""
    return {key: None for key in there if key.partition(b"/")[0] in windows and key not in wanted}


def _newest(reader: LogReader, topic: str, partition: int) -> dict[bytes, bytes]:
    """The newest value of each key."""
    newest: dict[bytes, bytes] = {}
    for chunk in reader.chunks(topic, partition, *reader.extent(topic, partition)):
        for record in chunk:
            assert record.key is not None
            if record.value is None:
                newest.pop(record.key, None)
            else:
                newest[record.key] = record.value
    return newest


def _write(producer: object, topic: str, partition: int, records: Mapping[bytes, bytes | None]) -> int:
    futures = [
        producer.send(topic, value=value, key=key, partition=partition)  # type: ignore[attr-defined]
        for key, value in records.items()
    ]
    for future in futures:
        future.get()
    return len(futures)
