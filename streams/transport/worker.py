"""The worker: a Faust agent that hands the partitions it is given to their partition_task."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import faust
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.types import TP

from driftline.features.online.outages import Outage
from driftline.online_models.pool.report import member_reports
from driftline.streams.checkpoints.cadence import CheckpointBudget
from driftline.streams.connection.closing import end
from driftline.streams.connection.library_log import leave_out_what_passes
from driftline.streams.connection.repeats import hold_back_repeats
from driftline.streams.declare.events import Clock, moment
from driftline.streams.fold.processor import counts_of, pools_of
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.owned_partition import Held, OwnedPartition
from driftline.streams.owner.partition_task import Frame, PartitionTask
from driftline.streams.owner.standby import Standby
from driftline.streams.owner.takeover import OtherCode
from driftline.streams.transport import frame
from driftline.streams.transport.broker_clock import BrokerClock
from driftline.streams.transport.membership import Membership
from driftline.streams.transport.reference_watch import ReferenceWatch
from driftline.streams.transport.renewal import ENDS_WITHIN, Deadline, Lost, Renewals, end_now
from driftline.streams.transport.status_file import StatusFile, ended
from driftline.streams.transport.topics_watch import TopicsWatch

log = logging.getLogger("driftline.worker")

STATUS_EVERY = 1.0
METRICS_EVERY = 5.0
METRICS_SHARE = 0.02
TIME_SHARE = 0.005
IDLE_SHARE = 0.1
"""Seconds between figures of the models, at least; shares that computing them may take: of the worker's CPU,
of the time in any case, and of the time of a worker to which nothing comes."""
TIDY_EVERY = 60.0
"""Seconds between garbage collections that set apart what survives: those to come need not walk through all
windows and waiting predictions."""
COLLECT_EVERY = 3600.0
"""Seconds between collections of everything, for which answers wait: a tenth of a second and more."""
TOPICS_EVERY = 15.0
MEMBERSHIP_EVERY = 10.0
"""Seconds between looks at the settings of the topics, and at the group while there are no partitions."""
TOLD_WITHIN = 10.0
RETRY_AFTER = 2.0
"""Seconds that telling the time may take, and between two attempts when it fails."""
CLOCK_AFTER = 5.0
"""Seconds without a record after which a live case's partition gets a clock event, while requests wait."""


class _Measured(NamedTuple):
    """When figures were computed: by the clock, by CPU spent until then, and what they cost (seconds)."""

    at: float
    cpu: float
    cost: float

    def is_outdated(self, settled: bool) -> bool:
        """Whether to compute them anew; `settled`: nothing has come since the last look."""
        passed = time.monotonic() - self.at
        if settled:
            return passed >= self.cost / IDLE_SHARE
        spent = time.process_time() - self.cpu
        affordable = spent >= self.cost / METRICS_SHARE or passed >= self.cost / TIME_SHARE
        return affordable and passed >= METRICS_EVERY


