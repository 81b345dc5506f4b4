"""A partition in custody, beside a broker that may keep it waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import count

import pytest
import shop
from memory import MemoryBroker, MemoryCheckpoints

from streams import custody
from streams.broker import Extent, Place, TopicShape
from streams.cadence import Budget
from streams.custody import Custody, Frame
from streams.deployment import Deployment, code_of
from streams.sealing import KEY_BYTES, Seal
from streams.topics import Topics

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


def custody_of(broker: MemoryBroker) -> Custody:
    seal = Seal(b"k" * KEY_BYTES)
    deployment = Deployment(shop.orders, code_of(shop.orders), TOPICS, broker, MemoryCheckpoints(), seal)
    return Custody(deployment, 0, Budget())


def test_a_partition_is_refused_while_its_topics_cannot_be_served_busy_or_idle(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(custody, "LOOK_EVERY", 0.001)  # which lets others go on while it is refused

    async def run() -> None:
        broker = MemoryBroker()
        held = custody_of(broker)
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
    told = [record for record in caplog.records if "is not served" in record.message]
    assert len(told) == 1


def test_an_output_made_anew_is_noticed_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "LOOK_EVERY", 0.0)

    async def run() -> None:
        broker = MemoryBroker()
        held = custody_of(broker)
        held.start()
        await until(lambda: held.state == "serving")
        broker.shapes[TOPICS.drift] = TopicShape("another", 1)
        broker.places[Place(TOPICS.drift, 0)] = []

        def refused() -> bool:
            held.tick()
            return held.state == "refused"

        await until(refused)
        assert f"{TOPICS.drift}-0 was made anew" in held.reason
        await held.stop()

    asyncio.run(run())


def test_an_idle_partition_waits_in_the_background_for_a_silent_broker_and_then_learns_of_a_fence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(custody, "LOOK_EVERY", 0.0)

    async def run() -> None:
        broker = SilentBroker()
        held = custody_of(broker)
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
