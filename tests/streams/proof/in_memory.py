"""A past that is held in memory."""

from __future__ import annotations

from collections.abc import Iterator

from driftline.streams.archive.parts import ArchivedRecord


class InMemory:
    """Topics of one partition, by name; records are read in chunks of so many."""

    def __init__(self, topics: dict[str, list[ArchivedRecord]], chunk: int = 1) -> None:
        self.topics = topics
        self._chunk = chunk

    def begin(self, topic: str, partition: int) -> int:
        records = self.topics[topic]
        return records[0].offset if records else 0

    def end(self, topic: str, partition: int) -> int:
        records = self.topics[topic]
        return records[-1].offset + 1 if records else 0

    def records(self, topic: str, partition: int, begin: int, end: int) -> Iterator[list[ArchivedRecord]]:
        found = [record for record in self.topics[topic] if begin <= record.offset < end]
        return (found[i : i + self._chunk] for i in range(0, len(found), self._chunk))