class Worker:
    """The partitions of one case that this process owns.

    `status_path` gets a JSON status once a second, written whole or not at all; its folder is Faust's
    data folder too. `client_id` is the process's name to Kafka. `upgrading` are partitions with which it
    takes over from other code. `topics` looks at the topics' settings while it serves,
    `membership` at the group while it has no partitions.
    """

    def __init__(
        self,
        deployment: Deployment,
        bootstrap: str,
        *,
        status_path: Path,
        client_id: str = "driftline",
        upgrading: Mapping[int, Standby] | None = None,
        topics: TopicsWatch,
        membership: Membership,
    ) -> None:
        self.case = deployment.case
        self._deployment = deployment
        self._bootstrap = bootstrap
        self._status_file = StatusFile(status_path)
        self._client_id = client_id
        self._partition_tasks: dict[int, PartitionTask] = {}
        self._budget = CheckpointBudget()
        self._held: dict[int, Held] = {}
        self._upgrading = dict(upgrading or {})
        self._references = ReferenceWatch()
        self._topics = topics
        self._membership = membership
        self._clock = BrokerClock()
        self._clock_producer: AIOKafkaProducer | None = None
        self._models: dict[str, Any] = {}
        self._measured = _Measured(float("-inf"), 0.0, 0.0)
        self._measuring: asyncio.Task[None] | None = None
        self._started = time.time()
        self._closing = False
        self._last_status: dict[str, Any] | None = None
        self.failure: BaseException | None = None
        """What ended the worker, when it was not asked to end."""
        self.app = self._build_app(deployment.group)

    def _build_app(self, group: str) -> faust.App:
        app = faust.App(
            group,
            broker=f"kafka://{self._bootstrap}",
            broker_client_id=self._client_id,
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
            consumer_metadata_max_age_ms=10_000,  # a log that was away is found again
            datadir=self._status_file.path.parent / "faust",
        )
        frame.install(app)
        topic = app.topic(self._deployment.topics.log, value_type=bytes, value_serializer="raw")
        app.agent(topic, name=f"{self.case.name}.fold")(self._dispatch)
        app.on_partitions_assigned.connect(self._assigned, weak=False)
        app.on_partitions_revoked.connect(self._revoked, weak=False)
        app.task(self._report)
        app.task(self._watch_topics)
        app.task(self._watch_membership)
        if self.case.clock == "wall":
            app.task(self._tell_time)
        return app

    async def _dispatch(self, stream: Any) -> None:
        """Give each frame to its partition; each is acknowledged when its outputs are."""
        frames = stream.noack()
        async for event in frames.events():
            partition_task = self._partition_tasks.get(event.message.partition)
            if partition_task is not None:  # else it was taken away since
                partition_task.put(Frame(event.value, event.ack))

    async def _assigned(self, _app: Any, assigned: set[TP], **_: Any) -> None:
        mine = {tp.partition for tp in assigned if tp.topic == self._deployment.topics.log}
        await self._give_back(set(self._partition_tasks) - mine)
        for number in sorted(mine - set(self._partition_tasks)):
            self._take(number, self._held.get(number))
        self._budget.partitions = max(1, len(self._partition_tasks))
        self._held.clear()  # what went to somebody else is not kept
        gc.unfreeze()  # nor left out of the next collection

    async def _revoked(self, _app: Any, revoked: set[TP], **_: Any) -> None:
        await self._give_back({tp.partition for tp in revoked} & set(self._partition_tasks))

    def _take(self, number: int, held: Held | None) -> None:
        standby = self._upgrading.pop(number, None)
        partition_task = PartitionTask(self._deployment, number, self._budget, held, standby)
        self._partition_tasks[number] = partition_task
        partition_task.start().add_done_callback(self._done)

    async def _give_back(self, numbers: set[int]) -> None:
        leaving = {number: self._partition_tasks.pop(number) for number in numbers}
        for number, held in zip(
            leaving,
            await asyncio.gather(*(partition_task.stop() for partition_task in leaving.values())),
            strict=True,
        ):
            if held is not None:
                self._held[number] = held

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """End the worker as SIGTERM would; `run` then tells of the error."""
        if self.failure is None:
            self.failure = error
            os.kill(os.getpid(), signal.SIGTERM)

    async def _watch_topics(self) -> None:
        while not self.app.should_stop:
            await asyncio.sleep(TOPICS_EVERY)
            await self._topics.look()
            serving = [one.owned for one in self._partition_tasks.values() if one.state == "serving"]
            await self._references.look([one for one in serving if one is not None])

    async def _watch_membership(self) -> None:
        while not self.app.should_stop:
            await asyncio.sleep(MEMBERSHIP_EVERY)
            if self._partition_tasks:
                self._membership.confirm()
                continue
            await self._membership.look()
            if self._membership.lost:
                self._fail(Lost(self._membership.lost))

    async def _tell_time(self) -> None:
        """Tell idle partitions of a live case what time it is, while requests wait there."""
        outage: Outage | None = None
        while not self.app.should_stop:
            await asyncio.sleep(1.0 if outage is None else RETRY_AFTER)
            try:
                async with asyncio.timeout(TOLD_WITHIN):
                    told = await self._tell_idle()
            except (KafkaError, OSError) as error:
                # what time it is can be told later as well; what was not sent is not sent then
                outage = outage or Outage("telling idle partitions the time")
                outage.failed(error)
                await self._end_clock_producer()
            else:
                if outage is not None and told:
                    outage.ended()
                    outage = None

    async def _tell_idle(self) -> bool:
        """Tell each idle partition that waits for it; whether there was one."""
        told = False
        codec = self.case.codec()
        for number, partition_task in list(self._partition_tasks.items()):
            owned = partition_task.owned
            if (
                partition_task.idle_seconds < CLOCK_AFTER
                or owned is None
                or partition_task.state != "serving"
            ):
                continue
            if not owned.processor.intake.open_predictions:
                continue
            if self._clock_producer is None:
                self._clock_producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all")
                await self._clock_producer.start()
            now = self._clock.now()
            clock = Clock(id=f"clock:{number}:{int(now * 1e6)}", at=moment(now))
            sent = await self._clock_producer.send_and_wait(
                self._deployment.topics.log, codec.encode(clock), partition=number
            )
            self._clock.correct(now, sent.timestamp / 1000.0)
            told = True
        return told

    async def _end_clock_producer(self) -> None:
        producer, self._clock_producer = self._clock_producer, None
        if producer is not None:
            await end(producer)

    def _owned(self) -> list[OwnedPartition]:
        """What has been taken over, by partition."""
        found = (self._partition_tasks[number].owned for number in sorted(self._partition_tasks))
        return [owned for owned in found if owned is not None]

    def status(self) -> dict[str, Any]:
        """Counts, positions, cost and the metrics of a while ago of this worker."""
        partition_tasks = {number: self._partition_tasks[number] for number in sorted(self._partition_tasks)}
        owned = self._owned()
        processors = [one.processor for one in owned]
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "pid": os.getpid(),
            "case": self.case.name,
            "log": self._deployment.topics.log,
            "code": self._deployment.code.short,
            "at": time.time(),
            "started": self._started,
            "ended": None,
            "before": self._status_file.before,
            "event_time": max((at for p in processors if (at := p.intake.max_at) is not None), default=None),
            "next_offsets": {one.partition: one.acknowledged for one in owned},
            "partitions": {
                number: partition_task.status() for number, partition_task in partition_tasks.items()
            },
            "topics": list(self._topics.troubles),
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "rss_bytes": _rss_bytes(),
            "counts": counts_of(processors),
            "models": self._models,
        }

    def write_status(self) -> None:
        """Write the status file."""
        self._status_file.write(self.status())

    def tell_end(self, reason: str, *, failed: bool) -> None:
        """Write the last status, which says why the worker ended."""
        status = self._last_status or self.status()
        self._status_file.write(status | {"ended": ended(reason, failed=failed)})

    async def _measure_models(self) -> None:
        """Compute the figures of the models anew, on another thread: answers do not wait for them."""
        models, cost = {}, 0.0
        for name, report in member_reports(pools_of([one.processor for one in self._owned()])):
            models[name], seconds = await asyncio.to_thread(_timed, report)
            cost += seconds
        if models:
            self._models = models
            self._measured = _Measured(time.monotonic(), time.process_time(), cost)

    async def _report(self) -> None:
        tidied, collected = float("-inf"), time.monotonic()
        last: Any = None
        final: Any = None
        while not self.app.should_stop:
            await asyncio.sleep(STATUS_EVERY)
            now = time.monotonic()
            if now - tidied > TIDY_EVERY:
                if now - collected > COLLECT_EVERY:
                    gc.unfreeze()
                    collected = now
                gc.collect()
                gc.freeze()
                tidied = now
            offsets = {}
            for number, partition_task in list(self._partition_tasks.items()):
                partition_task.tick()
                if partition_task.owned is not None:
                    offsets[number] = partition_task.owned.acknowledged
                if partition_task.superseded:
                    self._fail(OtherCode(partition_task.reason))
                elif partition_task.stalled:
                    self._fail(Lost(partition_task.stalled))
            # when nothing moves any more the figures are made final soon
            settled = offsets == last and offsets != final
            if self._measuring is not None and self._measuring.done():
                self._measuring.result()  # raises what it has failed with
                self._measuring = None
            if self._measuring is None and self._measured.is_outdated(settled):
                self._measuring = asyncio.create_task(self._measure_models())
                if settled:
                    final = offsets
            if self._closing:
                return  # the last status is written by close
            self.write_status()
            last = offsets

    async def close(self) -> None:
        """Finish what is at hand, store checkpoints, end the producers."""
        self._closing = True
        await asyncio.gather(*(partition_task.stop() for partition_task in self._partition_tasks.values()))
        if self._measuring is not None:
            self._measuring.cancel()
        await self._measure_models()
        self._last_status = self.status()
        self._status_file.write(self._last_status)
        self._partition_tasks.clear()
        await self._end_clock_producer()


