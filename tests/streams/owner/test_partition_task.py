"""The task of a partition, beside a broker that may keep it waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import count
from pathlib import Path

import pytest
import shop

from driftline.streams.checkpoints import cadence
from driftline.streams.checkpoints.cadence import CheckpointBudget
from driftline.streams.checkpoints.checkpoint import TakeState, Unfinished
from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal
from driftline.streams.checkpoints.segment_files import SegmentFolders
from driftline.streams.declare.events import Event
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.declare.topics import Topics
from driftline.streams.errors import FoldFault
from driftline.streams.fold import intake
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.owner import partition_task, retry_pause, standstill
from driftline.streams.owner.deployment import Deployment, code_of
from driftline.streams.owner.partition_task import Frame, PartitionTask
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.ports import Extent, Place, StoredRecord, TopicShape
from tests.streams.owner.memory import MemoryBroker, MemoryCheckpoints

TOPICS = Topics("orders", 1)
PATIENCE = 30.0


class SilentBroker(MemoryBroker):
    """A broker that answers questions after places only while `speaks` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.speaks = asyncio.Event()
        self.speaks.set()
        self.asked = 0

    async def extents(self, places: Sequence[Place]) -> Mapping[Place, Extent]:
        self.asked += 1
        await self.speaks.wait()
        return await super().extents(places)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


def task_of(
    broker: MemoryBroker,
    segments: SegmentFolders | None = None,
    checkpoints: MemoryCheckpoints | None = None,
) -> PartitionTask:
    seal, code = Seal(b"k" * KEY_BYTES), code_of(shop.orders)
    checkpoints = checkpoints or MemoryCheckpoints()
    deployment = Deployment(shop.orders, code, TOPICS, broker, checkpoints, seal, segments=segments)
    return PartitionTask(deployment, 0, CheckpointBudget())


