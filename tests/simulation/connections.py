"""What one process has of the simulated world: a broker, a checkpoint store and an online store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from driftline.streams.archive.epochs import Code
from driftline.streams.checkpoints.checkpoint import CheckpointContent, TakeState, Written
from driftline.streams.owner.deployment import Deployment
from driftline.streams.records.outputs import Output
from driftline.streams.records.ports import (
    Appender,
    AppendFailed,
    BrokerSilent,
    Extent,
    Fenced,
    Place,
    RecordsMissing,
    StoredRecord,
    TopicShape,
)
from tests.simulation.virtual_loop import TICK, Process
from tests.simulation.world import (
    SEAL,
    BrokerAway,
    Request,
    World,
    newest_wins,
)

ROWS_WAITING = 4
STALLED_AFTER = 20.0
"""Seconds after which a read that gets nothing is given up."""
SLOWNESS = (0.3, 2.0, 20.0, 90.0)
"""Seconds that a broker may take for an answer."""


class Connection:
    """The broker as one process sees it; see `driftline.streams.records.ports.Broker`."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    async def turn(self) -> None:
        """Let others go on; the broker may be slow, or away when it is this process's turn again."""
        world = self._world
        await asyncio.sleep(world.random.choice(SLOWNESS) if world.happens(world.chances.slow) else 0)
        await world.heard(self._process)
        if world.happens(world.chances.away):
            raise BrokerAway("no answer")

    async def fence(self, owner: str, places: Sequence[Place]) -> Appender:
        """A new epoch first, then a marker in one place after the other."""
        world = self._world
        try:
            await self.turn()
            epoch = world.coordinators.get(owner, -1) + 1
            world.coordinators[owner] = epoch
            for place in world.random.sample(list(places), len(places)):
                await self.turn()
                if world.coordinators[owner] != epoch:
                    raise Fenced(f"{owner}: a newer owner is fencing")
                world.places[place].fence(owner, epoch)
                world.note(self._process.name, f"fences {place} with epoch {epoch}")
            await self.turn()
            world.fenced_at[self._process] = world.loop.steps
        except BrokerAway as error:
            raise AppendFailed(f"fencing failed: {error}") from error
        incarnations = {place: stored.incarnation for place, stored in world.places.items()}
        return ConnectionAppender(self._world, self._process, self.turn, owner, epoch, incarnations)

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
        return {name: TopicShape(ids[name], world.counts[name]) for name in names}

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
                await asyncio.sleep(STALLED_AFTER)
                raise BrokerSilent(f"{place}: offsets {stored.end} to {end} could not be read")
            high = min(end, position + self._world.random.choice((1, 3, 10, 100)))
            records = [entry for entry in stored.entries[position:high] if entry is not None]
            position = high
            if records:
                yield records


class ConnectionAppender:
    """Sends under the epoch of one fence; see `Appender`."""

    def __init__(
        self,
        world: World,
        process: Process,
        turn: Callable[[], Awaitable[None]],
        owner: str,
        epoch: int,
        incarnations: Mapping[Place, int],
    ) -> None:
        self._world = world
        self._process = process
        self._turn = turn
        self._owner = owner
        self.epoch = epoch
        self._incarnations = incarnations

    async def append(self, batches: Mapping[Place, Sequence[Output]]) -> Mapping[Place, int]:
        """See `Appender`; after a time-out, or a crash, the request may still be on its way."""
        world = self._world
        request = Request(self._process, self._owner, self.epoch, self._incarnations, batches)
        patience = world.random.random() * 8 * TICK if world.happens(world.chances.timed_out) else None
        world.send(request)
        try:
            async with asyncio.timeout(patience):
                await request.answered.wait()
                await self._turn()
        except TimeoutError as error:
            request.lost = world.happens(0.5)
            raise AppendFailed("no answer in time") from error
        except BrokerAway as error:
            raise AppendFailed(f"no answer: {error}") from error
        except asyncio.CancelledError:
            request.lost = world.happens(0.5)
            raise
        for failure in request.failed.values():
            raise failure
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

    async def names(self, folder: str) -> Sequence[str]:
        """See `CheckpointStore`."""
        await asyncio.sleep(0)
        return sorted(name for name in self._world.checkpoints if name.startswith(f"{folder}/"))

    async def load(self, name: str) -> bytes:
        """See `CheckpointStore`."""
        await asyncio.sleep(0)
        content = self._world.checkpoints.get(name)
        if content is None:
            raise FileNotFoundError(name)
        return content

    def begin(self, name: str, take: TakeState) -> _Writing:
        """See `CheckpointStore`."""
        writing = _Writing(self, self._world, self._process, name, take()())
        self._world.marked_at[writing.content] = self._world.fenced_at[self._process]
        self.unfinished.append(writing)
        return writing

    async def remove(self, name: str) -> None:
        """See `CheckpointStore`."""
        await asyncio.sleep(0)
        self._world.checkpoints.pop(name, None)
        self._world.note(self._process.name, f"removes {name}")


class _Writing:
    """See `driftline.streams.checkpoints.checkpoint.Unfinished`."""

    def __init__(
        self, store: StoreConnection, world: World, process: Process, name: str, content: CheckpointContent
    ) -> None:
        self._store = store
        self._world = world
        self._process = process
        self.name = name
        self.content = content.sealed
        self._packed = content.packed

    async def finish(self) -> Written:
        await asyncio.sleep(0)
        if self._world.happens(self._world.chances.disk_full):
            self._store.unfinished.remove(self)
            raise OSError("disk full")
        await asyncio.sleep(0)
        self._store.unfinished.remove(self)
        self._world.store(self.name, self.content)
        self._world.note(self._process.name, f"stores {self.name}")
        return Written(0.0, len(self.content), self._packed)

    async def discard(self) -> None:
        if self in self._store.unfinished:
            self._store.unfinished.remove(self)


class RowConnection:
    """Online rows of one process, written some time after they were offered; see `RowWriter`."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._waiting: asyncio.Queue[Mapping[Any, Any]] = asyncio.Queue(ROWS_WAITING)
        self._offered = 0
        self._written = 0
        self.first_incarnation = self.incarnation
        self._news = asyncio.Condition()
        world.loop.spawn(process, "rows", self._write())

    @property
    def incarnation(self) -> str:
        """See `RowWriter`."""
        return f"after {self._world.online_losses} losses"

    async def offer(self, rows: Mapping[Any, Any]) -> None:
        """See `RowWriter`."""
        await self._waiting.put(dict(rows))
        self._offered += 1

    def offered(self) -> int:
        """See `RowWriter`."""
        return self._offered

    @property
    def is_behind(self) -> bool:
        """Whether rows are not written yet."""
        return self._written < self._offered

    async def written(self, ticket: int) -> None:
        """See `RowWriter`."""
        async with self._news:
            await self._news.wait_for(lambda: self._written >= ticket)

    async def _write(self) -> None:
        while True:
            rows = await self._waiting.get()
            await asyncio.sleep(self._world.random.choice((0.0, 0.05, 2.0, 20.0)))
            newest_wins(self._world.online, rows)
            self._written += 1
            async with self._news:
                self._news.notify_all()


def deployment(world: World, process: Process, code: Code, stage: int) -> Deployment:
    """A stage of the case as one process has it deployed."""
    return Deployment(
        world.case,
        code,
        world.topics,
        Connection(world, process),
        StoreConnection(world, process),
        SEAL,
        RowConnection(world, process),
        world.itinerary,
        stage,
        world.segments,
    )
