"""What is done to the workers, the checkpoints and the broker, by a plan that a seed decides.

Each seed has some of the faults only (Groce et al. 2012, Swarm testing): those that would hide others are
absent from most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from driftline.streams.checkpoints.cadence import MOST_FOLDED
from driftline.streams.checkpoints.checkpoint import CheckpointHeader, decode
from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal
from driftline.streams.errors import Unauthentic
from tests.simulation.orders import Input
from tests.simulation.virtual_loop import Process
from tests.simulation.worker import Worker
from tests.simulation.world import CALM, PARTITION, SEAL, Chances, StoredPlace, World

FOREIGN = Seal(b"f" * KEY_BYTES)
WORKERS = 3
MOMENTS = (3, 15, 60)
"""Callbacks between two things that happen, where they happen in the midst of something."""
WAITS = (0.05, 1.0, 10.0, 70.0)
"""Seconds between them, where what is at hand is done meanwhile."""
DAY = 13 * 3600.0
"""Longer than an idle partition's fence is trusted."""
Focus = Literal[
    "crash",
    "remove",
    "pause",
    "abandon",
    "trim_log",
    "trim_outputs",
    "truncate_outputs",
    "remake_output",
    "lose_power",
    "lose_inputs",
    "lose_rows",
    "deafen",
]
"""A fault that makes up half of what happens."""


def sound_headers(world: World) -> dict[str, CheckpointHeader]:
    """Header by name of every checkpoint in the store that is whole and ours."""
    found = {}
    for name, content in world.checkpoints.items():
        try:
            found[name] = decode(content, world.topics.log, PARTITION, SEAL).header
        except Unauthentic:
            continue
    return found