def _timed(compute: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], float]:
    """What it gives, and the seconds of CPU it took."""
    begun = time.thread_time()
    return compute(), time.thread_time() - begun


def _rss_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Service(faust.Worker):  # type: ignore[misc]
    """Faust's worker, with a log that stays readable, and a start whose failure is one."""

    crash_reason: BaseException | None

    async def start(self) -> None:
        """Start, and serve. What a start fails with is a crash; mode would log it, and end as if asked."""
        try:
            await super().start()
        except Exception as error:
            self.crash_reason = self.crash_reason or error

    def on_setup_root_logger(self, logger: logging.Logger, level: int) -> None:
        super().on_setup_root_logger(logger, level)
        hold_back_repeats(logger)


class _Term:
    """One worker's life within this process, and how it ends."""

    def __init__(self, worker: Worker, renewals: Renewals) -> None:
        self._worker = worker
        self._renewals = renewals
        self.service = _Service(worker.app, loglevel="WARN", quiet=True)
        self.service.spinner = None  # it would have every library log at DEBUG, so as to turn at each message

    @property
    def is_ending(self) -> bool:
        return bool(self.service.should_stop or self._worker.app.should_stop)

    @property
    def failure(self) -> BaseException | None:
        """What ended the worker, when it was not asked to end."""
        if self._worker.failure is not None:
            return self._worker.failure
        crash = self.service.crash_reason or self._worker.app.crash_reason
        if crash is not None and self.service._signal_stop_time is None:
            return Lost(f"{type(crash).__name__}: {crash}")
        return None

    def last_resort(self) -> None:
        failure = self.failure
        self.tell()
        log.warning("what the worker had begun did not end within %g s", ENDS_WITHIN)
        if isinstance(failure, Lost):
            self._renewals.begin_anew(str(failure))
        if failure is not None:
            log.error("driftline: %s", failure)
        end_now(0 if failure is None else 1)

    def tell(self) -> None:
        """Write down why it ended."""
        failure = self.failure
        if failure is None:
            self._worker.tell_end("it was asked to end", failed=False)
        elif isinstance(failure, Lost):
            self._worker.tell_end(f"it {self._renewals.told(str(failure))}", failed=True)
        else:
            self._worker.tell_end(str(failure) or type(failure).__name__, failed=True)


def run(worker: Worker, renewals: Renewals, closing: Callable[[], Awaitable[None]] | None = None) -> None:
    """Run until SIGTERM or SIGINT; leaves the group and exits 0 then, else raises what ended it.

    Where that is the connection to Kafka, the process begins anew, by `renewals`. `closing` is awaited when
    the partitions have been given back.
    """
    sys.setswitchinterval(0.0005)  # the row writer's thread must not hold up answers for 5 ms
    term = _Term(worker, renewals)

    @worker.app.on_before_shutdown.connect  # type: ignore[untyped-decorator]
    async def ending(*_: Any, **__: Any) -> None:
        await worker.close()
        if closing is not None:
            await closing()

    leave_out_what_passes()
    deadline = Deadline(term)
    deadline.start()
    exited: SystemExit | None = None
    try:
        term.service.execute_from_commandline()
    except SystemExit as error:
        exited = error
    deadline.over()
    term.tell()
    failure = term.failure
    if isinstance(failure, Lost):
        renewals.begin_anew(str(failure))
    if failure is not None:
        raise failure
    if exited is not None:
        raise exited
