"""A partition in custody, beside a broker that may keep it waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest
import shop
from memory import MemoryBroker, MemoryCheckpoints

from streams import custody
from streams.broker import Extent, Place
from streams.cadence import Budget
from streams.custody import Custody
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


def test_an_idle_partition_waits_in_the_background_for_a_silent_broker_and_then_learns_of_a_fence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(custody, "LOOK_EVERY", 0.0)

    async def run() -> None:
        broker = SilentBroker()
        seal = Seal(b"k" * KEY_BYTES)
        deployment = Deployment(shop.orders, code_of(shop.orders), TOPICS, broker, MemoryCheckpoints(), seal)
        held = Custody(deployment, 0, Budget())
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