def test_a_partition_is_refused_while_its_topics_cannot_be_served_busy_or_idle(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(partition_task, "LOOK_EVERY", 0.001)  # which lets others go on while it is refused

    async def run() -> None:
        broker = MemoryBroker()
        held = task_of(broker)
        held.start()
        await until(lambda: held.state == "serving")
        broker.shapes[TOPICS.log] = TopicShape(f"{TOPICS.log}#0", 3)
        events = count()

        def looks() -> bool:
            """Records keep coming meanwhile."""
            event = shop.asked(next(events), 0, "w")
            broker.add(Place(TOPICS.log, 0), b"w", shop.orders.codec().encode(event))
            if held.state == "serving":
                held.put(Frame([broker.at(Place(TOPICS.log, 0))[-1]], lambda: None))
            held.tick()
            return held.state == "refused"

        await until(looks)
        assert "has 3 partitions, the case declares 1" in held.status()["reason"]
        assert held.owned is None
        del broker.shapes[TOPICS.log]
        await until(lambda: held.state == "serving")
        assert held.status()["reason"] == ""
        await held.stop()

    asyncio.run(run())
    warnings = [record for record in caplog.records if "is not served" in record.message]
    assert len(warnings) == 1


def test_windows_come_back_into_memory_after_a_restore_while_no_records_come(tmp_path: Path) -> None:
    log, checkpoints = Place(TOPICS.log, 0), MemoryCheckpoints()
    shops = [name for name in map(str, range(90)) if partition_of(name.encode(), shop.orders.partitions) == 0]

    def in_memory(held: PartitionTask) -> int:
        """Windows in memory, whether they are in pages too or not."""
        assert held.owned is not None
        sizes = held.owned.processor.sizes().items()
        return sum(size.held for name, size in sizes if " by " in name and not name.endswith(", packed"))

    async def run() -> None:
        broker = MemoryBroker()
        for number in range(60):
            event = shop.asked(number, number, shops[number % len(shops)])
            broker.add(log, shop.orders.codec().key(event), shop.orders.codec().encode(event))
        segments = SegmentFolders(tmp_path, 0, 10**9)
        first = task_of(broker, segments, checkpoints)
        first.start()
        await until(lambda: first.state == "serving")
        count = in_memory(first)
        assert count > 0
        await first.stop()
        second = task_of(broker, segments, checkpoints)
        second.start()
        await until(lambda: second.state == "serving")
        assert second.owned is not None
        assert second.owned.progress.begin == 60
        await until(lambda: in_memory(second) == count)
        await second.stop()

    asyncio.run(run())


def test_a_state_whose_files_are_torn_while_it_is_in_use_is_taken_over_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(retry_pause, "RETRY_AFTER", 0.0)
    monkeypatch.setattr(intake, "RETAIN_EVERY", 4)
    log, predictions = Place(TOPICS.log, 0), Place(TOPICS.predictions, 0)
    shops = [name for name in map(str, range(20)) if partition_of(name.encode(), shop.orders.partitions) == 0]
    events = [shop.asked(number, number, shops[number // 20 % 2]) for number in range(80)]

    async def run() -> None:
        broker = MemoryBroker()
        held = task_of(broker, SegmentFolders(tmp_path, 0, 0))
        held.start()
        await until(lambda: held.state == "serving")

        def put(some: Sequence[Event]) -> None:
            for event in some:
                broker.add(log, shop.orders.codec().key(event), shop.orders.codec().encode(event))
            held.put(Frame(broker.at(log)[-len(some) :], lambda: None))

        def answers() -> list[bytes]:
            return [record.value for record in broker.at(predictions) if record and record.value]

        put(events[:40])
        await until(lambda: len(answers()) == 40)
        for path in tmp_path.rglob("segments/*"):
            path.write_bytes(b"?" * path.stat().st_size)
        put(events[40:])
        await until(lambda: len(answers()) == len(events))
        assert held.take_overs["StateUnreadable"] == 1
        folded = PartitionProcessor(shop.orders, 0).step(broker.at(log))
        assert answers() == [output.value for output in folded.predictions]
        await held.stop()

    asyncio.run(run())


def test_an_output_recreated_is_noticed_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_task, "LOOK_EVERY", 0.0)

    async def run() -> None:
        broker = MemoryBroker()
        held = task_of(broker)
        held.start()
        await until(lambda: held.state == "serving")
        broker.shapes[TOPICS.drift] = TopicShape("another", 1)
        broker.places[Place(TOPICS.drift, 0)] = []

        def refused() -> bool:
            held.tick()
            return held.state == "refused"

        await until(refused)
        assert f"{TOPICS.drift}-0 was recreated" in held.reason
        await held.stop()

    asyncio.run(run())


def test_an_idle_partition_waits_in_the_background_for_a_silent_broker_and_then_learns_of_a_fence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partition_task, "LOOK_EVERY", 0.0)

    async def run() -> None:
        broker = SilentBroker()
        held = task_of(broker)
        held.start()
        await until(lambda: held.state == "serving" and held.owned is not None)
        first = held.owned
        await asyncio.sleep(0)  # it goes to wait for records

        broker.speaks.clear()
        broker.asked = 0
        for _ in range(3):
            held.tick()
            await asyncio.sleep(0)
        assert held.status()["state"] == "serving"
        assert broker.asked == 1

        await broker.fence("somebody else", [Place(TOPICS.models, 0)])
        broker.speaks.set()
        await until(lambda: held.state == "serving" and held.owned not in (first, None))
        await held.stop()

    asyncio.run(run())


class FullDisk(MemoryCheckpoints):
    """Checkpoints that nothing can be written to while `full` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.full = True

    def begin(self, name: str, take: TakeState) -> Unfinished:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().begin(name, take)


def deployed(broker: MemoryBroker, checkpoints: MemoryCheckpoints) -> Deployment:
    seal = Seal(b"k" * KEY_BYTES)
    return Deployment(shop.orders, code_of(shop.orders), TOPICS, broker, checkpoints, seal)


def test_a_fault_of_the_fold_refuses_its_partition_with_the_offset_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step = PartitionProcessor.step

    def failing(self: PartitionProcessor, records: Sequence[StoredRecord]) -> Outputs:
        if self.partition == 0 and records:
            raise FoldFault(0, records[-1].offset, "ZeroDivisionError: division by zero")
        return step(self, records)

    monkeypatch.setattr(PartitionProcessor, "step", failing)

    async def run() -> None:
        broker = MemoryBroker()
        deployment = deployed(broker, MemoryCheckpoints())
        both = [PartitionTask(deployment, number, CheckpointBudget()) for number in range(2)]
        tasks = [one.start() for one in both]
        await until(lambda: all(one.state == "serving" for one in both))
        for one in both:
            for _ in range(3):
                broker.add(Place(TOPICS.log, one.partition), None, b"broken")
            one.put(Frame([r for r in broker.at(Place(TOPICS.log, one.partition)) if r], lambda: None))
        await until(lambda: both[0].state == "refused" and both[1].owned.acknowledged == 3)  # type: ignore[union-attr]
        assert "partition 0, offset 2: the fold failed with ZeroDivisionError" in both[0].status()["reason"]
        assert both[1].state == "serving"
        assert not any(task.done() for task in tasks)
        for one in both:
            await one.stop()

    asyncio.run(run())
    assert "Traceback" in caplog.text


def test_what_nobody_has_foreseen_refuses_the_partition_and_does_not_end_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        broker = MemoryBroker()
        held = PartitionTask(deployed(broker, MemoryCheckpoints()), 0, CheckpointBudget())

        async def failing(*_: object) -> None:
            raise KeyError("row")

        monkeypatch.setattr(broker, "fence", failing)
        task = held.start()
        await until(lambda: held.state == "refused")
        assert held.reason == "a fault of driftline: KeyError: 'row'"
        assert not task.done()
        await held.stop()

    asyncio.run(run())


def test_a_partition_is_served_though_no_checkpoint_can_be_stored_and_one_is_once_it_can(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cadence, "MOST_FOLDED", 0.0)

    async def run() -> None:
        broker, checkpoints = MemoryBroker(), FullDisk()
        held = PartitionTask(deployed(broker, checkpoints), 0, CheckpointBudget())
        held.start()
        await until(lambda: held.state == "serving")
        for n in range(3):
            broker.add(Place(TOPICS.log, 0), None, b"broken")
            log = [record for record in broker.at(Place(TOPICS.log, 0)) if record is not None]
            held.put(Frame(log[n:], lambda: None))
            await until(lambda: held.owned is not None and held.owned.acknowledged == n + 1)  # noqa: B023
        assert held.state == "serving"
        assert "No space left" in held.status()["checkpoint_failed"]
        assert held.status()["checkpoint_failing_seconds"] >= 0
        assert len([record for record in caplog.records if "No space left" in record.message]) == 1

        checkpoints.full = False

        def stored() -> bool:
            held.tick()  # nothing more comes
            return bool(checkpoints.stored)

        await until(stored)
        await until(lambda: "checkpoint_failed" not in held.status())
        assert held.status()["checkpoint"]["next_offset"] == 3
        await held.stop()

    asyncio.run(run())
    assert "works again" in caplog.text


def test_records_that_wait_in_the_log_but_are_not_handed_over_are_a_standstill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partition_task, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(standstill, "IDLE_STUCK_AFTER", 0.0)

    async def run() -> None:
        broker = SilentBroker()
        held = PartitionTask(deployed(broker, MemoryCheckpoints()), 0, CheckpointBudget())
        held.start()
        await until(lambda: held.state == "serving")

        async def look() -> None:
            asked = broker.asked
            held.tick()
            await until(lambda: broker.asked > asked and not held._is_looking)

        broker.at(Place(TOPICS.log, 0)).append(None)  # a marker is no record
        for _ in range(4):
            await look()
        assert not held.stalled
        broker.add(Place(TOPICS.log, 0), None, b"broken")
        async with asyncio.timeout(PATIENCE):
            while not held.stalled:
                await look()
        assert "records from offset 0 on" in held.stalled
        assert "not handed over" in held.stalled
        await held.stop()

    asyncio.run(run())


def test_records_whose_outputs_failed_are_acknowledged_once_the_log_is_folded_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else they count for ever as waiting, and after some failures a transport hands no more over."""
    monkeypatch.setattr(retry_pause, "RETRY_AFTER", 0.0)

    async def run() -> None:
        broker = MemoryBroker()
        held = PartitionTask(deployed(broker, MemoryCheckpoints()), 0, CheckpointBudget())
        held.start()
        await until(lambda: held.state == "serving")
        broker.appends_left = 0
        broker.add(Place(TOPICS.log, 0), None, b"broken")
        acknowledged: list[int] = []
        held.put(Frame([r for r in broker.at(Place(TOPICS.log, 0)) if r], lambda: acknowledged.append(0)))
        await until(lambda: held.state == "retrying")
        assert acknowledged == []
        broker.appends_left = None
        await until(lambda: held.state == "serving")
        assert acknowledged == [0]
        assert len(broker.data(Place(TOPICS.dead_letters, 0))) == 1
        await held.stop()

    asyncio.run(run())


class SlowReads(MemoryBroker):
    """A broker of which the last record of the log is waited for while `speaks` is not set."""

    def __init__(self) -> None:
        super().__init__()
        self.speaks = asyncio.Event()

    async def read(self, place: Place, begin: int, end: int) -> AsyncIterator[Sequence[StoredRecord]]:
        async for records in super().read(place, begin, end):
            yield records
            if place.topic == TOPICS.log:
                await self.speaks.wait()


def test_what_was_folded_is_kept_by_a_partition_that_could_not_end_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partition_task, "STORED_WITHIN", 0.0)

    async def run() -> None:
        broker, checkpoints = SlowReads(), MemoryCheckpoints()
        for _ in range(20):
            broker.add(Place(TOPICS.log, 0), None, b"broken")
        recovering = PartitionTask(deployed(broker, checkpoints), 0, CheckpointBudget())
        recovering.start()
        await until(lambda: recovering.owned is not None and recovering.owned.acknowledged == 7)
        held = await recovering.stop()
        assert held is not None
        assert held.header.next_offset == 7
        broker.speaks.set()
        again = PartitionTask(deployed(broker, checkpoints), 0, CheckpointBudget(), held)
        again.start()
        await until(lambda: again.state == "serving")
        assert len(broker.data(Place(TOPICS.dead_letters, 0))) == 20
        await again.stop()

    asyncio.run(run())
