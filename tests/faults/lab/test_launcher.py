"""What the lab does to a worker is done to the calls that the product makes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from driftline.streams.records.outputs import Output
from driftline.streams.records.ports import AppendFailed, Place
from driftline.streams.transport.kafka_broker import KafkaAppender
from tests.faults.lab import launcher

PLACE = Place("orders.outcomes", 0)


class Batch:
    """A batch of any size."""

    def __init__(self) -> None:
        self._records = 0

    def append(self, **_: Any) -> object:
        self._records += 1
        return self

    def record_count(self) -> int:
        return self._records

    def close(self) -> None: ...


class Producer:
    """Acknowledges every batch at once."""

    def __init__(self) -> None:
        self.taken = 0

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        acknowledged = asyncio.get_running_loop().create_future()
        acknowledged.set_result(SimpleNamespace(offset=self.taken, timestamp=0, timestamp_type=1))
        self.taken += batch.record_count()
        return acknowledged


def test_an_answer_is_lost_of_a_batch_that_the_broker_has_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        KafkaAppender, "_send", KafkaAppender._send
    )  # what is put in its place ends with this
    launcher._lose_answer(2)

    async def run() -> None:
        producer: Any = Producer()
        appender = KafkaAppender(producer)
        outputs = [Output(0, 0, b"k", b"v"), Output(1, 0, b"k", b"v")]
        assert await appender.append({PLACE: outputs}) == {PLACE: 2}
        with pytest.raises(AppendFailed, match="answer 0 is lost"):
            await appender.append({PLACE: outputs})
        assert producer.taken == 4

    asyncio.run(run())
