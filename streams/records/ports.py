"""What the owner of a partition needs of Kafka: small protocols, with a real and a simulated side.

Nothing here does any I/O. `driftline.streams.transport.kafka_broker` is the real side; the deterministic
simulation
brings its own, under the same take-over, outbox and checkpoint code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from driftline.streams.errors import StreamsError
from driftline.streams.records.outputs import Output
from driftline.streams.records.record import Record


class Place(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class Extent(NamedTuple):
    """What a place holds: offsets [begin, end) of the topic with this id. A topic that was deleted
    and made again under its old name has another id."""

    topic_id: str
    begin: int
    end: int


class TopicShape(NamedTuple):
    """A topic as the broker has it: its id, and how many partitions it has."""

    topic_id: str
    partitions: int


class StoredRecord(Record, Protocol):
    """One record as the broker has it."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class AppendFailed(StreamsError):
    """The broker did not take a record, or did not say whether it did."""


class Fenced(AppendFailed):
    """Another owner has taken the partition over since."""


class BrokerSilent(StreamsError):
    """The broker did not answer in time; it is to be asked again."""


class TopicMissing(StreamsError):
    """There is no such topic."""


class RecordsMissing(StreamsError):
    """Records that are needed have been deleted and are in no archive."""


class Appender(Protocol):
    """Appends to the output partitions of one owner, in order, under its fencing epoch."""

    async def append(self, batches: Mapping[Place, Sequence[Output]]) -> Mapping[Place, int]:
        """Append and return, when the broker has acknowledged everything, each place's new end.

        Raises Fenced or AppendFailed; then any prefix of each batch may have been appended.
        """
        ...

    async def close(self) -> None:
        """Give the connection up; what was not acknowledged is not waited for."""
        ...


class Broker(Protocol):
    """Reads places and fences owners."""

    async def fence(self, owner: str, places: Sequence[Place]) -> Appender:
        """Become the only one who can append to `places` as `owner`: earlier appenders are refused
        from now on. Leaves one control marker in each place, which readers do not see."""
        ...

    async def extents(self, places: Sequence[Place]) -> Mapping[Place, Extent]:
        """What each place holds now. `begin` counts what only an archive still has."""
        ...

    async def topics(self, names: Sequence[str]) -> Mapping[str, TopicShape]:
        """Id and partition count of each topic. Raises TopicMissing."""
        ...

    async def first_offset(self, place: Place) -> int:
        """The first offset that `read` can begin at."""
        ...

    async def close(self) -> None:
        """End the connections; a later call makes new ones."""
        ...

    def read(self, place: Place, begin: int, end: int) -> AsyncIterator[Sequence[StoredRecord]]:
        """The committed records at offsets [begin, end), in chunks; offsets may have gaps.

        Raises RecordsMissing when `begin` has been deleted and is in no archive.
        """
        ...