class Chaos:
    """Does one thing after another, at random moments, until the log is written and the plan done."""

    def __init__(self, world: World, log: list[Input | None], focus: Focus | None = None) -> None:
        self._world = world
        self._random = world.random
        self._log = log
        self._number = 0
        self.workers = [self._hire() for _ in range(WORKERS)]
        self._written = False
        self._hurries = self._random.random() < 0.6
        self._plan = self._planned(focus)
        self.done = False

    def _hire(self) -> Worker:
        self._number += 1
        return Worker(self._world, Process(f"worker {self._number}"))

    def _planned(self, focus: Focus | None) -> list[Callable[[], None]]:
        random = self._random
        ordinary = [
            self._crash, self._revoke, self._abandon, self._pause, self._suspend, self._deafen, self._corrupt,
            self._remove, self._lose_rows,
        ]  # fmt: skip
        plan = [self._assign] * 3
        for fault in ordinary:
            if random.random() < 0.5:
                plan += [fault] * random.choice((1, 1, 2))
        if focus is not None:
            plan += [getattr(self, f"_{focus}")] * len(plan)
        elif random.random() < 0.45:
            destructive = [
                self._trim_log, self._trim_log_harshly, self._trim_outputs, self._truncate_outputs,
                self._remake_output, self._lose_power, self._lose_inputs, self._trim_outputs,
            ]  # fmt: skip
            plan += random.sample(destructive, random.choice((1, 1, 2)))
        if random.random() < 0.7:
            passing = {
                "refused": 0.08, "unacknowledged": 0.05, "timed_out": 0.1, "away": 0.01, "slow": 0.01,
                "disk_full": 0.2,
            }  # fmt: skip
            chosen = {name: chance for name, chance in passing.items() if random.random() < 0.5}
            self._world.chances = Chances(**chosen)
            self._world.undisturbed = "slow" not in chosen
        return plan

    async def produce(self) -> None:
        """Write the log, in bursts."""
        stored = self._world.log
        for record in self._log:
            if self._random.random() < 0.3:
                await self._wait()
            stored.write(record)
        self._written = True

    async def rage(self) -> None:
        """Do what is planned."""
        self._assign()
        left = self._random.randrange(4, 10)
        while left or not self._written:
            await self._wait()
            self._random.choice(self._plan)()
            if left:
                left -= 1
        self._world.chances = CALM
        self.done = True

    async def _wait(self) -> None:
        chance = self._random.random()
        if chance < 0.2 and self._hurries:
            self._leap(MOST_FOLDED + 1.0)
        if chance < 0.5:
            await asyncio.sleep(self._random.choice(WAITS))
            return
        for _ in range(self._random.choice(MOMENTS)):
            await asyncio.sleep(0)

    def _note(self, text: str) -> None:
        self._world.note("chaos", text)

    def _busy(self) -> Worker | None:
        busy = [worker for worker in self.workers if worker.busy]
        return self._random.choice(busy) if busy else None

    def staying(self) -> Worker | None:
        """A worker that has the partition and may keep it."""
        return self._busy()

    def _assign(self) -> None:
        idle = [worker for worker in self.workers if not worker.busy]
        if idle:
            worker = self._random.choice(idle)
            self._note(f"gives the partition to {worker.process.name}")
            worker.assign()

    def _revoke(self) -> None:
        worker = self._busy()
        if worker is not None:
            self._note(f"takes the partition from {worker.process.name}")
            worker.revoke()

    def _abandon(self) -> None:
        """Cut a worker off in the midst of its next send; the group takes the partition from it then."""
        worker = self._busy()
        if worker is not None:
            self._world.undisturbed = False
            worker.process.unheard_from_send = True

    def _suspend(self) -> None:
        """All machines sleep for long: fences are to be renewed, and every patience is at its end."""
        self._note("lets half a day pass")
        self._leap(DAY)

    def _leap(self, seconds: float) -> None:
        self._world.undisturbed = False
        self._world.loop.leap(seconds)

    def _deafen(self) -> None:
        worker = self._busy()
        if worker is not None:
            self._note(f"cuts {worker.process.name}'s reader off")
            self._world.undisturbed = False
            worker.deaf = True

    def _crash(self) -> None:
        """End a worker, best one whose online rows are on their way."""
        writing = [place for place, worker in enumerate(self.workers) if worker.writes_rows]
        self._replace(self._random.choice(writing or range(WORKERS)))

    def _replace(self, place: int) -> None:
        worker = self.workers[place]
        self._note(f"crashes {worker.process.name}")
        worker.crash()
        self.workers[place] = self._hire()

    def _pause(self) -> None:
        worker = self._busy()
        if worker is not None:
            seconds = self._random.choice((0.2, 4.0, 30.0, 150.0))
            self._world.undisturbed = False
            self._note(f"stops {worker.process.name} for {seconds} s")
            worker.process.paused_until = self._world.loop.time() + seconds
            self._assign()

    def _corrupt(self) -> None:
        checkpoints = self._world.checkpoints
        whole = [name for name in sorted(checkpoints)[-2:] if checkpoints[name]]
        if not whole:
            return
        name = self._random.choice(whole)
        content = checkpoints[name]
        kind = self._random.choice(("bit", "torn", "empty", "key", "label"))
        if kind == "bit":
            place = self._random.randrange(len(content))
            flipped = content[place] ^ (1 << self._random.randrange(8))
            content = content[:place] + bytes((flipped,)) + content[place + 1 :]
        elif kind == "torn":
            content = content[: self._random.randrange(len(content))]
        elif kind == "empty":
            content = b""
        else:
            seal = FOREIGN if kind == "key" else SEAL
            label = b"checkpoint of orders.events-0" if kind == "key" else b"checkpoint of orders.events-1"
            content = seal.seal(content[100:], label)
        checkpoints[name] = content
        self._note(f"corrupts {name} ({kind})")

    def _remove(self) -> None:
        checkpoints = self._world.checkpoints
        removed = sorted(checkpoints)[-1:] if self._random.random() < 0.7 else list(checkpoints)
        for name in removed:
            del checkpoints[name]
        self._note(f"removes {removed}")

    def _lose_rows(self) -> None:
        """The online store is emptied, or is another one."""
        self._world.online.clear()
        self._world.online_losses += 1
        self._note("empties the online store")

    def _trim_log(self) -> None:
        """Retention as it should be: no further than the newest checkpoint."""
        upto = max((header.next_offset for header in sound_headers(self._world).values()), default=0)
        self._trim("the log", self._world.log, self._random.randrange(upto + 1))

    def _trim_log_harshly(self) -> None:
        stored = self._world.log
        self._trim("the log", stored, self._random.randrange(stored.end + 1))

    def _trim_outputs(self) -> None:
        for kind, place in self._world.kinds.items():
            stored = self._world.places[place]
            if self._random.random() < 0.5:
                last = max((entry.offset for _, entry in stored.data()), default=stored.end)
                self._trim(kind, stored, self._random.choice((stored.end, last, last // 2)))

    def _trim(self, name: str, stored: StoredPlace, begin: int) -> None:
        # not after an end was cut off: retention would delete the last trace of what was there
        untouched = not stored.cuts and not self._world.log_truncated
        if begin > stored.begin and untouched:
            stored.begin = begin
            self._world.destroyed.append(f"{name} is trimmed to {begin}")
            self._note(self._world.destroyed[-1])

    def _truncate_outputs(self) -> None:
        """An unclean election: brokers have lost the ends, and what they knew of producers."""
        for kind, place in self._world.kinds.items():
            if self._random.random() < 0.6:
                self._truncate(kind, self._world.places[place])

    def _truncate(self, name: str, stored: StoredPlace) -> None:
        self._cut(name, stored, max(stored.begin, stored.end - self._random.choice((1, 2, 3, 8))))

    def _cut(self, name: str, stored: StoredPlace, end: int) -> bool:
        if end >= stored.end:
            return False
        del stored.entries[end:]
        stored.incarnation += 1
        stored.cuts.append((self._world.loop.steps, end))
        self._world.destroyed.append(f"{name} is truncated to {end}")
        self._note(self._world.destroyed[-1])
        return True

    def _remake_output(self) -> None:
        kind = self._random.choice(tuple(self._world.kinds))
        place = self._world.kinds[kind]
        old = self._world.places[place]
        made = StoredPlace(f"{place.topic}#{old.incarnation + 1}")
        made.incarnation = old.incarnation + 1
        self._world.places[place] = made
        self._world.destroyed.append(f"{kind} is recreated")
        self._note(self._world.destroyed[-1])

    def _lose_power(self) -> None:
        """Everything goes down at once; the log and the outputs may come back shorter."""
        self._replace_all()
        self._truncate_outputs()
        if self._random.random() < 0.7:
            log = self._world.log
            self._cut_log(max(log.begin, log.end - self._random.choice((1, 2, 3, 8))))
        self._assign()

    def _lose_inputs(self) -> None:
        """Everything goes down at once; the log alone comes back shorter, about where its answers end."""
        self._replace_all()
        log = self._world.log
        answered = self._world.furthest()[0]
        if answered >= log.begin and self._random.random() < 0.5:
            self._cut_log(answered)
            log.entries.append(None)
        else:
            self._cut_log(max(log.begin, answered + 1))
        self._assign()

    def _replace_all(self) -> None:
        for place in range(WORKERS):
            self._replace(place)

    def _cut_log(self, end: int) -> None:
        if self._cut("the log", self._world.log, end):
            self._world.log_truncated = True
