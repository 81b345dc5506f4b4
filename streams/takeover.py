"""A partition as a worker owns it: taken over from its outputs' tails, then folded on.

What the consumer group has committed never matters: the state is folded silently from the log's
start up to the first record handed over, and only what lies beyond each tail is put out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.errors import StreamsError
from streams.outbox import Outbox
from streams.outputs import Outputs
from streams.processor import PartitionProcessor
from streams.topics import Topics
from streams.usecase import UseCase


class OwnedPartition:
    """Processor and outbox of one partition of the log."""

    def __init__(self, case: UseCase, partition: int, bootstrap: str, topics: Topics, *, rows: bool) -> None:
        self.partition = partition
        self.processor = PartitionProcessor(case, partition, rows=rows)
        self._outbox = Outbox(bootstrap, topics, partition)
        self._bootstrap = bootstrap
        self._tp = TopicPartition(topics.log, partition)

    async def open(self) -> None:
        """Learn how far the outputs have come."""
        await self._outbox.open()

    async def advance(self, records: Sequence[Any]) -> Outputs:
        """Fold records handed over, after what is missing before them; returns when all is sent.

        Records folded before are skipped.
        """
        processor = self.processor
        if records[0].offset < processor.next_offset:
            records = [r for r in records if r.offset >= processor.next_offset]
            if not records:
                return Outputs()
        if records[0].offset > processor.next_offset:
            await self._catch_up(records[0].offset)
        out = processor.step(records)
        await self._outbox.send(out)
        return out

    async def _catch_up(self, until: int) -> None:
        """Fold [next offset, until) from the log, with a reader outside the group."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, isolation_level="read_committed", enable_auto_commit=False
        )
        await consumer.start()
        try:
            tp = self._tp
            consumer.assign([tp])
            start = self.processor.next_offset
            begin = (await consumer.beginning_offsets([tp]))[tp]
            if begin > start:
                raise StreamsError(
                    f"{tp.topic}-{tp.partition} begins at offset {begin}, but the state needs {start}: the "
                    "log was trimmed, so the state cannot be folded again"
                )
            consumer.seek(tp, start)
            while await consumer.position(tp) < until:
                fetched = (await consumer.getmany(tp, timeout_ms=1000, max_records=500)).get(tp, [])
                records = [record for record in fetched if record.offset < until]
                if records:
                    await self._outbox.send(self.processor.step(records))
                if len(records) < len(fetched):
                    break
        finally:
            await consumer.stop()

    async def close(self) -> None:
        """End the producer."""
        await self._outbox.close()
