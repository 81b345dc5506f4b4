"""A simulated worker: it does with the real take-over code what `driftline.streams.owner.partition_task`
does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from driftline.streams.errors import StreamsError
from driftline.streams.owner.outbox import Diverged
from driftline.streams.owner.owned_partition import Held, OwnedPartition, Snapshot
from driftline.streams.owner.starting_point import TakeOverRefused
from driftline.streams.owner.takeover import take_over
from driftline.streams.records.ports import AppendFailed, Fenced, RecordsMissing
from tests.simulation.orders import CODE
from tests.simulation.scheduler import TURN, Cancelled, Process, Task
from tests.simulation.world import PARTITION, Stored, Violation, World, deployment


class Reader:
    """Hands records over as a consumer of the group does: from anywhere, then one after the other, at
    times from further back again."""

    def __init__(self, world: World) -> None:
        self._world = world
        log = world.log
        random = world.random
        self._position = (
            min(world.committed, log.end) if random.random() < 0.6 else random.randrange(log.end + 1)
        )

    def fetch(self) -> Sequence[Stored]:
        """The next records; none when there are none yet."""
        random = self._world.random
        log = self._world.log
        if random.random() < 0.05:
            self._position = random.randrange(self._position + 1)
        if not log.begin <= self._position <= log.end:
            self._position = log.begin  # auto.offset.reset is "earliest"
        high = min(log.end, self._position + random.choice((1, 2, 5, 20)))
        records = [entry for entry in log.entries[self._position : high] if entry is not None]
        self._position = high
        return records


class Worker:
    """One process that may own the partition, or believe that it does."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self.process = Process(f"worker {number}")
        self._deployment = deployment(world, self.process, CODE)
        self._partition_task: Task | None = None
        self._storing: Task | None = None
        self._held: Held | None = None
        self._stopping = False
        self._renewing = False

    @property
    def busy(self) -> bool:
        """Whether it has the partition, or tries to get it."""
        return self._partition_task is not None and not self._partition_task.done

    def assign(self) -> None:
        """The group gives it the partition."""
        self._stopping = self._renewing = False
        self._partition_task = self._world.scheduler.spawn(self.process, "partition_task", self._keep())

    def revoke(self) -> None:
        """The group takes the partition from it; it ends what it has at hand."""
        self._stopping = True

    def renew(self) -> None:
        """Its fence is to be renewed."""
        self._renewing = True

    def abandon(self) -> None:
        """It is given no more time to end what it has at hand."""
        if self._partition_task is not None and not self._partition_task.done:
            self._world.scheduler.cancel(self._partition_task)

    def crash(self) -> None:
        """It is no more; what it was writing may be left torn."""
        world = self._world
        world.scheduler.kill(self.process)
        for writing in self._deployment.checkpoints.unfinished:  # type: ignore[attr-defined]
            if world.random.random() < 0.2:
                world.checkpoints[writing.name] = writing.content[
                    : world.random.randrange(len(writing.content))
                ]
                world.note(self.process.name, f"leaves {writing.name} torn")

    def _note(self, text: str) -> None:
        self._world.note(self.process.name, text)

    async def _keep(self) -> None:
        world = self._world
        while not self._stopping:
            owned: OwnedPartition | None = None
            try:
                held, self._held = self._held, None
                self._note(f"takes over{' with what it holds' if held else ''}")
                owned = await take_over(self._deployment, PARTITION, held)
                self._note(f"owns from offset {owned.processor.next_offset}")
                async for _ in owned.recover():
                    self._maybe_checkpoint(owned)
                    if self._stopping:
                        break
                await self._serve(owned)
                await self._set_down(owned)
            except Cancelled:
                if owned is not None and owned.is_whole:
                    self._held = Held(owned.header(), owned.processor)
                self._note(f"is cut short{', its state whole' if self._held else ''}")
                raise
            except Fenced as error:
                self._note(f"is fenced: {error}")
                if world.random.random() < 0.6:
                    return
            except (AppendFailed, OSError) as error:
                self._note(f"takes over again: {error!r}")
            except RecordsMissing as error:
                self._expect(bool(world.destroyed), error)
            except Diverged as error:
                self._expect(world.log_truncated, error)
                return
            except StreamsError as error:
                self._expect(bool(world.destroyed), error)
                return
            finally:
                if owned is not None:
                    await owned.close()
            for _ in range(world.random.randrange(4)):
                await TURN

    def _expect(self, justified: bool, error: StreamsError) -> None:
        self._note(f"{type(error).__name__}: {error}")
        if not justified:
            raise Violation(f"nothing was done to the broker that justifies {error!r}") from error

    async def _serve(self, owned: OwnedPartition) -> None:
        reader = Reader(self._world)
        begin: int | None = None
        while not self._stopping and not self._renewing:
            await TURN
            records = reader.fetch()
            if records:
                if begin is None:
                    begin = records[0].offset
                self._note(f"is given {records[0].offset}..{records[-1].offset}, read from {begin} on")
                await owned.advance(records, begin)
                begin = records[-1].offset + 1
                self._world.committed = begin
            self._maybe_checkpoint(owned)

    async def _set_down(self, owned: OwnedPartition) -> None:
        """Keep the state for the next take-over by this process, and store a last checkpoint."""
        self._renewing = False
        self._held = Held(owned.header(), owned.processor)
        self._note(f"sets down at {owned.processor.next_offset}")
        snapshot = owned.snapshot() if self._stopping else None
        if snapshot is not None:
            await self._store(owned, snapshot)

    def _maybe_checkpoint(self, owned: OwnedPartition) -> None:
        if (self._storing is None or self._storing.done) and self._world.random.random() < 0.1:
            snapshot = owned.snapshot()
            if snapshot is not None:
                self._storing = self._world.scheduler.spawn(
                    self.process, "store", self._store(owned, snapshot)
                )

    async def _store(self, owned: OwnedPartition, snapshot: Snapshot) -> None:
        try:
            await owned.store(snapshot)
        except OSError as error:
            self._note(f"stores no checkpoint: {error}")


