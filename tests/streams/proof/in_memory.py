"""Pasts that are held in memory."""

from __future__ import annotations

from collections.abc import Iterator

from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.records.ports import Place
from tests.streams.owner.memory import MemoryBroker


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


class Held:
    """What a broker in memory holds, as a past."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def begin(self, topic: str, partition: int) -> int:
        return 0

    def end(self, topic: str, partition: int) -> int:
        return len(self._broker.at(Place(topic, partition)))

    def records(self, topic: str, partition: int, begin: int, end: int) -> Iterator[list[ArchivedRecord]]:
        entries = self._broker.at(Place(topic, partition))[begin:end]
        held = [ArchivedRecord(r.offset, 0, r.key, r.value, r.headers) for r in entries if r is not None]
        for first in range(0, len(held), 50):
            yield held[first : first + 50]
