"""What is around a deployment, in memory: a broker, checkpoints, an online store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

from driftline.streams.checkpoints.checkpoint import CheckpointContent, TakeState, Unfinished, Written
from driftline.streams.records.outputs import Output
from driftline.streams.records.ports import (
    Appender,
    AppendFailed,
    Extent,
    Fenced,
    Place,
    RecordsMissing,
    StoredRecord,
    TopicShape,
)
from driftline.streams.records.positions import headers_of, source_of


class Stored(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int = -1


class MemoryBroker:
    """A broker in memory. `cuts` are how many outputs of each kind the next append still brings before it
    fails; `None` entries are control markers. `counts` are the partitions of topics that have several."""

    def __init__(self) -> None:
        self.places: dict[Place, list[Stored | None]] = {}
        self.begins: dict[Place, int] = {}
        self.shapes: dict[str, TopicShape] = {}
        self.epochs: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.cuts: dict[str, int] | None = None
        self.appends_left: int | None = None

    def at(self, place: Place) -> list[Stored | None]:
        return self.places.setdefault(place, [])

    def add(self, place: Place, key: bytes | None, value: bytes | None, headers: Any = ()) -> None:
        entries = self.at(place)
        entries.append(Stored(len(entries), key, value, tuple(headers)))

    async def fence(self, owner: str, places: Sequence[Place]) -> Appender:
        self.epochs[owner] = self.epochs.get(owner, 0) + 1
        for place in places:
            self.at(place).append(None)
        return MemoryAppender(self, owner, self.epochs[owner])

    async def extents(self, places: Sequence[Place]) -> Mapping[Place, Extent]:
        shapes = await self.topics([place.topic for place in places])
        return {p: Extent(shapes[p.topic].topic_id, self.begins.get(p, 0), len(self.at(p))) for p in places}

    async def topics(self, names: Sequence[str]) -> Mapping[str, TopicShape]:
        return {
            name: self.shapes.get(name, TopicShape(f"{name}#0", self.counts.get(name, 1))) for name in names
        }

    async def first_offset(self, place: Place) -> int:
        return self.begins.get(place, 0)

    async def close(self) -> None: ...

    async def read(self, place: Place, begin: int, end: int) -> AsyncIterator[Sequence[StoredRecord]]:
        if begin < end and begin < self.begins.get(place, 0):
            raise RecordsMissing(f"{place}: {begin} is deleted")
        for low in range(begin, end, 7):
            records = [r for r in self.at(place)[low : min(low + 7, end)] if r is not None]
            if records:
                yield records

    def data(self, place: Place) -> list[tuple[tuple[int, int], Stored]]:
        found = []
        for record in self.at(place):
            if record is not None and (position := source_of(record.headers)) is not None:
                found.append((position, record))
        return found


class MemoryAppender:
    def __init__(self, broker: MemoryBroker, owner: str, epoch: int) -> None:
        self._broker = broker
        self._owner = owner
        self._epoch = epoch

    async def append(self, batches: Mapping[Place, Sequence[Output]]) -> Mapping[Place, int]:
        broker = self._broker
        if broker.epochs[self._owner] != self._epoch:
            raise Fenced("another owner")
        failing = False
        if broker.appends_left is not None:
            broker.appends_left -= 1
            failing = broker.appends_left < 0
        for place, outputs in batches.items():
            kind = place.topic.split(".")[-1].replace("-", "_")
            count = (broker.cuts or {}).get(kind, 0) if failing else len(outputs)
            for output in outputs[:count]:
                broker.add(place, output.key, output.value, headers_of(output))
        if failing:
            raise AppendFailed("the process is no more")
        return {place: len(broker.at(place)) for place in batches}

    async def close(self) -> None: ...


class MemoryCheckpoints:
    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    async def names(self, folder: str) -> Sequence[str]:
        return sorted(name for name in self.stored if name.startswith(f"{folder}/"))

    async def load(self, name: str) -> bytes:
        return self.stored[name]

    def begin(self, name: str, take: TakeState) -> Unfinished:
        return _Writing(self, name, take()())

    async def remove(self, name: str) -> None:
        self.stored.pop(name, None)


class _Writing:
    def __init__(self, store: MemoryCheckpoints, name: str, content: CheckpointContent) -> None:
        self._store = store
        self._name = name
        self._content = content

    async def finish(self) -> Written:
        self._store.stored[self._name] = self._content.sealed
        return Written(0.0, len(self._content.sealed), self._content.packed)

    async def discard(self) -> None: ...


class Rows:
    """What was offered to the online store."""

    def __init__(self, incarnation: str = "first") -> None:
        self.incarnation = self.first_incarnation = incarnation
        self.newest: dict[Any, Any] = {}

    async def offer(self, rows: Mapping[Any, Any]) -> None:
        for key, row in rows.items():
            if key not in self.newest or row[0] >= self.newest[key][0]:
                self.newest[key] = row

    def offered(self) -> int:
        return 0

    async def written(self, ticket: int) -> None: ...
