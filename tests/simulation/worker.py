"""A simulated worker process: it does with the real partition task what
`driftline.streams.transport.worker` does, and sees that the task is never in a state that nothing justifies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from driftline.streams.archive.epochs import Code
from driftline.streams.checkpoints.cadence import CheckpointBudget
from driftline.streams.owner.owned_partition import Held
from driftline.streams.owner.partition_fold import PartitionFold
from driftline.streams.owner.partition_task import Frame, PartitionTask
from driftline.streams.records.outputs import Target
from driftline.streams.records.ports import Place
from tests.simulation.connections import deployment
from tests.simulation.orders import CODE
from tests.simulation.virtual_loop import Process
from tests.simulation.world import PARTITION, Stored, Violation, World

TICKS_EVERY = 2.0
LOOKS_FOR_RECORDS = (0.0, 0.05, 1.0, 4.0)
"""Seconds between two looks for records."""
PASSING = ("Fenced", "AppendFailed", "BrokerAway")
"""What a partition may be taken over again for although nothing was destroyed."""

MISSING = ("RecordsMissing", "BrokerSilent")
"""The same, once something was."""


ONLY = Target(0, PARTITION)
"""The partition of a case of one stage."""


class Reader:
    """Hands records over as a consumer of the group does: from anywhere, then one after the other, at
    times from further back again; no more frames than may wait to be acknowledged."""

    def __init__(self, world: World, place: Place) -> None:
        self._world = world
        self._place = place
        self._room = world.random.choice((1, 8))
        self._position: int | None = None

    def frame(self) -> Frame | None:
        """The next records, if there are any yet and room for them."""
        records = self._fetch() if self._room else ()
        if not records:
            return None
        self._room -= 1
        return Frame(records, lambda: self._acknowledged(records[-1].offset + 1))

    def _acknowledged(self, position: int) -> None:
        self._room += 1
        self._world.committed[self._place] = position

    def _fetch(self) -> Sequence[Stored]:
        random = self._world.random
        log = self._world.places[self._place]
        low = self._next()
        if not log.begin <= low <= log.end:
            low = log.begin  # auto.offset.reset is "earliest"
        self._position = min(log.end, low + random.choice((1, 2, 5, 20)))
        return [entry for entry in log.entries[low : self._position] if entry is not None]

    def _goes_back(self) -> bool:
        return not self._world.goes_forward and self._world.random.random() < 0.05

    def _next(self) -> int:
        world = self._world
        random = world.random
        if self._position is None:
            log, committed = world.places[self._place], world.committed[self._place]
            if world.goes_forward or random.random() < 0.6:
                return min(committed, log.end)
            begins = random.randrange(log.end + 1)
            if begins > committed:  # what is left out is handed over with the next record, if one comes
                world.undisturbed = False
            return begins
        return random.randrange(self._position + 1) if self._goes_back() else self._position


class Worker:
    """One process that may own a partition, or believe that it does: of the log, or of any stage."""

    def __init__(self, world: World, process: Process, code: Code = CODE, target: Target = ONLY) -> None:
        self._world = world
        self.process = process
        self.target = target
        self._deployment = deployment(world, self.process, code, target.stage)
        self._place = self._deployment.log(target.partition)
        self._driver: asyncio.Task[None] | None = None
        self._revoked = False
        self._held: Held | None = None
        self._logged = ("", "")
        self.deaf = False
        """Whether it is handed no records, as one whose connection is lost without its noticing."""
        self.task: PartitionTask | None = None

    @property
    def busy(self) -> bool:
        """Whether it has the partition, or tries to get it."""
        return self._driver is not None and not self._driver.done()

    @property
    def has_answered(self) -> bool:
        """Whether it serves the partition, and has answered all that is there."""
        task = self.task
        if not self.busy or task is None or task.state != "serving" or task.owned is None:
            return False
        entries = self._world.places[self._place].entries
        return task.owned.acknowledged > max((r.offset for r in entries if r is not None), default=-1)

    @property
    def refusal(self) -> str:
        """Why the partition is not served; empty when it is, or may be yet."""
        return self.task.reason if self.task is not None and self.task.state == "refused" else ""

    @property
    def processor(self) -> PartitionFold:
        """The state that it has given back."""
        assert self._held is not None
        return self._held.processor

    def assign(self) -> None:
        """The group gives it the partition."""
        self._revoked = False
        self._driver = self._world.loop.spawn(self.process, "driver", self._drive())

    def revoke(self) -> None:
        """The group takes the partition from it; it ends what it has at hand."""
        self._revoked = True

    def crash(self) -> None:
        """It is no more; what it was writing may be left torn."""
        world = self._world
        world.kill(self.process)
        self._driver = self.task = None
        for writing in self._deployment.checkpoints.unfinished:  # type: ignore[attr-defined]
            if world.random.random() < 0.2:
                torn = writing.content[: world.random.randrange(len(writing.content))]
                if writing.name in world.checkpoints:
                    continue  # a store replaces a file with a whole one, or not at all
                world.checkpoints[writing.name] = torn
                world.note(self.process.name, f"leaves {writing.name} torn")

    @property
    def writes_rows(self) -> bool:
        """Whether rows that were offered are not in the online store yet."""
        return self._deployment.rows.is_behind  # type: ignore[union-attr]

    async def write_rows(self) -> None:
        """Return when all rows that were offered are in the online store."""
        rows = self._deployment.rows
        assert rows is not None
        await rows.written(rows.offered())

    def _note(self, text: str) -> None:
        self._world.note(self.process.name, text)

    async def _drive(self) -> None:
        world = self._world
        held, self._held = self._held, None
        self._note(f"is given the partition{', which it holds' if held else ''}")
        task = self.task = PartitionTask(self._deployment, self.target.partition, CheckpointBudget(), held)
        task.start()
        reader = Reader(world, self._place)
        hears = world.happens(0.5)
        ticked = world.loop.time()
        while not self._revoked and not self._gives_up(task):
            await asyncio.sleep(0.0 if world.goes_forward else world.random.choice(LOOKS_FOR_RECORDS))
            hears = hears or task.state == "serving"  # a consumer may find its position late
            frame = reader.frame() if hears and not self.deaf else None
            if frame is not None:
                self._note(f"is given {frame.records[0].offset}..{frame.records[-1].offset}")
                task.put(frame)
            if world.loop.time() - ticked >= TICKS_EVERY:
                ticked = world.loop.time()
                task.tick()
        self._held = await task.stop()
        self._note(f"gives the partition back{', its state whole' if self._held else ''}")
        if task.stalled:  # it ends, and restarts as another process would
            self._note(task.stalled)
            self._held, self.deaf = None, False

    def _gives_up(self, task: PartitionTask) -> bool:
        """Whether the group takes the partition from it because of its state."""
        return (
            bool(task.stalled)
            or self.process.unheard_until > self._world.loop.time()
            or task.state == "refused"
            or (task.reason.startswith("Fenced") and self._world.random.random() < 0.3)
        )

    def look(self) -> None:
        """Raises Violation when its task is in a state that nothing justifies."""
        task = self.task
        if task is None:
            return
        if task.stalled and self._world.undisturbed:
            raise Violation(f"nobody has kept records back, but {task.stalled}")
        failed = task.status().get("checkpoint_failed", "OSError")
        if not failed.startswith("OSError"):
            raise Violation(f"a checkpoint could not be stored, and the disk was not the cause: {failed}")
        if self._logged == (task.state, task.reason):
            return
        self._logged = (task.state, task.reason)
        self._note(f"is {task.state}{': ' if task.reason else ''}{task.reason}")
        world = self._world
        if task.state == "retrying":
            kind = task.reason.partition(":")[0]
            justified = kind in PASSING or (kind in MISSING and bool(world.destroyed))
        elif task.state == "refused":
            justified = self._is_justified_refusal(task)
        else:
            return
        if not justified:
            raise Violation(f"nothing was done to the broker that justifies {task.state!r}: {task.reason}")

    def _is_justified_refusal(self, task: PartitionTask) -> bool:
        if task.reason.startswith("a fault of driftline"):
            return False
        if task.reason.startswith("what is published is not what the log gives"):
            return self._world.log_truncated
        return bool(self._world.destroyed) and not task.superseded
