"""What is folded while a batch is on its way."""

from __future__ import annotations

import asyncio

import pytest

from driftline.streams.fold import inheritance
from driftline.streams.owner.outbox import OutboxClosed
from driftline.streams.owner.send_queue import Folded, SendQueue, pieces
from driftline.streams.records.outputs import Output, Outputs
from driftline.streams.records.ports import AppendFailed
from tests.streams.owner.memory import Stored


def folded(offset: int) -> Folded:
    """A step that was given one record and put out one prediction."""
    out = Outputs(predictions=[Output(offset, 0, None, b"")])
    return Folded(out, offset, Stored(offset, 0, None, b"", ()), offset + 1)


class Broker:
    """Acknowledges one batch at a time, when the test says so."""

    def __init__(self) -> None:
        self.batches: list[Folded] = []
        self.asked = asyncio.Event()
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failures = 0
        self.queue = SendQueue(self.publish, self.failed)

    async def publish(self, batch: Folded) -> None:
        self.batches.append(batch)
        self.answer = asyncio.get_running_loop().create_future()
        self.asked.set()
        await self.answer

    def failed(self) -> None:
        self.failures += 1

    async def next_batch(self) -> list[int]:
        """Offsets of the predictions in the batch that is sent next."""
        await self.asked.wait()
        self.asked.clear()
        return [output.offset for output in self.batches[-1].out.predictions]


def test_what_is_folded_while_a_batch_is_on_its_way_goes_out_together_as_the_next_one() -> None:
    async def sent() -> tuple[list[list[int]], Folded]:
        broker = Broker()
        broker.queue.put(folded(0))
        batches = [await broker.next_batch()]
        for offset in (1, 2, 3):
            broker.queue.put(folded(offset))
        broker.answer.set_result(None)
        batches.append(await broker.next_batch())
        broker.answer.set_result(None)
        await broker.queue.settled()
        return batches, broker.batches[-1]

    batches, last = asyncio.run(sent())
    assert batches == [[0], [1, 2, 3]]
    assert (last.last.offset, last.next_offset, last.folds) == (3, 4, 3)


def test_nothing_follows_a_batch_that_failed() -> None:
    async def fail() -> tuple[int, int]:
        broker = Broker()
        broker.queue.put(folded(0))
        await broker.next_batch()
        broker.queue.put(folded(1))
        broker.answer.set_exception(AppendFailed("no answer in time"))
        with pytest.raises(AppendFailed, match="no answer in time"):
            await broker.queue.settled()
        with pytest.raises(AppendFailed, match="no answer in time"):
            broker.queue.put(folded(2))
        return len(broker.batches), broker.failures

    assert asyncio.run(fail()) == (1, 1)


def test_an_end_does_not_wait_for_what_is_on_its_way() -> None:
    async def end() -> bool:
        broker = Broker()
        broker.queue.put(folded(0))
        await broker.next_batch()
        broker.queue.put(folded(1))
        await broker.queue.close()
        return broker.answer.cancelled() and len(broker.batches) == 1 and not broker.failures

    assert asyncio.run(end())


def test_nothing_follows_a_batch_whose_sending_was_cancelled() -> None:
    async def cancelled() -> int:
        broker = Broker()
        broker.queue.put(folded(0))
        await broker.next_batch()
        broker.answer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await broker.queue.settled()
        with pytest.raises(OutboxClosed):
            broker.queue.put(folded(1))
        return broker.failures

    assert asyncio.run(cancelled()) == 1


def test_a_batch_spans_less_than_code_that_takes_over_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inheritance, "HELD_BACK", 8)

    async def sent() -> list[list[int]]:
        broker = Broker()
        broker.queue.put(folded(0))
        batches = [await broker.next_batch()]
        for offset in (1, 2, 4, 5, 90, 91, 94):
            broker.queue.put(folded(offset))
        while sum(map(len, batches)) < 8:
            broker.answer.set_result(None)
            batches.append(await broker.next_batch())
        return batches

    assert asyncio.run(sent()) == [[0], [1, 2, 4], [5], [90, 91], [94]]


def test_records_with_gaps_between_them_are_folded_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 500 records of transactions that were aborted in between, the last may be far from the first."""
    monkeypatch.setattr(inheritance, "HELD_BACK", 8)
    records = [folded(offset).last for offset in (1, 2, 4, 5, 90, 91, 94)]
    assert [[record.offset for record in piece] for piece in pieces(records)] == [
        [1, 2, 4],
        [5],
        [90, 91],
        [94],
    ]
    assert list(pieces(records[:1])) == [records[:1]]
