"""A chain whose partitions are in the hands of real owners, over a broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import NamedTuple

from driftline.streams.archive.epochs import Code
from driftline.streams.between.stage_record import Writer, decode_model_record
from driftline.streams.checkpoints.cadence import CheckpointBudget
from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal
from driftline.streams.code.fingerprint import numeric_fingerprint
from driftline.streams.declare.plan import plan_of
from driftline.streams.declare.usecase import UseCase
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.partition_task import Frame, PartitionTask
from driftline.streams.owner.upgrade.handover import Handover
from driftline.streams.owner.upgrade.upgrade_plan import UpgradePlan
from driftline.streams.proof.published_pools import PoolsSent
from driftline.streams.records.outputs import Output, Outputs, Target
from driftline.streams.records.ports import Place
from driftline.streams.records.positions import headers_of
from driftline.streams.stages.itinerary import Itinerary
from tests.streams.owner.memory import MemoryBroker, MemoryCheckpoints, Rows, Stored

PATIENCE = 20.0
SEAL = Seal(b"k" * KEY_BYTES)


def compared(value: bytes, pools: PoolsSent) -> bytes | None:
    """What is compared of a record that was sent: a pool by its content, when its last part is there."""
    before = len(pools.content)
    if not pools.take(value):
        return value
    return repr(pools.content[-1]).encode() if len(pools.content) > before else None


class Published(NamedTuple):
    """A record of an output topic."""

    place: Place
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]

    @classmethod
    def of(cls, place: Place, output: Output) -> Published:
        """What is appended for an output."""
        return cls(place, output.key, output.value, headers_of(output))


class OwnedChain:
    """The stages of a case on so many partitions, each in the hands of a task of its own; new code `after`
    that of another chain has its broker and checkpoints."""

    def __init__(
        self, case: UseCase, partitions: int, random: Random, after: OwnedChain | None = None
    ) -> None:
        self._random = random
        self.broker, self.rows = (MemoryBroker() if after is None else after.broker), Rows()
        checkpoints = MemoryCheckpoints() if after is None else after.checkpoints
        self.checkpoints = checkpoints
        itinerary = Itinerary(case, plan_of(case, partitions))
        self._case, topics = case, replace(case, partitions=partitions).topics()
        code = Code(case.spec_hash, numeric_fingerprint())
        first = Deployment(case, code, topics, self.broker, checkpoints, SEAL, self.rows, itinerary)
        if after is not None:
            first = replace(first, number=after.stages[0].number + 1)
            self.handover = Handover(first, self._accept)
            first = replace(first, handover=self.handover)
        self.stages = [first.of_stage(number) for number in range(first.stages)]
        for stage in self.stages:
            for topic, count in stage.shape.items():
                self.broker.counts[topic] = max(count, self.broker.counts.get(topic, 0))
        self.targets = [Target(n, p) for n, stage in enumerate(self.stages) for p in range(stage.partitions)]
        self.itinerary = itinerary
        self.tasks: dict[Target, PartitionTask] = {}
        self._handed: dict[Target, int] = {}

    async def _accept(self, plan: UpgradePlan) -> bool:
        self.plan = plan
        return True

    def begin(self) -> None:
        """Have owners for all partitions, which other code may still serve."""
        for target in self.targets:
            task = self.tasks[target] = PartitionTask(
                self.stages[target.stage], target.partition, CheckpointBudget()
            )
            task.start()
            self._handed[target] = 0

    def place(self, target: Target) -> Place:
        """The partition of a stage's topic."""
        return self.stages[target.stage].log(target.partition)

    async def own(self, target: Target) -> None:
        """Have a new owner take a partition over; the one before is not asked, and may go on."""
        task = PartitionTask(self.stages[target.stage], target.partition, CheckpointBudget())
        self.tasks[target] = task
        task.start()
        await until(lambda: task.state in ("serving", "refused"))
        assert task.state == "serving", task.reason
        # what was committed before tells nothing: anything from the beginning on may be handed over
        self._handed[target] = self._random.randrange(self._handed.get(target, 0) + 1)

    async def kill(self, target: Target) -> None:
        """End an owner at once."""
        task = self.tasks.pop(target)
        assert task._task is not None
        task._task.cancel()
        await asyncio.wait([task._task])

    def records(self, target: Target, begin: int = 0) -> list[Stored]:
        """What a stage's topic holds from an offset on."""
        return [record for record in self.broker.at(self.place(target))[begin:] if record is not None]

    def hand_over(self, target: Target) -> bool:
        """Give an owner some of the records that it has not been given; whether there were any."""
        records = self.records(target, self._handed[target])
        if not records:
            return False
        records = records[: self._random.randint(1, 40)]
        self._handed[target] = records[-1].offset + 1
        self.tasks[target].put(Frame(records, lambda: None))
        return True

    async def serve(self) -> None:
        """Hand over until nothing is left anywhere."""
        while True:
            handed = [self.hand_over(target) for target in self.targets]
            if not any(handed) and self._is_answered:
                return
            await asyncio.sleep(0)

    @property
    def _is_answered(self) -> bool:
        for target, task in self.tasks.items():
            assert task.state in ("serving", "retrying", "taking over", "recovering"), task.reason
            records = self.records(target)
            if records and (task.owned is None or task.owned.acknowledged <= records[-1].offset):
                return False
        return True

    def published(self) -> list[Published]:
        """All outputs, without code epochs."""
        kinds = {
            place
            for stage in self.stages
            for p in range(stage.partitions)
            for place in stage.outputs(p).values()
        }
        return sorted(
            Published(place, record.key, record.value, list(record.headers))
            for place in kinds
            for _, record in self.broker.data(place)
        )

    def refolded(self) -> Iterator[tuple[Target, Outputs]]:
        """What the recorded order of each topic gives without any fault."""
        for target in self.targets:
            fold = self.stages[target.stage].new_fold(target.partition)
            yield target, fold.step(self.records(target))

    def sent(self, out: Outputs) -> dict[Target, list[bytes]]:
        """What was sent to each, as `first_appearances` gives it."""
        found: dict[Target, list[bytes]] = {}
        pools: dict[Target, PoolsSent] = {}
        for target, value in out.sends:
            of_target = pools.setdefault(target, PoolsSent(self._case.name, SEAL))
            if (content := compared(value, of_target)) is not None:
                found.setdefault(target, []).append(content)
        return found

    def first_appearances(self, target: Target) -> dict[Writer, list[bytes]]:
        """What each writer has written to a stage's partition, without repeats; of a learner's pools what
        they answer by. Fails at a gap, and where a repeat is another record."""
        found: dict[Writer, list[bytes]] = {}
        pools = PoolsSent(self._case.name, SEAL)
        for record in self.records(target):
            one, value = decode_model_record(record.value), record.value or b""
            if one.part is not None:
                if (content := compared(value, pools)) is not None:
                    found.setdefault(one.writer, []).append(content)
                continue
            of_writer = found.setdefault(one.writer, [])
            assert one.number <= len(of_writer) + 1, "a gap"
            if one.number == len(of_writer) + 1:
                of_writer.append(value)
            assert of_writer[one.number - 1] == value
        return found


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    """Let others go on until a condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)
