"""The metrics of a worker whose partitions come and go, on a broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import shop
from prometheus_client.parser import text_string_to_metric_families

from driftline import Event, Member, PerKey
from driftline.streams.checkpoints.cadence import CheckpointBudget
from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.owner.deployment import Deployment, code_of
from driftline.streams.owner.partition_task import Frame, PartitionTask
from driftline.streams.records.outputs import Target
from driftline.streams.records.ports import TopicShape
from driftline.streams.status.metric_definitions import MEASURES
from driftline.streams.status.metrics import WorkerMetrics
from driftline.streams.status.worker_status import WorkerStatus
from tests.streams.owner.memory import MemoryBroker, MemoryCheckpoints
from tests.streams.status.scraping import written

PARTITIONS = 2
PATIENCE = 30.0


class Fails:
    """An estimator that cannot answer some requests."""

    def learn_one(self, x: dict[str, Any], y: bool) -> None: ...

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        if x["amount"] < 0:
            raise ValueError("no amount is negative")
        return {True: 0.5}


CASE = replace(shop.orders, partitions=PARTITIONS, models=PerKey(champion=Member("fails", Fails)))
SHOPS = {partition_of(name.encode(), PARTITIONS): name for name in ("s", "w", "v", "u")}
"""A shop of each partition."""


class Serving:
    """All partitions of the case in the hands of one worker, and its metrics."""

    def __init__(self, folder: Path) -> None:
        topics = CASE.topics("")
        self.broker = MemoryBroker()
        self.broker.shapes = {spec.name: TopicShape(f"{spec.name}#0", PARTITIONS) for spec in topics.all()}
        seal = Seal(b"k" * KEY_BYTES)
        self.deployment = Deployment(CASE, code_of(CASE), topics, self.broker, MemoryCheckpoints(), seal)
        self.tasks: dict[Target, PartitionTask] = {}
        self.metrics = WorkerMetrics()
        self.status = WorkerStatus(
            folder / "status.json", self.deployment, self.tasks, list, lambda number: None, self.metrics
        )

    def append(self, partition: int, event: Event) -> None:
        place = self.deployment.log(partition)
        self.broker.add(place, SHOPS[partition].encode(), CASE.codec().encode(event))
        if (task := self.tasks.get(Target(0, partition))) is not None:
            task.put(Frame([self.broker.at(place)[-1]], lambda: None))

    async def take(self, *partitions: int) -> None:
        for number in partitions:
            task = self.tasks[Target(0, number)] = PartitionTask(self.deployment, number, CheckpointBudget())
            task.start()
        await self.until(lambda: all(task.state == "serving" for task in self.tasks.values()))

    async def fail_once(self, number: int) -> None:
        """Take a partition over on a broker that fails in the middle, and works from then on."""
        task = self.tasks[Target(0, number)] = PartitionTask(self.deployment, number, CheckpointBudget())
        task.start()
        await self.until(lambda: task.state == "retrying")
        self.broker.appends_left = None

    def series(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of a measure, by its labels beside the case."""
        return {
            tuple(sample.labels[label] for label in MEASURES[name].labels): sample.value
            for family in text_string_to_metric_families(written(self.metrics))
            for sample in family.samples
            if sample.name == MEASURES[name].series
        }

    def failures(self) -> dict[str, float]:
        """Those of the member that fails, by partition."""
        found = self.series("model_failures").items()
        return {partition: count for (partition, _, member), count in found if member == "fails"}

    async def until(self, condition: Callable[[], bool]) -> None:
        """Report again and again until something holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.status.update()
                await asyncio.sleep(0)


def test_what_others_keep_does_not_change_when_a_partition_is_given_back(tmp_path: Path) -> None:
    """A counter that falls was reset to Prometheus: what is left of it would count as new."""

    async def run() -> None:
        worker = Serving(tmp_path)
        for number in range(2 * PARTITIONS):
            partition = number % PARTITIONS
            worker.append(partition, shop.asked(number, number, SHOPS[partition], amount=-1.0))
        await worker.take(*range(PARTITIONS))
        both = {"0": 2.0, "1": 2.0}
        await worker.until(lambda: worker.failures() == both)
        await worker.tasks.pop(Target(0, 1)).stop()
        worker.status.update()
        assert worker.failures() == {"0": 2.0}
        assert {labels[0] for labels in worker.series("records")} == {"0"}
        await worker.tasks.pop(Target(0, 0)).stop()

    asyncio.run(run())


def test_events_are_counted_by_type_from_the_take_over_on(tmp_path: Path) -> None:
    async def run() -> None:
        worker = Serving(tmp_path)
        worker.append(0, shop.asked(0, 0, SHOPS[0]))
        await worker.take(0)
        worker.append(0, shop.settled(0, 1, SHOPS[0]))
        worker.append(0, shop.asked(1, 2, SHOPS[0]))
        worker.append(0, shop.asked(2, 3, SHOPS[0]))
        counted = {("0", "events", "asked"): 2.0, ("0", "events", "settled"): 1.0}
        await worker.until(lambda: worker.series("events") == counted)
        assert worker.series("records")["0", "events", "accepted"] == 4.0
        await worker.tasks.pop(Target(0, 0)).stop()

    asyncio.run(run())


def test_what_is_published_while_a_partition_is_taken_over_is_counted_once(tmp_path: Path) -> None:
    """Also when it is taken over twice, as the first owner could not publish all."""

    async def run() -> None:
        worker = Serving(tmp_path)
        place, key = worker.deployment.log(0), SHOPS[0].encode()
        for _ in range(20):
            worker.broker.add(place, key, b"no event")
        counted = {("0", "events", "decode"): 20.0}
        worker.broker.appends_left = 2  # the code's epoch, and some of the dead letters
        await worker.fail_once(0)
        before = len(worker.broker.data(worker.deployment.outputs(0)["dead_letters"]))
        assert 0 < before < 20
        await worker.until(lambda: worker.series("dead_letters") == counted)
        worker.broker.add(place, key, b"no event")
        worker.tasks[Target(0, 0)].put(Frame([worker.broker.at(place)[-1]], lambda: None))
        await worker.until(lambda: worker.series("dead_letters") == {("0", "events", "decode"): 21.0})
        await worker.tasks.pop(Target(0, 0)).stop()
        await worker.take(0)
        worker.status.update()
        assert worker.series("dead_letters") == {}, "they are the ones of the worker before"
        await worker.tasks.pop(Target(0, 0)).stop()

    asyncio.run(run())
