"""What is outside of the code under test: a broker, a checkpoint store, an online store, all in memory.

Everything here outlives the processes, and everything here can fail. `World` is the truth that invariants
are checked against; a `Connection` is what one process has of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from driftline.streams.archive.epochs import Code
from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal
from driftline.streams.declare.topics import Topics
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import StreamsError
from driftline.streams.owner.deployment import Deployment
from driftline.streams.records.outputs import KINDS, Output
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
from driftline.streams.records.positions import NOTHING, SourcePosition, headers_of, source_of
from tests.simulation.scheduler import TURN, Process, Scheduler

PARTITION = 0
SEAL = Seal(b"k" * KEY_BYTES)


class Violation(AssertionError):
    """An invariant does not hold."""


class BrokerAway(OSError):
    """The broker did not answer."""


class Stored(NamedTuple):
    """A record as the broker has it."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp: int = -1


class StoredPlace:
    """One partition of a topic: entry n has offset n, None is a control marker.

    What retention deletes stays in `entries`, below `begin`: the invariants see it, readers do not.
    `epoch` is of the newest fence whose marker is here. `incarnation` changes when the place loses what
    brokers know of producers: whoever appended before is out of sequence then. `cuts` are (step, new
    end) of each truncation.
    """

    def __init__(self, topic_id: str) -> None:
        self.topic_id = topic_id
        self.begin = 0
        self.entries: list[Stored | None] = []
        self.epoch = -1
        self.incarnation = 0
        self.cuts: list[tuple[int, int]] = []

    @property
    def end(self) -> int:
        return len(self.entries)

    def data(self, begin: int = 0) -> Iterator[tuple[SourcePosition, Stored]]:
        """The records with a source position from offset `begin` on."""
        for entry in self.entries[begin:]:
            if entry is not None and (position := source_of(entry.headers)) is not None:
                yield position, entry

    def append(
        self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
    ) -> None:
        self.entries.append(Stored(self.end, key, value, tuple(headers)))

    def fence(self, epoch: int) -> None:
        """From now on what comes with an older epoch is refused; the marker takes one offset."""
        self.epoch = epoch
        self.entries.append(None)


class Chances(NamedTuple):
    """How probable each passing failure is, at each occasion."""

    refused: float = 0.0
    unacknowledged: float = 0.0
    timed_out: float = 0.0
    away: float = 0.0
    disk_full: float = 0.0


CALM = Chances()


class Request:
    """Batches on their way to the broker, which gets them in pieces, whether or not the sender lives."""

    def __init__(
        self, epoch: int, incarnations: Mapping[Place, int], batches: Mapping[Place, Sequence[Output]]
    ) -> None:
        self.epoch = epoch
        self.incarnations = incarnations
        self.batches = batches
        self.failed: dict[Place, AppendFailed] = {}
        self.ends: dict[Place, int] = {}
        self.lost = False
        self.done = False


