"""The events of a bench as a log file, which is made once for all processes of the bench."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.simulation.recording import Recorded
from driftline.streams.simulation.sources import LogRecord, layout, open_source, with_closing_clock


def mark_of_request(case: UseCase) -> bytes:
    """Bytes that every record of a request has, and no other record."""
    config = msgspec.inspect.type_info(case.task.ask)
    assert isinstance(config, msgspec.inspect.StructType)
    return f'"type":"{config.tag}"'.encode()


Chunks = list[tuple[int, list[LogRecord]]]
"""(partition, records), in the order in which they are folded."""


@dataclass(frozen=True, slots=True)
class Log:
    """(partition, record) in the order of the source, and the number of partitions."""

    partitions: int
    sequence: list[tuple[int, LogRecord]]

    @classmethod
    def of(cls, case: UseCase, limit: int) -> Log:
        """The first `limit` events of the case's source, and the clock events that close them."""
        return cls.laid_out(case, open_source(case, None, limit))

    @classmethod
    def laid_out(cls, case: UseCase, events: Iterable[Event | Recorded]) -> Log:
        """These events, and the clock events that close them."""
        closed = with_closing_clock(case, events)
        return cls(case.partitions, list(layout(case, closed, case.partitions)))

    def __len__(self) -> int:
        return len(self.sequence)

    def by_partition(self) -> list[list[LogRecord]]:
        """The records of each partition."""
        found: list[list[LogRecord]] = [[] for _ in range(self.partitions)]
        for partition, record in self.sequence:
            found[partition].append(record)
        return found

    def first_request(self, case: UseCase) -> int:
        """The number of records before the first request. In flights, all of them are reference data."""
        decode = case.codec().decode
        for index, (_, record) in enumerate(self.sequence):
            if isinstance(decode(record.value, record.key), case.task.ask):
                return index
        return len(self.sequence)

    def chunks(self, size: int, begin: int = 0, end: int | None = None) -> Chunks:
        """The partitions' records in chunks, in the order in which `simulate` folds them: of the whole log,
        or of its records from `begin` up to `end`."""
        done: Chunks = []
        waiting: list[list[LogRecord]] = [[] for _ in range(self.partitions)]
        for partition, record in self.sequence[begin:end]:
            waiting[partition].append(record)
            if len(waiting[partition]) >= size:
                done.append((partition, waiting[partition]))
                waiting[partition] = []
        return done + [(partition, left) for partition, left in enumerate(waiting) if left]

    def save(self, path: Path) -> None:
        """Write the log to a file."""
        rows = [(partition, *record) for partition, record in self.sequence]
        path.write_bytes(msgspec.msgpack.encode((self.partitions, rows)))

    @classmethod
    def load(cls, path: Path) -> Log:
        """The log that `save` wrote."""
        kind = tuple[int, list[tuple[int, int, bytes | None, bytes, int]]]
        partitions, rows = msgspec.msgpack.decode(path.read_bytes(), type=kind)
        return cls(partitions, [(row[0], LogRecord(*row[1:])) for row in rows])

    def produce(self, bootstrap: str, topic: str, begin: int = 0, end: int | None = None) -> None:
        """Append the log, or its records from `begin` up to `end`, to a topic, each to its partition."""
        from kafka import KafkaProducer

        producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=50, batch_size=262_144)
        for partition, record in self.sequence[begin:end]:
            producer.send(topic, value=record.value, key=record.key, partition=partition)
        producer.flush()
        producer.close()
