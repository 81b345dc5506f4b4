"""The worker: Faust agents, one for each stage, that pass the records of their partitions to the tasks."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import faust
from faust.types import TP

from driftline.features.state.event_time import NEVER
from driftline.garbage_collection import Garbage
from driftline.streams.checkpoints.cadence import CheckpointBudget
from driftline.streams.connection.async_clients import faust_credentials
from driftline.streams.declare.usecase import UseCase
from driftline.streams.owner.alignment import Alignment, bound_of
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.owned_partition import Held
from driftline.streams.owner.partition_task import Frame, PartitionTask
from driftline.streams.owner.retry_pause import is_broker_trouble
from driftline.streams.owner.upgrade.handover import HANDOVER_LOOK_EVERY, Handover
from driftline.streams.owner.upgrade.standby import Standby
from driftline.streams.records.outputs import Target
from driftline.streams.records.ports import Place
from driftline.streams.stages.itinerary import Itinerary
from driftline.streams.status.endpoint import Endpoint
from driftline.streams.status.worker_status import WorkerStatus
from driftline.streams.transport import frame
from driftline.streams.transport.clock_events import ClockEvents, clock_lag_of
from driftline.streams.transport.kafka_broker import AppendedRecord, KafkaBroker
from driftline.streams.transport.membership import Membership
from driftline.streams.transport.process_restart import Lost
from driftline.streams.transport.reference_watch import ReferenceWatch
from driftline.streams.transport.topics_watch import TopicsWatch

log = logging.getLogger("driftline.worker")

STATUS_EVERY = 1.0
TOPICS_EVERY = 15.0
MEMBERSHIP_EVERY = 10.0
"""Seconds between statuses, and between checks of the topics' settings and of the group."""


def alignment_of(case: UseCase, itinerary: Itinerary) -> Alignment:
    """The alignment of a worker's intakes. Of a partition without events in another worker only the time is
    known that it is sent: in a live case that is no reason to wait."""
    return Alignment(bound_of(case, itinerary) + clock_lag_of(case), itinerary.plan.stages[0].partitions)


