"""What a worker reports of itself: counts, positions, cost, figures of the models, and why it ended."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from driftline.streams.fold.label_join import LabelTally
from driftline.streams.fold.processor import added
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.owned_partition import OwnedPartition
from driftline.streams.owner.partition_fold import PartitionFold
from driftline.streams.owner.partition_task import PartitionTask
from driftline.streams.records.outputs import Target
from driftline.streams.status.metrics import (
    PartitionLabels,
    Readings,
    WorkerMetrics,
    add_models,
    add_replicas,
    add_rows,
)
from driftline.streams.status.model_figures import ModelFigures, add_pools
from driftline.streams.status.partition_readings import add_checkpoints, add_partition
from driftline.streams.status.status_file import StatusFile, ended


class WorkerStatus:
    """The status of one worker, as a file and as metrics; `tasks` are its partitions as they are at any time,
    of the stages behind the log too.

    `troubles` are the topics' settings that break a guarantee. `log_end` gives the offset after the
    last record of a partition of a stage's topic, as far as this worker knows it; without `metrics` none are
    prepared.
    """

    def __init__(
        self,
        path: Path,
        deployment: Deployment,
        tasks: Mapping[Target, PartitionTask],
        troubles: Callable[[], Sequence[str]],
        log_end: Callable[[Target], int | None],
        metrics: WorkerMetrics | None,
    ) -> None:
        self._file = StatusFile(path)
        self._deployment = deployment
        self._tasks = tasks
        self._troubles = troubles
        self._log_end = log_end
        self._metrics = metrics
        self._answers = deployment.of_stage(deployment.stages - 1)
        self._figures = ModelFigures(self._answering, self._served)
        self._started = time.time()
        self._last: dict[str, Any] | None = None

    def _owned(self) -> dict[Target, OwnedPartition]:
        """The partitions that are taken over, by stage and number."""
        tasks = [(target, self._tasks[target].owned) for target in sorted(self._tasks)]
        return {target: owned for target, owned in tasks if owned is not None}

    def _answering(self) -> list[PartitionFold]:
        """The folds that have models: those of the last stage."""
        return [one.processor for target, one in self._owned().items() if target.stage == self._answers.stage]

    def _serving(self) -> dict[Target, OwnedPartition]:
        """The partitions that are served, by stage and number."""
        tasks = self._tasks.items()
        return {at: task.owned for at, task in tasks if task.state == "serving" and task.owned is not None}

    def _serving_models(self) -> dict[int, OwnedPartition]:
        """The partitions of the last stage that are served, by number."""
        serving = self._serving().items()
        return {target.partition: one for target, one in serving if target.stage == self._answers.stage}

    def _served(self) -> list[PartitionFold]:
        return [owned.processor for owned in self._serving_models().values()]

    def update(self) -> None:
        """Write it as of now. Figures of the models are computed beside it, and are in a later one.

        Raises the error of a computation of figures that failed.
        """
        self._figures.look({target: one.acknowledged for target, one in self._owned().items()})
        status = self._of_now()
        self._file.write(status)
        if self._metrics is not None:
            self._metrics.show(self._readings(status))

    async def finish(self) -> None:
        """Write the last one of the partitions, before they are forgotten, with final figures."""
        await self._figures.finish()
        self._last = self._of_now()
        self._file.write(self._last)

    def write_end(self, reason: str, *, failed: bool) -> None:
        """Write the last one, which says why the worker ended."""
        self._file.write((self._last or self._of_now()) | {"ended": ended(reason, failed=failed)})

    def _readings(self, status: Mapping[str, Any]) -> Readings:
        """The metrics at this moment. A partition that is not served yet has only its state: while it is
        folded again its counters would go back, and then seem to jump."""
        readings = Readings(self._deployment.case.name)
        readings.set("topic_troubles", len(status["topics"]))
        for target, task in self._tasks.items():
            where = self._labels(target)
            readings.set("partition_state", 1.0, *where, task.state)
            for reason, count in task.take_overs.items():
                readings.set("take_overs", count, *where, reason)
        for target, owned in self._serving().items():
            where = self._labels(target)
            add_partition(readings, where, owned, self._log_end(target))
            add_checkpoints(readings, where, status["partitions"][where.partition])
        if (rows := self._deployment.rows) is not None:
            add_rows(readings, rows)
        add_pools(readings, self._figures.pools, self._serving_models(), self._of_answers)
        add_replicas(readings, self._deployment.case.models)
        add_models(readings, status["models"])
        return readings

    def _labels(self, target: Target) -> PartitionLabels:
        """The labels of a partition's metrics."""
        return PartitionLabels(self._tasks[target].name, self._deployment.places.kind(target.stage))

    def _of_answers(self, partition: int) -> PartitionLabels:
        """Those of a partition of the last stage."""
        return PartitionLabels(
            self._answers.name(partition), self._deployment.places.kind(self._answers.stage)
        )

    def _of_now(self) -> dict[str, Any]:
        owned = self._owned()
        processors = [one.processor for one in owned.values()]
        usage = resource.getrusage(resource.RUSAGE_SELF)
        times = [at for processor in processors if (at := processor.max_at) is not None]
        return {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "case": self._deployment.case.name,
            "log": self._deployment.topics.log,
            "code": self._deployment.code.short,
            "at": time.time(),
            "started": self._started,
            "ended": None,
            "before": self._file.before,
            "event_time": max(times, default=None),
            "next_offsets": {
                target.partition: one.acknowledged for target, one in owned.items() if target.stage == 0
            },
            "partitions": {
                self._tasks[target].name: self._partition(target) for target in sorted(self._tasks)
            },
            "topics": list(self._troubles()),
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "rss_bytes": resident_bytes(),
            "counts": added(processor.counts() for processor in processors),
            "labels": asdict(sum((processor.labels for processor in processors), LabelTally())),
            "models": self._figures.models,
        }

    def _partition(self, target: Target) -> dict[str, Any]:
        """The status of one partition; in later stages with the topic."""
        status = self._tasks[target].status()
        return (
            status if target.stage == 0 else status | {"topic": self._deployment.places.input(target).topic}
        )


def resident_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
