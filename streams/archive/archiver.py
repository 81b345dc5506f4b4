"""Copies topics into the archive, part by part, each once its whole offset range is readable.

The archive says where to continue, never the group's commits, which only make the archiver's lag visible. One
range of one partition is read at a time, so the archiver needs the memory of one part.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from driftline.features.online.transient_failures import Outage
from driftline.streams.archive.log_reader import LogReader
from driftline.streams.archive.parts import Archive, ArchivedRecord, ArchiveError, Manifest
from driftline.streams.errors import StreamsError

log = logging.getLogger("driftline.archiver")

END_READ_EVERY = 2.0
RESUME_AFTER = 5.0


class _Stopping(Exception):
    """A part is left unfinished because the archiver has been asked to stop."""


class Archiver:
    """Archives the `topics` at `bootstrap`; `group` is where its progress is committed.

    Topics whose name `also` accepts may come and go while it runs: it archives those that are there. Those of
    them to which nothing comes any more, as `is_over` says, it archives to their last record, and deletes.
    `on_part` gets every part written, by the manifest that names it last.
    """

    def __init__(
        self,
        archive: Archive,
        bootstrap: str,
        topics: Sequence[str],
        group: str,
        on_part: Callable[[Manifest], None] | None = None,
        also: Callable[[str], bool] | None = None,
        is_over: Callable[[str], bool] | None = None,
    ) -> None:
        self._archive = archive
        self._bootstrap = bootstrap
        self._topics = topics
        self._group = group
        self._on_part = on_part
        self._also = also
        self._is_over = is_over
        self._stopping = False

    def stop(self) -> None:
        """End soon, from a signal handler: a part that is not complete is dropped."""
        self._stopping = True

    def once(self) -> int:
        """Write every part whose range is complete now; returns how many."""
        with LogReader(self._bootstrap, self._group) as reader:
            return self._round(reader)

    def run(self) -> None:
        """Run until `stop`. It waits for a broker or store that is out of reach; ArchiveError ends it, as
        does a permanent refusal by Kafka."""
        from kafka.errors import KafkaError

        outage = Outage(f"archiving from {self._bootstrap}")
        while not self._stopping:
            try:
                with LogReader(self._bootstrap, self._group) as reader:
                    while not self._stopping:
                        self._round(reader)
                        outage.ended()
                        self._wait(END_READ_EVERY)
            except (KafkaError, OSError) as error:
                if isinstance(error, KafkaError) and not error.retriable:
                    raise StreamsError(f"Kafka refuses: {type(error).__name__}: {error}") from error
                outage.failed(error)
                self._wait(RESUME_AFTER)

    def _wait(self, seconds: float) -> None:
        # short sleeps, not an Event: setting one in a signal handler can deadlock
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            time.sleep(0.1)

    def _round(self, reader: LogReader) -> int:
        written = 0
        try:
            for manifest in self._every_part(reader):
                written += 1
                if self._on_part is not None:
                    self._on_part(manifest)
        except _Stopping:
            pass
        return written

    def _every_part(self, reader: LogReader) -> Iterator[Manifest]:
        """Write the complete ranges of all topics, one after the other."""
        for topic in self._topics:
            known = reader.topic(topic)
            if known is None:
                raise ArchiveError(f"there is no topic {topic} at {self._bootstrap}: has a worker run?")
            yield from self._parts_of(reader, topic, *known)
        for topic in () if self._also is None else filter(self._also, reader.names()):
            if (known := reader.topic(topic)) is not None:
                yield from self._parts_of(reader, topic, *known)
                if self._is_over is not None and self._is_over(topic):
                    yield from self._ends(reader, topic, *known)
                    reader.delete(topic)
                    log.warning("%s is archived to its last record, and deleted", topic)

    def _parts_of(
        self, reader: LogReader, topic: str, topic_id: str, partitions: Sequence[int]
    ) -> Iterator[Manifest]:
        for partition in partitions:
            yield from self._parts(reader, topic, partition, topic_id)

    def _ends(
        self, reader: LogReader, topic: str, topic_id: str, partitions: Sequence[int]
    ) -> Iterator[Manifest]:
        """Write what is left of each partition, less than a part."""
        for partition in partitions:
            begin, end = reader.extent(topic, partition)
            manifest = self._archive.continued(topic, partition, topic_id)
            first = manifest.end if manifest.parts else begin // manifest.part_size * manifest.part_size
            if first < end:
                records = self._records(reader, manifest, first, end)
                yield self._archive.append_last(manifest, first, end, records)

    def _parts(self, reader: LogReader, topic: str, partition: int, topic_id: str) -> Iterator[Manifest]:
        """Write the partition's complete ranges, one after the other."""
        begin, end = reader.extent(topic, partition)
        manifest = self._archive.continued(topic, partition, topic_id)
        first = _next_range(manifest, begin, end)
        while first + manifest.part_size <= end:
            records = self._records(reader, manifest, first, first + manifest.part_size)
            manifest = self._archive.append(manifest, first, records)
            if manifest.begin == first > 0:
                log.warning(
                    "%s-%d begins at offset %d, what came before was deleted: the archive begins at %d, with "
                    "the first whole range of %d offsets",
                    topic, partition, begin, first, manifest.part_size,
                )  # fmt: skip
            first = manifest.end
            reader.commit(topic, partition, first)
            yield manifest

    def _records(
        self, reader: LogReader, manifest: Manifest, first: int, end: int
    ) -> Iterator[ArchivedRecord]:
        for chunk in reader.chunks(manifest.topic, manifest.partition, first, end):
            if self._stopping:
                raise _Stopping
            yield from chunk
        # a topic that was recreated while its records were read must not get into the old one's part
        known = reader.topic(manifest.topic)
        if known is None or known[0] != manifest.topic_id:
            raise ArchiveError(
                f"topic {manifest.topic} was deleted or recreated while [{first}, {end}) of its partition "
                f"{manifest.partition} was read; the part was not written: run the archiver again"
            )


def _next_range(manifest: Manifest, begin: int, end: int) -> int:
    """First offset of the part to write next, where the topic has [begin, end)."""
    place = f"{manifest.topic}-{manifest.partition}"
    if not manifest.parts:
        return -(-begin // manifest.part_size) * manifest.part_size
    if begin > manifest.end:
        raise ArchiveError(
            f"{place}: the archive ends at offset {manifest.end}, but the topic now begins at {begin}: "
            f"offsets [{manifest.end}, {begin}) were deleted before they were archived. What is archived "
            "stays readable; to go on, archive into another place (DRIFTLINE_ARCHIVE), and raise the "
            "topic's retention or run the archiver all the time"
        )
    if end < manifest.end:
        raise ArchiveError(
            f"{place}: the topic ends at offset {end}, before the archive's end {manifest.end}: it was "
            "truncated. New records under those offsets would contradict the archive: start a fresh topic, "
            "or archive into another place (DRIFTLINE_ARCHIVE)"
        )
    return manifest.end
