"""The worker: a Faust agent that folds the partitions it is given and sends what they put out."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import faust
from aiokafka import AIOKafkaProducer

from streams import frame
from streams.events import Clock, moment
from streams.outbox import OutboxFailed
from streams.processor import summarize
from streams.takeover import OwnedPartition
from streams.topics import Topics
from streams.usecase import UseCase

log = logging.getLogger("driftline.worker")

STATUS_EVERY = 1.0
METRICS_EVERY = 5.0
CLOCK_AFTER = 5.0
"""Seconds without a record after which a live case's partition gets a clock event, while requests wait."""
RETRY_AFTER = 1.0


class RowWriter(Protocol):
    """Takes online feature rows; waits when it cannot keep up."""

    async def offer(self, rows: dict[Any, Any]) -> None: ...
    async def close(self) -> None: ...


class Worker:
    """The partitions of one case that this process owns.

    `status_path` gets a JSON status once a second, written whole or not at all; its folder is Faust's
    data folder too.
    """

    def __init__(
        self,
        case: UseCase,
        bootstrap: str,
        namespace: str = "",
        rows: RowWriter | None = None,
        *,
        status_path: Path,
    ) -> None:
        self.case = case
        self._bootstrap = bootstrap
        self._topics: Topics = case.topics(namespace)
        self._rows = rows
        self._status_path = status_path
        self._owned: dict[int, OwnedPartition] = {}
        self._generation = -1
        self._last_record: dict[int, float] = {}
        self._clock_producer: AIOKafkaProducer | None = None
        self._models: dict[str, Any] = {}
        self._models_at = 0.0
        self._started = time.time()
        self.app = self._build_app(f"{self._topics.log}.worker")

    def _build_app(self, group: str) -> faust.App:
        app = faust.App(
            group,
            broker=f"kafka://{self._bootstrap}",
            store="memory://",
            topic_disable_leader=True,
            topic_allow_declare=False,
            topic_partitions=self.case.partitions,
            web_enabled=False,
            worker_redirect_stdouts=False,
            stream_wait_empty=False,
            broker_session_timeout=10.0,
            broker_heartbeat_interval=1.0,
            broker_rebalance_timeout=20.0,
            broker_commit_interval=1.0,
            datadir=self._status_path.parent / "faust",
        )
        frame.install(app)
        topic = app.topic(self._topics.log, value_type=bytes, value_serializer="raw")
        app.agent(topic, name=f"{self.case.name}.fold")(self._fold)
        app.task(self._report)
        if self.case.clock == "wall":
            app.task(self._tick)
        return app

    async def _fold(self, stream: Any) -> None:
        frames = stream.noack()
        async for event in frames.events():
            message = event.message
            await self._advance(message.partition, event.value)
            event.ack()

    async def _advance(self, number: int, records: list[Any]) -> None:
        generation = self.app.consumer_generation_id
        if generation != self._generation:
            # another worker may have written in between: take everything over anew
            await self._drop_all()
            self._generation = generation
        while True:
            try:
                owned = self._owned.get(number)
                if owned is None:
                    owned = OwnedPartition(
                        self.case, number, self._bootstrap, self._topics, rows=self._rows is not None
                    )
                    await owned.open()
                    self._owned[number] = owned
                out = await owned.advance(records)
                break
            except OutboxFailed as error:
                log.error("%s; taking the partition over again", error)
                self._owned.pop(number, None)
                await asyncio.sleep(RETRY_AFTER)
        self._last_record[number] = time.monotonic()
        if self._rows is not None and out.rows:
            await self._rows.offer(out.rows)

    async def _drop_all(self) -> None:
        for owned in self._owned.values():
            await owned.close()
        self._owned.clear()

    async def _tick(self) -> None:
        """Tell idle partitions of a live case what time it is, while requests wait there."""
        self._clock_producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all")
        await self._clock_producer.start()
        codec = self.case.codec()
        while not self.app.should_stop:
            await asyncio.sleep(1.0)
            for number, owned in list(self._owned.items()):
                idle = time.monotonic() - self._last_record.get(number, 0.0)
                if idle < CLOCK_AFTER or not owned.processor.scorer.open_predictions:
                    continue
                now = time.time()
                clock = Clock(id=f"clock:{number}:{int(now * 1e6)}", at=moment(now))
                await self._clock_producer.send_and_wait(
                    self._topics.log, codec.encode(clock), partition=number
                )
                self._last_record[number] = time.monotonic()

    def status(self) -> dict[str, Any]:
        """Counts, positions, cost and (every few seconds) metrics of this worker."""
        processors = [self._owned[p].processor for p in sorted(self._owned)]
        summary = summarize(processors, models=time.monotonic() - self._models_at >= METRICS_EVERY)
        if summary.models:
            self._models = summary.models
            self._models_at = time.monotonic()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "pid": os.getpid(),
            "case": self.case.name,
            "at": time.time(),
            "started": self._started,
            "event_time": max((at for p in processors if (at := p.scorer.max_at) is not None), default=None),
            "next_offsets": {p.partition: p.next_offset for p in processors},
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "rss_bytes": _rss_bytes(),
            "counts": summary.counts,
            "models": self._models,
        }

    def write_status(self, *, final: bool = False) -> None:
        """Write the status file; `final` computes the metrics anew."""
        if final:
            self._models_at = float("-inf")
        unfinished = self._status_path.with_suffix(".part")
        unfinished.write_text(json.dumps(self.status()))
        unfinished.replace(self._status_path)

    async def _report(self) -> None:
        gc.collect()
        gc.freeze()  # what was imported never dies: do not walk it in every collection
        last: Any = None
        while not self.app.should_stop:
            await asyncio.sleep(STATUS_EVERY)
            offsets = {p: o.processor.next_offset for p, o in self._owned.items()}
            # when nothing moves any more the figures are made final at once
            self.write_status(final=offsets == last and self._models_at > 0)
            last = offsets

    async def close(self) -> None:
        """Send the last rows and end the producers."""
        self.write_status(final=True)
        await self._drop_all()
        if self._clock_producer is not None:
            await self._clock_producer.stop()
        if self._rows is not None:
            await self._rows.close()


def _rss_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(worker: Worker, on_ready: Callable[[], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT; leaves the group and exits 0 then, otherwise raises SystemExit."""
    sys.setswitchinterval(0.0005)  # the row writer's thread must not hold up answers for 5 ms
    app = worker.app

    @app.on_before_shutdown.connect  # type: ignore[untyped-decorator]
    async def closing(*_: Any, **__: Any) -> None:
        await worker.close()

    if on_ready is not None:
        on_ready()
    faust.Worker(app, loglevel="WARN", quiet=True).execute_from_commandline()
