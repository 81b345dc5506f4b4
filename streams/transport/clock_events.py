"""Sends the time to partitions of a live case that are idle while requests wait for it.

Without an event a partition's watermark stands still, and requests whose deadline has passed get no outcome.
In a chain a partition of the log does not know what waits in later stages, so each idle one gets the time, as
often as it would pass it on to them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from driftline.features.online.transient_failures import Outage
from driftline.streams.connection import async_clients
from driftline.streams.connection.closing import end
from driftline.streams.declare.events import Clock, moment
from driftline.streams.declare.usecase import UseCase
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.partition_task import PartitionTask
from driftline.streams.records.outputs import Target
from driftline.streams.stages.stage_fold import tick_of

SENT_AFTER = 5.0
"""Seconds without a record after which a partition gets a clock event, while requests wait."""
IDLE_LOOK_EVERY = 1.0
"""Seconds between checks for such partitions."""
SENT_WITHIN = 10.0
"""Seconds within which due events must be sent."""


def sent_after(case: UseCase) -> float:
    """Seconds without a record after which a partition of a live case gets the time."""
    return max(SENT_AFTER, tick_of(case)) if case.plan.is_chain else SENT_AFTER


def clock_lag_of(case: UseCase) -> float:
    """How many seconds a partition without events may be behind one that has some; 0 for a case that is not
    live, where it may be behind by any number."""
    return sent_after(case) + IDLE_LOOK_EVERY if case.clock == "wall" else 0.0


class BrokerClock:
    """This machine's clock, corrected by the broker's newest append time; times in seconds since the epoch.

    The fold takes no clock event as later than its append time. With a clock that is behind, clock events
    would have no effect, and a partition without events would wait for ever.
    """

    def __init__(self) -> None:
        self._behind = 0.0

    def now(self) -> float:
        """The time; correct after the first correction."""
        return time.time() + self._behind

    def correct(self, sent: float, appended: float) -> None:
        """A record sent at `sent`, by `now`, was appended at `appended`, by the broker."""
        self._behind += appended - sent


class ClockEvents:
    """The clock events of one worker; `tasks` are its partitions, of all stages, as they are at any time."""

    def __init__(self, deployment: Deployment, bootstrap: str, tasks: Mapping[Target, PartitionTask]) -> None:
        self._log = deployment.topics.log
        self._codec = deployment.case.codec()
        self._bootstrap = bootstrap
        self._tasks = tasks
        self._is_chain = deployment.stages > 1
        self._sent_after = sent_after(deployment.case)
        self._clock = BrokerClock()
        self._producer: AIOKafkaProducer | None = None
        self._outage = Outage("sending the time to idle partitions")

    async def look(self) -> float:
        """Send what is due; returns the seconds until the next look. Failures are logged."""
        try:
            async with asyncio.timeout(SENT_WITHIN):
                sent = await self._send()
        except (KafkaError, OSError) as error:
            # the time can be sent later; an event that was not sent is not repeated
            await self.close()
            return max(IDLE_LOOK_EVERY, self._outage.failed(error))
        if sent:
            self._outage.ended()
        return IDLE_LOOK_EVERY

    async def _send(self) -> bool:
        """Send the time to each partition that needs it; returns whether there was one."""
        waiting = [
            target.partition
            for target, task in self._tasks.items()
            if target.stage == 0 and self._needs_time(task)
        ]
        for number in waiting:
            if self._producer is None:
                self._producer = async_clients.producer(self._bootstrap, acks="all")
                await self._producer.start()
            now = self._clock.now()
            clock = Clock(id=f"clock:{number}:{int(now * 1e6)}", at=moment(now))
            sent = await self._producer.send_and_wait(self._log, self._codec.encode(clock), partition=number)
            self._clock.correct(now, sent.timestamp / 1000.0)
        return bool(waiting)

    async def close(self) -> None:
        """End the producer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await end(producer)

    def _needs_time(self, task: PartitionTask) -> bool:
        """Whether a partition is served, idle, and has requests that wait, or may have some in later
        stages."""
        return (
            task.idle_seconds >= self._sent_after
            and task.owned is not None
            and task.state == "serving"
            and (self._is_chain or task.owned.processor.open > 0)
        )
