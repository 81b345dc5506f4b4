"""The workers' progress in a case: the offsets before which every record has been folded, of the log and of
the topics behind it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from driftline.features.online.transient_failures import Outage
from driftline.infra.gateway.published.kept_consumer import KeptConsumer
from driftline.infra.gateway.published.topic_reader import last_records, places_of
from driftline.streams.connection import async_clients
from driftline.streams.declare.topics import is_worker_group
from driftline.streams.declare.usecase import UseCase
from driftline.streams.stages.places import epochs_of, of_epoch

COMMITS_READ_EVERY = 0.2
"""Seconds between queries while a request waits. Workers commit twice a second."""
LOOKS_BEHIND_EVERY = 0.2
"""Seconds for which requests are collected that are followed through the topics behind the log at once."""
FOLLOWED_BEHIND_FOR = 600.0
"""Seconds after which such a way is not followed any more."""

Groups = frozenset[str]


class FoldedOffsets:
    """Waits until a position of the log has been folded, and what it has caused in the topics behind the log.
    Queries the broker only while a request waits."""

    def __init__(self, case: UseCase, bootstrap: str, namespace: str) -> None:
        self._topics = case.topics(namespace)
        self._bootstrap = bootstrap
        self._committed: dict[str, dict[TopicPartition, int]] = {}
        self._waiting: dict[TopicPartition, list[tuple[int, asyncio.Future[None]]]] = defaultdict(list)
        self._asked = asyncio.Event()
        self._outage = Outage(f"asking how far {case.name} is folded")
        self._consumer = KeptConsumer(bootstrap)
        self._reading = asyncio.Lock()
        self._collecting: dict[Groups, asyncio.Task[None]] = {}
        self._following: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Query until cancelled. Outages of the broker are waited out."""
        while True:
            admin = async_clients.admin(self._bootstrap, request_timeout_ms=4_000)
            try:
                await admin.start()
                while True:
                    await self._asked.wait()
                    await self._look(admin)
                    self._outage.ended()
                    await asyncio.sleep(COMMITS_READ_EVERY)
            except (KafkaError, OSError, TimeoutError) as error:
                await asyncio.sleep(self._outage.failed(error))
            finally:
                await admin.close()

    async def close(self) -> None:
        """Follow nothing any more, and close the connection."""
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        await self._consumer.close()

    async def _look(self, admin: AIOKafkaAdminClient) -> None:
        """Read the offsets that the workers' groups, of any code, have committed. The outputs of the records
        before them are published."""
        for group, *_ in await admin.list_consumer_groups():
            if is_worker_group(group, self._topics.readers):
                offsets = await admin.list_consumer_group_offsets(group)
                self._committed[group] = {place: known.offset for place, known in offsets.items()}
        for place, waiting in self._waiting.items():
            through = self._folded(place)
            for offset, future in waiting:
                if offset < through and not future.done():
                    future.set_result(None)
            waiting[:] = [entry for entry in waiting if not entry[1].done()]
        if not any(self._waiting.values()):
            self._asked.clear()

    def _folded(self, place: TopicPartition) -> int:
        """The offset before which all has been folded, by the furthest group."""
        return max((offsets.get(place, 0) for offsets in self._committed.values()), default=0)

    def folded(self, partition: int, offset: int) -> asyncio.Future[None]:
        """Resolves when the record at this position of the log has been folded."""
        return self._passed(TopicPartition(self._topics.log, partition), offset)

    def _passed(self, place: TopicPartition, offset: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if offset < self._folded(place):
            future.set_result(None)
        else:
            self._waiting[place].append((offset, future))
            self._asked.set()
        return future

    async def folded_behind(self, partition: int, offset: int) -> None:
        """Return when a record of the log, and all that it has caused behind the log, has been folded by the
        workers that have folded the record. Raises TimeoutError, where those have ended before."""
        await self.folded(partition, offset)
        place = TopicPartition(self._topics.log, partition)
        groups = frozenset(name for name, known in self._committed.items() if known.get(place, 0) > offset)
        task = self._collecting.get(groups)
        if task is None:
            task = self._collecting[groups] = asyncio.create_task(self._follow(groups))
            self._following.add(task)
            task.add_done_callback(self._ended)
        await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Forget it. Retrieves its failure, or asyncio logs it when nobody waits any more."""
        self._following.discard(task)
        if not task.cancelled():
            task.exception()

    async def _follow(self, groups: Groups) -> None:
        """Return when all that the topics behind the log hold by now has been folded, one after the other."""
        await asyncio.sleep(LOOKS_BEHIND_EVERY)
        del self._collecting[groups]  # who asks from here on may have caused more
        async with asyncio.timeout(FOLLOWED_BEHIND_FOR):
            for kind, _ in self._topics.behind:
                newest = await self._newest(kind, groups)
                await asyncio.gather(*(self._passed(*position) for position in newest.items()))

    async def _newest(self, kind: str, groups: Groups) -> Mapping[TopicPartition, int]:
        """The offset of the newest record in each partition of the topics of this kind that these groups
        read, except where all has been folded."""
        while True:
            try:
                async with self._reading:
                    consumer = await self._consumer.started()
                    topics = newest_of(self._topics.of_stage(kind), groups, await consumer.topics())
                    ends = await consumer.end_offsets(await places_of(consumer, *topics))
                    folded = {place: self._folded(place) for place in ends}
                    found = await last_records(consumer, folded, ends)
                return {place: record.offset for place, record in found.items()}
            except (KafkaError, OSError) as error:
                self._consumer.drop()
                await asyncio.sleep(self._outage.failed(error))


def newest_of(stage: str, groups: Iterable[str], topics: Collection[str]) -> list[str]:
    """Of the topics between stages that begin with this name, those that workers of these groups read: that
    of the newest epoch of each group's code.

    >>> newest_of("shop.by-card", ["shop.worker.0a1b"], ["shop.by-card.0a1b", "shop.by-card.0a1b-2"])
    ['shop.by-card.0a1b-2']
    """
    firsts = (f"{stage}.{group.rpartition('.')[2]}" for group in groups)
    return [of_epoch(first, max(epochs_of(first, topics), default=0)) for first in firsts]
