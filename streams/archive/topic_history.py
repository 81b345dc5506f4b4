"""Reads a topic's past seamlessly: records that Kafka still has from Kafka, earlier ones from the archive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, Self

from driftline.streams.archive.log_reader import LogReader, Trimmed
from driftline.streams.archive.parts import Archive, ArchivedRecord, refuse_other_topic
from driftline.streams.errors import StreamsError


class Past(Protocol):
    """What can be read of topics, by partition and offset."""

    def begin(self, topic: str, partition: int) -> int: ...
    def end(self, topic: str, partition: int) -> int: ...
    def records(self, topic: str, partition: int, begin: int, end: int) -> Iterator[list[ArchivedRecord]]: ...


class TopicPast:
    """The records of topics at `bootstrap` and in `archive`, as one.

    A topic that is no longer on the broker is read from the archive alone; one that was recreated
    since it was archived is refused (ArchiveError). `silence` is how long Kafka
    may not answer, in seconds (see `LogReader`).
    """

    def __init__(self, bootstrap: str, archive: Archive, silence: float | None = None) -> None:
        self._bootstrap = bootstrap
        self._archive = archive
        self._silence = silence
        self._reader = self._connected()

    def _connected(self) -> LogReader:
        return LogReader(self._bootstrap, silence=self._silence)

    def begin(self, topic: str, partition: int) -> int:
        """The earliest offset that Kafka or the archive has."""
        kept, archived = self._extents(topic, partition)
        if archived[0] == archived[1]:
            return kept[0]
        return archived[0] if kept[0] == kept[1] else min(archived[0], kept[0])

    def end(self, topic: str, partition: int) -> int:
        """The offset after the last one that can be read."""
        kept, archived = self._extents(topic, partition)
        return max(kept[1], archived[1])

    def partitions(self, topic: str) -> list[int]:
        """The partitions that the topic has in Kafka; empty if it does not exist."""
        known = self._reader.topic(topic)
        return [] if known is None else known[1]

    def offset_at(self, topic: str, partition: int, timestamp: int) -> int:
        """Offset of the first record that Kafka has from `timestamp` (its append time, ms) on.

        The archive is not searched.
        """
        return self._reader.offset_at(topic, partition, timestamp)

    def records(self, topic: str, partition: int, begin: int, end: int) -> Iterator[list[ArchivedRecord]]:
        """The records of [begin, end), in order, in chunks, none of them empty.

        Raises StreamsError, naming the offsets, for a range that neither Kafka nor the archive has.
        """
        at = begin
        with self._connected() as reader:  # one of its own: several iterations may run side by side
            while at < end:
                kept, archived = self._extents(topic, partition)
                if kept[0] <= at < kept[1]:
                    until = min(end, kept[1])
                    try:
                        for chunk in reader.chunks(topic, partition, at, until):
                            if chunk:
                                yield chunk
                                at = chunk[-1].offset + 1
                    except Trimmed:
                        continue  # retention was faster: the archive may have the rest
                elif archived[0] <= at < archived[1]:
                    until = min(end, archived[1], kept[0] if kept[0] > at else archived[1])
                    for chunk in self._archive.read(topic, partition, at, until):
                        yield chunk
                else:
                    missing = min([end, *(start for start in (kept[0], archived[0]) if start > at)])
                    raise StreamsError(
                        f"{topic}-{partition}: offsets [{at}, {missing}) are missing: Kafka has [{kept[0]}, "
                        f"{kept[1]}), the archive at {self._archive.uri} has [{archived[0]}, {archived[1]})"
                    )
                at = until

    def _extents(self, topic: str, partition: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """[begin, end) in Kafka and in the archive; (0, 0) where there is nothing."""
        manifest = self._archive.manifest(topic, partition)
        known = self._reader.topic(topic)
        archived = (0, 0) if manifest is None else (manifest.begin, manifest.end)
        if known is None or partition not in known[1]:
            return (0, 0), archived
        if manifest is not None:
            refuse_other_topic(manifest, known[0], self._archive.uri)
        return self._reader.extent(topic, partition), archived

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
