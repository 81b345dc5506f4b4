"""A case's archive without Kafka: what a run of its fold would have published, in parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from driftline.streams.archive.parts import Archive, ArchivedRecord
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.outputs import Output, Outputs
from driftline.streams.records.positions import headers_of
from driftline.streams.simulation.sources import LogRecord, layout


def logs_of(case: UseCase, events: Iterable[Event]) -> list[list[LogRecord]]:
    """The log of every partition."""
    logs: list[list[LogRecord]] = [[] for _ in range(case.partitions)]
    for partition, record in layout(case, events, case.partitions):
        logs[partition].append(record)
    return logs


def archive_of(case: UseCase, events: Iterable[Event], uri: str, part_size: int) -> Archive:
    """An archive of the log, predictions and outcomes; their last parts are shorter than their ranges."""
    archive = Archive(uri, part_size)
    topics = case.topics()
    for partition, log in enumerate(logs_of(case, events)):
        processor, out = PartitionProcessor(case, partition), Outputs()
        for first in range(0, len(log), 500):
            out.extend(processor.step(log[first : first + 500]))
        append(archive, topics.log, partition, [record_of(r.offset, r.key, r.value) for r in log])
        append(archive, topics.predictions, partition, published(out.predictions))
        append(archive, topics.outcomes, partition, published(out.outcomes))
    return archive


def record_of(offset: int, key: bytes | None, value: bytes | None, headers: Any = ()) -> ArchivedRecord:
    """A record that the broker had a second after the one before."""
    return ArchivedRecord(offset, 1_700_000_000_000 + 1000 * offset, key, value, tuple(headers))


def published(outputs: Sequence[Output]) -> list[ArchivedRecord]:
    """Outputs as their topic holds them."""
    return [record_of(n, output.key, output.value, headers_of(output)) for n, output in enumerate(outputs)]


def append(archive: Archive, topic: str, partition: int, records: Sequence[ArchivedRecord]) -> None:
    """Archive records from where the archive ends."""
    manifest = archive.continued(topic, partition, f"id-of-{topic}")
    size = manifest.part_size
    for first in range(manifest.end, len(records), size):
        manifest = archive.append(manifest, first, records[first : first + size])
