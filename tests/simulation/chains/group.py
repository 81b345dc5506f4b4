"""The consumer group of a simulated chain: machines that own partitions of several stages, and what happens
to them, to their checkpoints, and to the topics between.

Whatever is done here can be mended: nothing is lost but what a checkpoint has, so everything must go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Literal

from driftline.streams.checkpoints.cadence import MOST_FOLDED
from driftline.streams.checkpoints.checkpoint import CheckpointHeader, decode
from driftline.streams.errors import Unauthentic
from driftline.streams.records.outputs import Target
from tests.simulation.chains.deliveries import Input
from tests.simulation.chaos import MOMENTS, WAITS
from tests.simulation.orders import CODE
from tests.simulation.virtual_loop import Process
from tests.simulation.worker import Worker
from tests.simulation.world import CALM, SEAL, Chances, World

MACHINES = 3
PASSING = {
    "refused": 0.05,
    "unacknowledged": 0.03,
    "timed_out": 0.06,
    "away": 0.01,
    "slow": 0.01,
    "disk_full": 0.2,
}
"""How probable each passing failure is in a history that has it."""


Focus = Literal["crash", "trim", "refused"]
"""A fault that makes up most of what happens, or a passing failure that is frequent."""
OFTEN = 0.3
"""How probable a passing failure is that a history is about."""


class Machine:
    """One process that owns partitions of any stages."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.process = Process(name)
        self.workers: dict[Target, Worker] = {}

    def worker(self, target: Target) -> Worker:
        """What it does with a partition."""
        if target not in self.workers:
            self.workers[target] = Worker(self._world, self.process, CODE, target)
        return self.workers[target]

    @property
    def busy(self) -> list[Worker]:
        """Those of the partitions that it has."""
        return [worker for worker in self.workers.values() if worker.busy]

    def crash(self) -> None:
        """It is no more."""
        self._world.kill(self.process)
        for worker in self.workers.values():
            worker.crash()


