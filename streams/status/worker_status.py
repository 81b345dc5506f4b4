"""What a worker reports of itself: counts, positions, cost, figures of the models, and why it ended."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from driftline.streams.fold.processor import added
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.owned_partition import OwnedPartition
from driftline.streams.owner.partition_fold import PartitionFold
from driftline.streams.owner.partition_task import PartitionTask
from driftline.streams.status.metrics import Readings, WorkerMetrics, add_models, add_rows
from driftline.streams.status.model_figures import ModelFigures, add_pools
from driftline.streams.status.partition_readings import add_checkpoints, add_partition
from driftline.streams.status.status_file import StatusFile, ended


class WorkerStatus:
    """The status of one worker, as a file and as metrics; `tasks` are its partitions as they are at any time.

    `troubles` are the topics' settings that break a guarantee. `log_end` gives the offset after the
    last record of a partition of the log, as far as this worker knows it; without `metrics` none are
    prepared.
    """

    def __init__(
        self,
        path: Path,
        deployment: Deployment,
        tasks: Mapping[int, PartitionTask],
        troubles: Callable[[], Sequence[str]],
        log_end: Callable[[int], int | None],
        metrics: WorkerMetrics | None,
    ) -> None:
        self._file = StatusFile(path)
        self._deployment = deployment
        self._tasks = tasks
        self._troubles = troubles
        self._log_end = log_end
        self._metrics = metrics
        self._figures = ModelFigures(self._processors, self._served)
        self._started = time.time()
        self._last: dict[str, Any] | None = None

    def _owned(self) -> list[OwnedPartition]:
        """What has been taken over, by partition."""
        tasks = [self._tasks[number] for number in sorted(self._tasks)]
        return [task.owned for task in tasks if task.owned is not None]

    def _processors(self) -> list[PartitionFold]:
        return [one.processor for one in self._owned()]

    def _serving(self) -> dict[int, OwnedPartition]:
        """What is served, by number."""
        tasks = self._tasks.items()
        return {n: task.owned for n, task in tasks if task.state == "serving" and task.owned is not None}

    def _served(self) -> list[PartitionFold]:
        return [owned.processor for owned in self._serving().values()]

    def update(self) -> None:
        """Write it as of now. Figures of the models are computed beside it, and are in a later one.

        Raises what computing the figures has failed with.
        """
        self._figures.look({one.partition: one.acknowledged for one in self._owned()})
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
        """The metrics as of a status of now. Of a partition that is not served yet there is its state alone:
        while it is folded again its counters would go back, and then seem to jump."""
        readings = Readings(self._deployment.case.name)
        readings.set("topic_troubles", len(status["topics"]))
        for number, task in self._tasks.items():
            readings.set("partition_state", 1.0, str(number), task.state)
            for reason, count in task.take_overs.items():
                readings.set("take_overs", count, str(number), reason)
        serving = self._serving()
        for number, owned in serving.items():
            add_partition(readings, owned, self._log_end(number))
            add_checkpoints(readings, number, status["partitions"][number])
        if (rows := self._deployment.rows) is not None:
            add_rows(readings, rows)
        add_pools(readings, self._figures.pools, serving)
        add_models(readings, status["models"])
        return readings

    def _of_now(self) -> dict[str, Any]:
        owned, processors = self._owned(), self._processors()
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
            "next_offsets": {one.partition: one.acknowledged for one in owned},
            "partitions": {number: self._tasks[number].status() for number in sorted(self._tasks)},
            "topics": list(self._troubles()),
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "rss_bytes": resident_bytes(),
            "counts": added(processor.counts() for processor in processors),
            "models": self._figures.models,
        }


def resident_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
