"""An owner of a partition that is given what it did not expect."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import shop

from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal
from driftline.streams.declare.topics import Topics
from driftline.streams.errors import FoldFault
from driftline.streams.owner.deployment import Deployment, code_of
from driftline.streams.owner.outbox import Diverged
from driftline.streams.owner.owned_partition import LOOK_AT, OwnedPartition
from driftline.streams.owner.takeover import take_over
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.ports import AppendFailed, Place, RecordsMissing, StoredRecord
from tests.streams.owner.memory import MemoryBroker, MemoryCheckpoints, Rows

TOPICS = Topics("orders", 1)
LOG = Place(TOPICS.log, 0)
CODEC = shop.orders.codec()


async def serving(
    broker: MemoryBroker, orders: int, rows: Rows | None = None, checkpoints: MemoryCheckpoints | None = None
) -> tuple[OwnedPartition, list[StoredRecord]]:
    """An owner that has folded a log of so many more requests; the log."""
    for number in range(orders):
        event = shop.asked(number, number, "w")  # at home in partition 0
        broker.add(LOG, CODEC.key(event), CODEC.encode(event))
    seal = Seal(b"k" * KEY_BYTES)
    case = replace(shop.orders, partitions=1)
    store = MemoryCheckpoints() if checkpoints is None else checkpoints
    owned = await take_over(Deployment(case, code_of(case), TOPICS, broker, store, seal, rows), 0)
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


def test_the_log_is_read_again_for_its_end_only_when_what_was_seen_in_it_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        broker = MemoryBroker()
        owned, _ = await serving(broker, 5)
        await owned.settled()
        assert await owned.is_at_end()
        for number in range(5, 8):
            event = shop.asked(number, number, "w")
            broker.add(LOG, CODEC.key(event), CODEC.encode(event))
        assert not await owned.is_at_end()
        with monkeypatch.context() as unreadable:
            unreadable.delattr(MemoryBroker, "read")
            assert not await owned.is_at_end()
            log = [record for record in broker.at(LOG) if record is not None]
            await owned.advance(log[5:7], 5)
            await owned.settled()
            assert not await owned.is_at_end()
        await owned.advance(log[7:], 7)
        await owned.settled()
        assert await owned.is_at_end()

    asyncio.run(run())


def test_markers_of_transactions_behind_the_last_record_are_nothing_that_waits() -> None:
    async def run() -> None:
        broker = MemoryBroker()
        owned, _ = await serving(broker, 5)
        await owned.settled()
        assert owned.answered_to == 5
        broker.at(LOG).extend([None] * (LOOK_AT + 1))
        assert owned.answered_to == 5, "until somebody looks"
        for end in (5 + LOOK_AT, 6 + LOOK_AT):
            assert not await owned.goes_on()
            assert owned.answered_to == end
        assert owned.acknowledged == 5
        event = shop.asked(5, 5, "w")
        broker.add(LOG, CODEC.key(event), CODEC.encode(event))
        assert await owned.goes_on()
        assert owned.answered_to == 6 + LOOK_AT
        await owned.advance([record for record in broker.at(LOG) if record is not None][5:], 5)
        await owned.settled()
        assert owned.answered_to == 7 + LOOK_AT == len(broker.at(LOG))

    asyncio.run(run())


def test_a_log_rewritten_under_its_owner_is_not_folded() -> None:
    async def rewritten() -> None:
        owned, log = await serving(MemoryBroker(), 5)
        event = shop.asked(99, 4)
        changed = log[4]._replace(value=CODEC.encode(event))
        with pytest.raises(RecordsMissing, match="offset 4: it held another record"):
            await owned.advance([*log[2:4], changed], 2)

    asyncio.run(rewritten())


def test_what_was_folded_before_a_fault_of_the_fold_is_published_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def published() -> tuple[int, int, bool]:
        broker = MemoryBroker()
        owned, log = await serving(broker, 5)
        for number in (5, 6):
            event = shop.asked(number, number, "w")
            broker.add(LOG, CODEC.key(event), CODEC.encode(event))
        log = [record for record in broker.at(LOG) if record is not None]
        await owned.advance(log[5:6], 5)

        def fail(records: object) -> Outputs:
            raise FoldFault(0, 6, "ZeroDivisionError: division by zero")

        monkeypatch.setattr(owned.processor, "step", fail)
        with pytest.raises(FoldFault):
            await owned.advance(log[6:], 6)
        return len(broker.data(Place(TOPICS.predictions, 0))), owned.acknowledged, owned.is_whole

    assert asyncio.run(published()) == (6, 6, False)


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


def test_a_store_that_lost_rows_is_offered_every_row_again() -> None:
    async def lost(serves: bool) -> tuple[dict[Any, Any], dict[Any, Any]]:
        broker, rows, checkpoints = MemoryBroker(), Rows(), MemoryCheckpoints()
        owned, log = await serving(broker, 5, rows, checkpoints)
        before = dict(rows.newest)
        snapshot = owned.snapshot()
        assert snapshot is not None
        await owned.store(snapshot)
        rows.newest.clear()
        rows.incarnation = "second"
        assert owned.owes_rows
        if serves:
            await owned.advance(log[-1:], 4)  # nothing new in it
            event = shop.settled(0, 6)
            broker.add(LOG, CODEC.key(event), CODEC.encode(event))
            await owned.advance([record for record in broker.at(LOG)[5:] if record is not None], 5)
            await owned.settled()
            assert owned.owes_rows, "while it serves its state may not be walked through: its task ends that"
        await owned.close()
        owned, _ = await serving(broker, 0, rows, checkpoints)
        assert not owned.owes_rows
        return before, rows.newest

    for serves in (True, False):
        before, after = asyncio.run(lost(serves))
        assert before
        assert before.keys() <= after.keys()
        if not serves:
            assert after == before


def test_rows_are_not_offered_again_when_it_is_first_known_which_store_has_them() -> None:
    """Those that were offered are as of their own time; put again they would be as of now, under the same
    stamp."""

    async def offered() -> tuple[str, bool]:
        broker, rows = MemoryBroker(), Rows("")
        owned, _ = await serving(broker, 5, rows)
        rows.newest.clear()
        rows.incarnation = rows.first_incarnation = "first"
        assert not owned.owes_rows
        event = shop.settled(0, 6)
        broker.add(LOG, CODEC.key(event), CODEC.encode(event))
        await owned.advance([record for record in broker.at(LOG)[5:] if record is not None], 5)
        await owned.settled()
        known = owned.header().rows_in
        assert len(rows.newest) <= 1, "only what the event has changed"
        rows.incarnation = "second"
        return known, owned.owes_rows

    assert asyncio.run(offered()) == ("first", True)


def test_no_state_is_kept_before_it_is_known_which_store_has_the_rows() -> None:
    async def kept() -> list[bool]:
        rows = Rows("")
        owned, _ = await serving(MemoryBroker(), 5, rows)
        before = [owned.is_whole, owned.snapshot() is not None]
        rows.incarnation = rows.first_incarnation = "first"
        snapshot = owned.snapshot()
        return [*before, owned.is_whole, snapshot is not None, owned.header().rows_in == "first"]

    assert asyncio.run(kept()) == [False, False, True, True, True]


def test_a_checkpoint_without_an_online_store_owes_it_every_row() -> None:
    async def owes() -> bool:
        broker, checkpoints = MemoryBroker(), MemoryCheckpoints()
        owned, _ = await serving(broker, 5, None, checkpoints)
        snapshot = owned.snapshot()
        assert snapshot is not None
        await owned.store(snapshot)
        await owned.close()
        rows = Rows()
        before = await serving(broker, 0, rows, checkpoints)
        assert before[0].acknowledged == 5
        return bool(rows.newest)

    assert asyncio.run(owes())


def refused(change: Callable[[list[Any]], None]) -> str:
    """What a second owner says after the predictions topic was changed behind the first one."""

    async def taken_over() -> str:
        broker = MemoryBroker()
        await serving(broker, 5)
        change(broker.at(Place(TOPICS.predictions, 0)))
        with pytest.raises(Diverged) as found:
            await serving(broker, 0)
        return str(found.value)

    return asyncio.run(taken_over())


def test_a_partition_whose_outputs_do_not_repeat_is_refused_with_the_first_field_and_likely_causes() -> None:
    def another_amount(published: list[Any]) -> None:
        value = published[-1].value.replace(b'"amount":5.0', b'"amount":5.5')
        published[-1] = published[-1]._replace(value=value)

    said = refused(another_amount)
    assert "features.amount is published as 5.5, recomputed as 5.0" in said
    causes = [said.index(cause) for cause in ("without a seed", "other settings", "other code")]
    assert causes == sorted(causes)
    assert "driftline check CASE" in said
    assert "driftline upgrade CASE" in said
    assert "tamper" not in said
    assert "probabilities" not in said, "one field, not two records"


def test_a_published_record_that_the_log_does_not_give_is_named_with_who_may_have_written_it() -> None:
    def moved(published: list[Any]) -> None:
        published[-1] = published[-1]._replace(headers=(("source", b"4:1"),))

    said = refused(moved)
    assert "published, but the log does not give this record" in said
    assert "another program writes to this topic" in said


def test_an_owner_that_is_closed_is_let_go_of_at_once() -> None:
    """Its state may be as large as all that the worker may use: the next one's cannot wait for the garbage
    collector."""

    async def close() -> bool:
        broker = MemoryBroker()
        owned, _ = await serving(broker, 5)
        broker.appends_left = 0
        event = shop.asked(5, 5, "w")
        broker.add(LOG, CODEC.key(event), CODEC.encode(event))
        gc.collect()  # what the declaration of the case has left
        gc.disable()
        await owned.advance([record for record in broker.at(LOG)[5:] if record is not None], 5)
        with suppress(AppendFailed):
            await owned.settled()
        assert owned.acknowledged == 5
        await owned.close()
        known = weakref.ref(owned)
        del owned
        return known() is None

    try:
        assert asyncio.run(close())
    finally:
        gc.enable()


class StuckRows(Rows):
    """A store that never has room for a row."""

    def __init__(self, incarnation: str) -> None:
        super().__init__(incarnation)
        self.asked = asyncio.Event()

    async def offer(self, rows: Mapping[Any, Any]) -> None:
        self.asked.set()
        await asyncio.Event().wait()


def test_an_owner_that_is_given_up_while_it_offers_lost_rows_still_owes_them() -> None:
    async def owes() -> bool:
        broker, checkpoints = MemoryBroker(), MemoryCheckpoints()
        owned, _ = await serving(broker, 5, Rows(), checkpoints)
        snapshot = owned.snapshot()
        assert snapshot is not None
        await owned.store(snapshot)
        await owned.close()
        seal, case = Seal(b"k" * KEY_BYTES), replace(shop.orders, partitions=1)
        rows = StuckRows("second")
        owned = await take_over(Deployment(case, code_of(case), TOPICS, broker, checkpoints, seal, rows), 0)

        async def recover() -> None:
            async for _ in owned.recover():
                pass

        recovery = asyncio.create_task(recover())
        await rows.asked.wait()
        recovery.cancel()
        await asyncio.wait([recovery])
        return owned.owes_rows and owned.header().rows_in == "first"

    assert asyncio.run(owes())