class Group:
    """Gives every partition of every stage to machines, takes it away, and does one thing after another, at
    random moments, until the log is written and the plan done."""

    def __init__(self, world: World, inputs: list[Input], focus: Focus | None = None) -> None:
        self._world = world
        self._random = world.random
        self._inputs = inputs
        self._hired = 0
        self.machines = [self._hire() for _ in range(MACHINES)]
        self._written = False
        self._focus = focus
        self.done = False

    @cached_property
    def targets(self) -> list[Target]:
        """All partitions of all stages."""
        stages = self._world.stages
        return [target for stage in range(stages.count) for target in stages.targets_of(stage)]

    def _hire(self) -> Machine:
        self._hired += 1
        return Machine(self._world, f"machine {self._hired}")

    def _planned(self) -> list[Callable[[], None]]:
        """What may happen, some of it more often; failures that pass begin."""
        random = self._random
        plan = [self._rebalance] * 2
        for fault in (
            self.crash,
            self._pause,
            self._abandon,
            self.remove,
            self.damage,
            self.trim,
            self._leap,
        ):
            if random.random() < 0.6:
                plan += [fault] * random.choice((1, 2))
        if self._focus is not None and self._focus not in PASSING:
            plan += [getattr(self, self._focus), self._leap] * len(plan)
        if random.random() < 0.7:
            chosen = {name: chance for name, chance in PASSING.items() if random.random() < 0.5}
            self._world.chances = Chances(**chosen)
        if self._focus in PASSING:
            self._world.chances = self._world.chances._replace(**{self._focus: OFTEN})
        self._world.undisturbed = False
        return plan

    def workers(self) -> Iterator[Worker]:
        """All of all machines."""
        for machine in self.machines:
            yield from machine.workers.values()

    async def produce(self) -> None:
        """Write the log, in bursts."""
        stages = self._world.stages
        for partition, record in self._inputs:
            if self._random.random() < 0.2:
                await self._wait()
            stored = self._world.places[stages.input(Target(0, partition))]
            stored.write(record)
        self._written = True

    async def rage(self) -> None:
        """Do what is planned."""
        plan = self._planned()
        self.assign(self.targets)
        left = self._random.randrange(5, 14)
        while left or not self._written:
            await self._wait()
            self._random.choice(plan)()
            left -= left > 0
        self._world.chances = CALM
        self.done = True

    async def _wait(self) -> None:
        if self._random.random() < 0.6:
            await asyncio.sleep(self._random.choice(WAITS))
            return
        for _ in range(self._random.choice(MOMENTS)):
            await asyncio.sleep(0)

    def _note(self, text: str) -> None:
        self._world.note("group", text)

    def assign(self, targets: list[Target]) -> None:
        """Give partitions to machines that do not have them."""
        for target in targets:
            able = [machine for machine in self.machines if not machine.worker(target).busy]
            if able:
                self._random.choice(able).worker(target).assign()

    def _rebalance(self) -> None:
        """Some partitions change hands; who had them may still be at work on what it has at hand."""
        moved = [target for target in self.targets if self._random.random() < 0.4]
        for worker in self.workers():
            if worker.busy and worker.target in moved:
                worker.revoke()
        self._note(f"gives {moved} to others")
        self.assign(moved)

    def crash(self) -> None:
        """A machine is no more, and another one comes."""
        place = self._random.randrange(MACHINES)
        machine = self.machines[place]
        self._note(f"crashes {machine.process.name}")
        lost = [worker.target for worker in machine.busy]
        machine.crash()
        self.machines[place] = self._hire()
        self.assign(lost)

    def _pause(self) -> None:
        machine = self._random.choice(self.machines)
        seconds = self._random.choice((0.2, 4.0, 30.0, 150.0))
        self._note(f"stops {machine.process.name} for {seconds} s")
        machine.process.paused_until = self._world.loop.time() + seconds
        if seconds > 10.0:
            self.assign([worker.target for worker in machine.busy])

    def _abandon(self) -> None:
        """Cut a machine off in the midst of its next send; the group takes its partitions away then."""
        self._random.choice(self.machines).process.unheard_from_send = True

    def _leap(self) -> None:
        """Time passes, so that checkpoints are due."""
        self._world.loop.leap(MOST_FOLDED + 1.0)

    def headers(self, target: Target) -> dict[str, CheckpointHeader]:
        """Header by name of every whole checkpoint of a partition."""
        world, found = self._world, {}
        topic, folder = world.stages.input(target).topic, world.stages.folder(target)
        for name, content in world.checkpoints.items():
            if name.startswith(f"{folder}/"):
                try:
                    found[name] = decode(content, topic, target.partition, SEAL).header
                except Unauthentic:
                    continue
        return found

    def _spare(self) -> list[str]:
        """Checkpoints that nothing depends on: another one is as far, or the topic is whole."""
        spare = []
        for target in self.targets:
            begin = self._world.places[self._world.stages.input(target)].begin
            usable = sorted(
                name for name, header in self.headers(target).items() if header.next_offset >= begin
            )
            # of a topic that was trimmed the newest stays: an owner may be about to remove all before it
            spare += usable if begin == 0 else usable[:-1]
        return spare

    def remove(self) -> None:
        """Some checkpoints are lost."""
        spare = self._spare()
        for name in self._random.sample(spare, self._random.randrange(len(spare) + 1)):
            self._note(f"removes {name}")
            del self._world.checkpoints[name]

    def damage(self) -> None:
        """The end of a checkpoint is lost."""
        spare = self._spare()
        if spare:
            name = self._random.choice(spare)
            content = self._world.checkpoints[name]
            self._note(f"cuts {name} off")
            self._world.checkpoints[name] = content[: self._random.randrange(len(content))]

    def trim(self) -> None:
        """Retention, of the log and between stages: no further than the newest checkpoint, and only while
        that is the newest of all that were ever stored. Owners remove none but those before one that they
        have stored, however long they take over it, so that one stays."""
        for target in self.targets:
            place = self._world.stages.input(target)
            stored = self._world.places[place]
            header = self.headers(target).get(
                self._world.newest_stored.get(self._world.stages.folder(target), "")
            )
            upto = 0 if header is None else header.next_offset
            if upto > stored.begin and self._random.random() < 0.7:
                stored.begin = self._random.randint(stored.begin, upto)
                self._world.destroyed.append(f"{place} is trimmed to {stored.begin}")
                self._note(self._world.destroyed[-1])
