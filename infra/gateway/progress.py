"""The workers' progress in the log of a case: the offsets before which every record has been folded."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from driftline.features.online.transient_failures import Outage
from driftline.infra.topics.committed_offsets import add_committed
from driftline.streams.connection import async_clients
from driftline.streams.declare.topics import is_worker_group
from driftline.streams.declare.usecase import UseCase

COMMITS_READ_EVERY = 0.2
"""Seconds between queries while a request waits. Workers commit once a second."""


class FoldedOffsets:
    """Waits until a position of the log has been folded. Queries the broker only while a request waits."""

    def __init__(self, case: UseCase, bootstrap: str, namespace: str) -> None:
        topics = case.topics(namespace)
        self._log, self._readers = topics.log, topics.readers
        self._bootstrap = bootstrap
        self._folded: dict[int, int] = {}
        self._waiting: dict[int, list[tuple[int, asyncio.Future[None]]]] = defaultdict(list)
        self._asked = asyncio.Event()
        self._outage = Outage(f"asking how far {case.name} is folded")

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

    async def _look(self, admin: AIOKafkaAdminClient) -> None:
        """Read the offsets that the workers' groups, of any code, have committed. The outputs of the records
        before them are published."""
        for group, *_ in await admin.list_consumer_groups():
            if is_worker_group(group, self._readers):
                add_committed(self._folded, self._log, await admin.list_consumer_group_offsets(group))
        for partition, waiting in self._waiting.items():
            through = self._folded.get(partition, 0)
            for offset, future in waiting:
                if offset < through and not future.done():
                    future.set_result(None)
            waiting[:] = [entry for entry in waiting if not entry[1].done()]
        if not any(self._waiting.values()):
            self._asked.clear()

    def folded(self, partition: int, offset: int) -> asyncio.Future[None]:
        """Resolves when the record at this position of the log has been folded."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if offset < self._folded.get(partition, 0):
            future.set_result(None)
        else:
            self._waiting[partition].append((offset, future))
            self._asked.set()
        return future