class LastOwner:
    """Takes over when nothing fails any more, folds to the log's end and makes everything durable."""

    def __init__(self, world: World, held: Held | None = None) -> None:
        self._world = world
        self._process = Process("last owner")
        self._deployment = deployment(world, self._process, CODE)
        self.owned: OwnedPartition | None = None
        self.error: StreamsError | None = None
        self.task = world.scheduler.spawn(self._process, "drain", self._drain(held))

    async def _drain(self, held: Held | None) -> None:
        try:
            owned = await take_over(self._deployment, PARTITION, held)
            self._world.note("last owner", f"owns from offset {owned.processor.next_offset}")
            async for _ in owned.recover():
                pass
            snapshot = owned.snapshot()
            if snapshot is not None:
                await owned.store(snapshot)
            assert self._deployment.rows is not None
            await self._deployment.rows.written(self._deployment.rows.offered())
        except (TakeOverRefused, Diverged, RecordsMissing) as error:
            self._world.note("last owner", f"{type(error).__name__}: {error}")
            self.error = error
            return
        self.owned = owned

    def end(self) -> None:
        """Crash it."""
        self._world.scheduler.kill(self._process)


class Stranger:
    """Other code that tries to take the partition over without being an upgrade."""

    def __init__(self, world: World, code: Any) -> None:
        self._process = Process("stranger")
        self._deployment = replace(deployment(world, self._process, CODE), code=code)
        self.error: StreamsError | None = None
        self.task = world.scheduler.spawn(self._process, "take over", self._try())

    async def _try(self) -> None:
        try:
            await take_over(self._deployment, PARTITION)
        except TakeOverRefused as error:
            self.error = error