class World:
    """The state of everything that outlives a process."""

    def __init__(self, random: Random, case: UseCase, scheduler: Scheduler, trace: list[str] | None) -> None:
        self.random = random
        self.case = case
        self.scheduler = scheduler
        self.trace = trace
        self.topics = Topics(case.name, case.partitions)
        self.log_place = Place(self.topics.log, PARTITION)
        self.kinds = {kind: Place(getattr(self.topics, kind), PARTITION) for kind in KINDS}
        self.places = {
            place: StoredPlace(f"{place.topic}#0") for place in (self.log_place, *self.kinds.values())
        }
        self.network = Process("network")
        self.chances = CALM
        self.coordinator = -1
        self.committed = 0
        self.checkpoints: dict[str, bytes] = {}
        self.sealed_at: dict[bytes, int] = {}
        self.online: dict[Any, Any] = {}
        self.destroyed: list[str] = []
        """What has been done to the broker that can justify a refusal."""
        self.log_truncated = False

    @property
    def log(self) -> StoredPlace:
        return self.places[self.log_place]

    def note(self, actor: str, text: str) -> None:
        """One line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.scheduler.steps:6d} {actor:>10}  {text}")

    def happens(self, chance: float) -> bool:
        return chance > 0.0 and self.random.random() < chance

    async def deliver(self, request: Request) -> None:
        """Bring a request to the broker piece by piece; a piece that fails takes the rest of its place's
        with it, and no other place's."""
        for place, piece in self._pieces(request):
            await TURN
            if request.lost:
                return
            if place not in request.failed:
                self._append(request, place, piece)
        request.done = True

    def _pieces(self, request: Request) -> list[tuple[Place, Sequence[Output]]]:
        queues = {}
        for place, outputs in request.batches.items():
            cut = self.random.randrange(len(outputs) + 1) if self.random.random() < 0.5 else 0
            queues[place] = deque(piece for piece in (outputs[:cut], outputs[cut:]) if piece)
        order = []
        while queues:
            place = self.random.choice(tuple(queues))
            order.append((place, queues[place].popleft()))
            if not queues[place]:
                del queues[place]
        return order

    def _append(self, request: Request, place: Place, piece: Sequence[Output]) -> None:
        stored = self.places[place]
        if stored.epoch > request.epoch:
            request.failed[place] = Fenced(f"{place}: epoch {request.epoch} is fenced by {stored.epoch}")
        elif stored.incarnation != request.incarnations[place]:
            request.failed[place] = AppendFailed(f"{place}: out of sequence")
        elif self.happens(self.chances.refused):
            request.failed[place] = AppendFailed(f"{place}: refused")
        if place in request.failed:
            self.note("broker", f"does not take from epoch {request.epoch}: {request.failed[place]}")
            return
        for output in piece:
            self._check_order(place, stored, output)
            stored.append(output.key, output.value, headers_of(output))
        request.ends[place] = stored.end
        self.note(
            "broker", f"{place} takes {[(o.offset, o.ordinal) for o in piece]} at epoch {request.epoch}"
        )

    def _check_order(self, place: Place, stored: StoredPlace, output: Output) -> None:
        if output.offset < 0:
            return
        last = next(
            (source_of(e.headers) for e in reversed(stored.entries) if e and source_of(e.headers)), None
        )
        if last is not None and (output.offset, output.ordinal) <= last:
            raise Violation(
                f"{place}: source position {(output.offset, output.ordinal)} is appended after {last}"
            )

    def furthest(self) -> SourcePosition:
        """The last source position in any output that readers can still see."""
        seen = [NOTHING]
        for place in self.kinds.values():
            stored = self.places[place]
            seen += [position for position, _ in stored.data(stored.begin)]
        return max(seen)


class Connection:
    """The broker as one process sees it; see `driftline.streams.records.ports.Broker`."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    async def turn(self) -> None:
        """Let others go on; the broker may be away when it is this process's turn again."""
        await TURN
        self._process.check()
        if self._world.happens(self._world.chances.away):
            raise BrokerAway("no answer")

    async def fence(self, owner: str, places: Sequence[Place]) -> Appender:
        """A new epoch first, then a marker in one place after the other."""
        world = self._world
        try:
            await self.turn()
            world.coordinator += 1
            epoch = world.coordinator
            for place in world.random.sample(list(places), len(places)):
                await self.turn()
                if world.coordinator != epoch:
                    raise Fenced(f"{owner}: a newer owner is fencing")
                world.places[place].fence(epoch)
                world.note(self._process.name, f"fences {place} with epoch {epoch}")
            await self.turn()
        except BrokerAway as error:
            raise AppendFailed(f"fencing failed: {error}") from error
        return self.appender(epoch, places)

    def appender(self, epoch: int, places: Sequence[Place]) -> ConnectionAppender:
        """An appender with this epoch."""
        incarnations = {place: self._world.places[place].incarnation for place in places}
        return ConnectionAppender(self._world, self._process, epoch, incarnations)

    async def extents(self, places: Sequence[Place]) -> Mapping[Place, Extent]:
        """Begins first, then ends, then ids: what happens between is seen in part."""
        stored = self._world.places
        await self.turn()
        begins = {place: stored[place].begin for place in places}
        await self.turn()
        ends = {place: stored[place].end for place in places}
        await self.turn()
        return {place: Extent(stored[place].topic_id, begins[place], ends[place]) for place in places}

    async def topics(self, names: Sequence[str]) -> Mapping[str, TopicShape]:
        """See `Broker`."""
        await self.turn()
        world = self._world
        ids = {place.topic: stored.topic_id for place, stored in world.places.items()}
        return {name: TopicShape(ids[name], world.case.partitions) for name in names}

    async def first_offset(self, place: Place) -> int:
        """See `Broker`."""
        await self.turn()
        return self._world.places[place].begin

    async def close(self) -> None:
        """See `Broker`."""

    async def read(self, place: Place, begin: int, end: int) -> AsyncIterator[Sequence[StoredRecord]]:
        """Chunks of any size; what is deleted or cut off under the reader is missing."""
        position = begin
        while position < end:
            await self.turn()
            stored = self._world.places[place]
            if stored.begin > position:
                raise RecordsMissing(f"{place}: offsets {position} to {stored.begin} have been deleted")
            if stored.end < end:
                raise StreamsError(f"{place}: offsets {stored.end} to {end} could not be read")
            high = min(end, position + self._world.random.choice((1, 3, 10, 100)))
            records = [entry for entry in stored.entries[position:high] if entry is not None]
            position = high
            if records:
                yield records


