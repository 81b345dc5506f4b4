"""An owner of a partition that is given what it did not expect."""

from __future__ import annotations

import asyncio

import pytest
import shop
from memory import MemoryBroker, MemoryCheckpoints

from streams.broker import Place, RecordsMissing, StoredRecord
from streams.deployment import Deployment, code_of
from streams.ownership import OwnedPartition
from streams.sealing import KEY_BYTES, Seal
from streams.takeover import take_over
from streams.topics import Topics

TOPICS = Topics("orders", 1)
LOG = Place(TOPICS.log, 0)
CODEC = shop.orders.codec()


async def serving(broker: MemoryBroker, orders: int) -> tuple[OwnedPartition, list[StoredRecord]]:
    """An owner that has folded a log of so many requests; the log."""
    for number in range(orders):
        event = shop.asked(number, number)
        broker.add(LOG, CODEC.key(event), CODEC.encode(event))
    seal = Seal(b"k" * KEY_BYTES)
    case = shop.orders
    owned = await take_over(Deployment(case, code_of(case), TOPICS, broker, MemoryCheckpoints(), seal), 0)
    async for _ in owned.recover():
        pass
    return owned, [record for record in broker.at(LOG) if record is not None]


def test_records_handed_over_again_are_skipped() -> None:
    async def repeated() -> int:
        broker = MemoryBroker()
        owned, log = await serving(broker, 5)
        await owned.advance(log[2:], 2)
        return len(broker.data(Place(TOPICS.predictions, 0)))

    assert asyncio.run(repeated()) == 5


def test_a_log_rewritten_under_its_owner_is_not_folded() -> None:
    async def rewritten() -> None:
        owned, log = await serving(MemoryBroker(), 5)
        event = shop.asked(99, 4)
        changed = log[4]._replace(value=CODEC.encode(event))
        with pytest.raises(RecordsMissing, match="offset 4: it held another record"):
            await owned.advance([*log[2:4], changed], 2)

    asyncio.run(rewritten())


def test_an_owner_learns_that_it_is_outdated() -> None:
    async def looks() -> list[bool]:
        broker = MemoryBroker()
        owned, _ = await serving(broker, 5)
        found = [await owned.is_outdated()]
        last = broker.at(LOG).pop()  # the log was truncated
        found.append(await owned.is_outdated())
        broker.at(LOG).append(last)
        await broker.fence("somebody else", [Place(TOPICS.models, 0)])
        return [*found, await owned.is_outdated()]

    assert asyncio.run(looks()) == [False, True, True]