class Worker:
    """The partitions of one case that this process owns, of whichever stage.

    `status_path` gets a JSON status once a second, written whole or not at all; its folder is Faust's
    data folder too. `client_id` is the process's name to Kafka. `upgrading` are partitions of the log with
    which it takes over from other code, `handover` says how it takes a chain over. `topics` looks at the
    topics' settings while it serves, `membership` at the group. `metrics` is the
    address, host:port, at which it serves its metrics and health (None: nowhere).
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
        metrics: str | None = None,
        handover: Handover | None = None,
    ) -> None:
        self.case = deployment.case
        if (itinerary := deployment.itinerary) is not None:
            alignment = alignment_of(deployment.case, itinerary)
            deployment = replace(deployment, alignment=alignment, handover=handover)
        self._deployment = deployment
        stages = [deployment.of_stage(number) for number in range(deployment.stages)]
        self._stages = {stage.topic: stage for stage in stages}
        self._bootstrap = bootstrap
        self._faust_folder = status_path.parent / "faust"
        self._client_id = client_id
        self._partition_tasks: dict[Target, PartitionTask] = {}
        self._budget = CheckpointBudget()
        self._held: dict[Target, Held] = {}
        self._upgrading = dict(upgrading or {})
        self._references = ReferenceWatch()
        self._topics = topics
        self._membership = membership
        self._handover = handover
        self._clock_events = ClockEvents(deployment, bootstrap, self._partition_tasks)
        self._garbage = Garbage()
        self._closing = False
        self._endpoint = None if metrics is None else Endpoint(metrics, self._states)
        self.status = WorkerStatus(
            status_path,
            deployment,
            self._partition_tasks,
            lambda: topics.troubles,
            self._log_end,
            None if self._endpoint is None else self._endpoint.metrics,
        )
        self.failure: BaseException | None = None
        """The error that ended the worker, if any."""
        self.superseded = ""
        """What other code has taken over, if that ended the worker: that is not a failure."""
        self.app = self._build_app(deployment.group)

    def _build_app(self, group: str) -> faust.App:
        app = faust.App(
            group,
            broker=f"kafka://{self._bootstrap}",
            broker_credentials=faust_credentials(),
            broker_client_id=self._client_id,
            store="memory://",
            TableManager=frame.NoTables,
            topic_disable_leader=True,
            topic_allow_declare=False,
            topic_partitions=self.case.partitions,
            web_enabled=False,
            worker_redirect_stdouts=False,
            stream_wait_empty=False,
            broker_session_timeout=10.0,
            broker_heartbeat_interval=1.0,
            broker_rebalance_timeout=20.0,
            broker_commit_interval=0.5,
            consumer_metadata_max_age_ms=10_000,  # notices a log that is created again
            datadir=self._faust_folder,
        )
        frame.install(app)
        if isinstance(self._deployment.broker, KafkaBroker):
            self._deployment.broker.tell_appended(self._stages, self._appended)
        for name in self._stages:
            topic = app.topic(name, value_type=bytes, value_serializer="raw")
            app.agent(topic, name=f"{name}.fold")(self._dispatch)
        app.on_partitions_assigned.connect(self._assigned, weak=False)
        app.on_partitions_revoked.connect(self._revoked, weak=False)
        app.task(self._report)
        app.task(self._watch_topics)
        app.task(self._watch_membership)
        if self._endpoint is not None:
            app.task(self._endpoint.run)
        if self.case.clock == "wall":
            app.task(self._send_time)
        if self._handover is not None:
            app.task(self._hand_over)
        return app

    def _states(self) -> dict[str, str]:
        return {task.name: task.state for _, task in sorted(self._partition_tasks.items())}

    def _log_end(self, target: Target) -> int | None:
        """The offset after the last record of a partition of a stage's topic, as of the last fetch."""
        place = self._deployment.places.input(target)
        return self.app.consumer.highwater(TP(place.topic, place.partition)) or None

    def _target(self, tp: TP) -> Target:
        return Target(self._stages[tp.topic].stage, tp.partition)

    def _appended(self, place: Place, records: Sequence[AppendedRecord]) -> None:
        """What a stage has appended for another one is read at once, where that is in this process."""
        self.app.consumer.appended(TP(*place), records)

    async def _dispatch(self, stream: Any) -> None:
        """Give each frame to its partition; each is acknowledged when its outputs are."""
        frames = stream.noack()
        async for event in frames.events():
            partition_task = self._partition_tasks.get(self._target(event.message.tp))
            if partition_task is not None:  # otherwise it was revoked meanwhile
                partition_task.put(Frame(event.value, event.ack))

    async def _assigned(self, _app: Any, assigned: set[TP], **_: Any) -> None:
        mine = {self._target(tp) for tp in assigned if tp.topic in self._stages}
        await self._give_back(set(self._partition_tasks) - mine)
        for target in sorted(mine - set(self._partition_tasks)):
            standby = self._upgrading.pop(target.partition, None) if target.stage == 0 else None
            if self._deployment.alignment is not None and target.stage > 0:
                self._deployment.alignment.come_to(target, NEVER)
            stage, held = self._deployment.of_stage(target.stage), self._held.get(target)
            task = PartitionTask(stage, target.partition, self._budget, held, standby)
            self._partition_tasks[target] = task
            task.start().add_done_callback(self._done)
        self._tell_written_alone()
        self._budget.partitions = max(1, len(self._partition_tasks))
        if self._held:
            self._held.clear()  # states of partitions of other workers are not kept
            gc.unfreeze()  # nor excluded from the next garbage collection

    async def _revoked(self, _app: Any, revoked: set[TP], **_: Any) -> None:
        gone = {self._target(tp) for tp in revoked if tp.topic in self._stages}
        await self._give_back(gone & set(self._partition_tasks))
        self._tell_written_alone()

    def _tell_written_alone(self) -> None:
        """Tell the consumer to which partitions only this process writes."""
        alone = self._deployment.places.written_alone(self._partition_tasks)
        self.app.consumer.write_alone({TP(*place) for place in alone})

    async def _give_back(self, targets: set[Target]) -> None:
        leaving = {target: self._partition_tasks.pop(target) for target in targets}
        for target, held in zip(
            leaving,
            await asyncio.gather(*(partition_task.stop() for partition_task in leaving.values())),
            strict=True,
        ):
            if held is not None:
                self._held[target] = held
            if self._deployment.alignment is not None:
                self._deployment.alignment.forget(target)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End the worker as SIGTERM would; `run` then reports the error."""
        if self.failure is None and not self.superseded:
            self.failure = error
            os.kill(os.getpid(), signal.SIGTERM)

    def _end_superseded(self, reason: str) -> None:
        """End the worker with exit code 0: a supervisor that restarts after a failure must not start its code
        again."""
        if self.failure is None and not self.superseded:
            self.superseded = reason
            log.warning("the worker ends, as other code has taken over: %s", reason)
            os.kill(os.getpid(), signal.SIGTERM)

    async def _watch_topics(self) -> None:
        while not self.app.should_stop:
            await asyncio.sleep(TOPICS_EVERY)
            await self._topics.look()
            tasks = [one for target, one in self._partition_tasks.items() if target.stage == 0]
            serving = [one.owned for one in tasks if one.state == "serving"]
            await self._references.look([one for one in serving if one is not None])

    async def _watch_membership(self) -> None:
        while not self.app.should_stop:
            await asyncio.sleep(MEMBERSHIP_EVERY)
            await self._membership.look()
            if self._membership.lost:
                self.fail(Lost(self._membership.lost))

    async def _hand_over(self) -> None:
        """See how far the take-over from other code has come, until that is done."""
        assert self._handover is not None
        while not self.app.should_stop and not self._handover.is_done:
            await asyncio.sleep(HANDOVER_LOOK_EVERY)
            tasks = self._partition_tasks.items()
            try:
                await self._handover.look({target: task.owned for target, task in tasks})
            except Exception as error:
                if not is_broker_trouble(error):
                    self.fail(error)
                    return

    async def _send_time(self) -> None:
        """Send the time to idle partitions of a live case, while requests wait there."""
        while not self.app.should_stop:
            await asyncio.sleep(await self._clock_events.look())

    async def _report(self) -> None:
        while not self.app.should_stop:
            await asyncio.sleep(STATUS_EVERY)
            if self._closing:
                return  # the last status is written by close
            self._garbage.look()
            for partition_task in list(self._partition_tasks.values()):
                partition_task.tick()
                if partition_task.superseded:
                    self._end_superseded(partition_task.reason)
                elif partition_task.stalled:
                    self.fail(Lost(partition_task.stalled))
            self.status.update()

    async def close(self) -> None:
        """Finish the records at hand, store checkpoints, end the producers."""
        self._closing = True
        await asyncio.gather(*(partition_task.stop() for partition_task in self._partition_tasks.values()))
        await self.status.finish()
        self._partition_tasks.clear()
        await self._clock_events.close()