class ConnectionAppender:
    """Sends under the epoch of one fence; see `Appender`."""

    def __init__(self, world: World, process: Process, epoch: int, incarnations: Mapping[Place, int]) -> None:
        self._world = world
        self._process = process
        self.epoch = epoch
        self._incarnations = incarnations

    async def append(self, batches: Mapping[Place, Sequence[Output]]) -> Mapping[Place, int]:
        """See `Appender`; after a time-out, or a crash, the request may still be on its way."""
        world = self._world
        request = Request(self.epoch, self._incarnations, batches)
        world.scheduler.spawn(world.network, "request", world.deliver(request))
        patience = world.random.randrange(8) if world.happens(world.chances.timed_out) else 1_000_000
        try:
            while not request.done:
                await TURN
                self._process.check()
                patience -= 1
                if patience < 0:
                    raise AppendFailed("no answer in time")
        except BaseException:
            request.lost = world.happens(0.5)
            raise
        for error in request.failed.values():
            raise error
        if world.happens(world.chances.unacknowledged):
            raise AppendFailed("the acknowledgement was lost")
        return request.ends

    async def close(self) -> None:
        """See `Appender`."""


class StoreConnection:
    """The checkpoint store as one process sees it; see
    `driftline.streams.checkpoints.checkpoint.CheckpointStore`."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self.unfinished: list[_Writing] = []

    async def turn(self) -> None:
        await TURN
        self._process.check()

    async def names(self, partition: int) -> Sequence[str]:
        """See `CheckpointStore`."""
        await self.turn()
        folder = f"{partition:05d}/"
        return sorted(name for name in self._world.checkpoints if name.startswith(folder))

    async def load(self, name: str) -> bytes:
        """See `CheckpointStore`."""
        await self.turn()
        content = self._world.checkpoints.get(name)
        if content is None:
            raise FileNotFoundError(name)
        return content

    def begin(self, name: str, content: Callable[[], bytes]) -> _Writing:
        """See `CheckpointStore`."""
        writing = _Writing(self, self._world, self._process, name, content())
        self._world.sealed_at[writing.content] = self._world.scheduler.steps
        self.unfinished.append(writing)
        return writing

    async def remove(self, name: str) -> None:
        """See `CheckpointStore`."""
        await self.turn()
        self._world.checkpoints.pop(name, None)
        self._world.note(self._process.name, f"removes {name}")


class _Writing:
    """See `driftline.streams.checkpoints.checkpoint.Unfinished`."""

    def __init__(
        self, store: StoreConnection, world: World, process: Process, name: str, content: bytes
    ) -> None:
        self._store = store
        self._world = world
        self._process = process
        self.name = name
        self.content = content

    async def finish(self) -> float:
        await self._store.turn()
        if self._world.happens(self._world.chances.disk_full):
            self._store.unfinished.remove(self)
            raise OSError("disk full")
        await self._store.turn()
        self._store.unfinished.remove(self)
        self._world.checkpoints[self.name] = self.content
        self._world.note(self._process.name, f"stores {self.name}")
        return 0.0

    async def discard(self) -> None:
        if self in self._store.unfinished:
            self._store.unfinished.remove(self)


class RowConnection:
    """Online rows of one process, written some time after they were offered; see `RowWriter`."""

    incarnation = "first"

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self._waiting: deque[Mapping[Any, Any]] = deque()
        self._offered = 0
        self._written = 0
        world.scheduler.spawn(process, "rows", self._write())

    async def offer(self, rows: Mapping[Any, Any]) -> None:
        """See `RowWriter`."""
        while len(self._waiting) >= 4:
            await TURN
            self._process.check()
        self._waiting.append(dict(rows))
        self._offered += 1

    def offered(self) -> int:
        """See `RowWriter`."""
        return self._offered

    async def written(self, ticket: int) -> None:
        """See `RowWriter`."""
        while self._written < ticket:
            await TURN
            self._process.check()

    async def _write(self) -> None:
        while True:
            await TURN
            if self._waiting and self._world.random.random() < 0.3:
                newest_wins(self._world.online, self._waiting.popleft())
                self._written += 1


def newest_wins(online: dict[Any, Any], rows: Mapping[Any, Any]) -> None:
    """Write rows as the online store does: a newer stamp replaces an older one."""
    for key, row in rows.items():
        if key not in online or row[0] >= online[key][0]:
            online[key] = row


def deployment(world: World, process: Process, code: Code) -> Deployment:
    """The case as one process has it deployed."""
    return Deployment(
        world.case,
        code,
        world.topics,
        Connection(world, process),
        StoreConnection(world, process),
        SEAL,
        RowConnection(world, process),
    )
