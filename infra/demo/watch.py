"""Follows a run until every record of the log is folded and acknowledged."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from driftline.features.state.event_time import NEVER
from driftline.infra.demo.processes import Process, read_status
from driftline.infra.demo.progress import Moment, ProgressView
from driftline.infra.demo.topics import (
    IDLE_FOR_AT_MOST,
    end_offsets,
    newest_predictions,
    only_markers,
    opened,
)
from driftline.infra.processes.slot import status_path
from driftline.infra.report.samples import Sample
from driftline.infra.serving.deploy import stage_places
from driftline.infra.settings import Settings
from driftline.streams.declare.usecase import UseCase
from driftline.streams.records.outputs import Target

if TYPE_CHECKING:
    from kafka import KafkaConsumer

POLL_EVERY = 0.5


@dataclass(slots=True)
class WatchedRun:
    """What was seen of the worker while it ran."""

    samples: list[Sample] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    ends: dict[Target, int] = field(default_factory=dict)


class Watch:
    """Follows worker and producer until every record of the log is folded and acknowledged, and all that
    follows from it in the stages behind, if there are any."""

    def __init__(
        self,
        case: UseCase,
        settings: Settings,
        worker: Process,
        producer: Process,
        before: dict[str, Any],
    ) -> None:
        self._bootstrap = str(settings.bootstrap)
        self._places = stage_places(case, settings)
        self._path = status_path(settings, case.name)
        self._answering = self._places.targets_of(self._places.serving)
        self._worker = worker
        self._producer = producer
        self._cpu_before = float(before["cpu_seconds"])
        self._run = WatchedRun(status=before)
        self._started: float | None = None
        self._advanced = time.monotonic()
        self._rates: list[tuple[float, int]] = []

    def until_folded(self, shown: ProgressView) -> WatchedRun:
        """Show progress until all is folded; raises InfraError when something fails or stalls."""
        with opened(self._bootstrap) as reader:
            while not self._folded(reader):
                self._look(reader, shown)
                time.sleep(POLL_EVERY)
            run = self._run
            run.seconds = time.monotonic() - (self._started or time.monotonic())
        run.status = self._final_status()
        run.cpu_seconds = run.status["cpu_seconds"] - self._cpu_before
        self._sample(run.status)
        return run

    def _folded(self, reader: KafkaConsumer) -> bool:
        done = self._producer.ended()
        if self._worker.ended():
            raise self._worker.failure("the worker ended while events were coming")
        run = self._run
        run.ends = self._ends(reader)
        if self._started is None and any(run.ends.values()):
            self._started = self._advanced = time.monotonic()
        self._take_status()
        return done and self._lag() == 0 and self._passed_on(reader)

    def _ends(self, reader: KafkaConsumer, stage: int = 0) -> dict[Target, int]:
        """Where the partitions of a stage's topic end."""
        topic = self._places.input(Target(stage, 0)).topic
        return {Target(stage, partition): end for partition, end in end_offsets(reader, topic).items()}

    def _passed_on(self, reader: KafkaConsumer) -> bool:
        """Whether the stages behind the log have folded all that was sent to them. The log was folded to its
        end, stage by stage nothing more can come."""
        return all(
            only_markers(reader, self._places.input(target), folded, end)
            for stage in range(1, self._places.count)
            for target, end in self._ends(reader, stage).items()
            if (folded := self._next_offset(self._run.status, target)) < end
        )

    def _next_offset(self, status: dict[str, Any], target: Target) -> int:
        """The first offset that the worker had not folded and acknowledged, as of a status."""
        return int(status["partitions"].get(self._places.name(target), {}).get("next_offset", 0))

    def _take_status(self) -> None:
        status = read_status(self._path)
        run = self._run
        if status is None or status["at"] == run.status["at"]:
            return
        if status["next_offsets"] != run.status["next_offsets"]:
            self._advanced = time.monotonic()
        elif self._lag() and time.monotonic() - self._advanced > IDLE_FOR_AT_MOST:
            raise self._worker.failure(f"the worker has not moved for {IDLE_FOR_AT_MOST:g} s")
        self._sample(status)
        run.status = status

    def _sample(self, status: dict[str, Any]) -> None:
        """Keep a status; its metrics only when they are newer than the last ones."""
        at = _event_time(status)
        if at is None or self._started is None:
            return
        run = self._run
        known = next((s.models for s in reversed(run.samples) if s.models), {})
        models = status["models"] if status["models"] != known else {}
        run.samples.append(
            Sample(
                at,
                time.monotonic() - self._started,
                status["counts"]["events"],
                status["rss_bytes"],
                models,
                {target.partition: self._next_offset(status, target) for target in self._answering},
            )
        )

    def _lag(self) -> int:
        status = self._run.status
        return sum(max(0, end - self._next_offset(status, at)) for at, end in self._run.ends.items())

    def _look(self, reader: KafkaConsumer, shown: ProgressView) -> None:
        if self._started is None:
            return
        run = self._run
        now = time.monotonic()
        events = run.status["counts"]["events"]
        self._rates = [*(r for r in self._rates if now - r[0] < 5), (now, events)]
        (first_at, first), (last_at, last) = self._rates[0], self._rates[-1]
        shown.show(
            Moment(
                wall=now - self._started,
                at=_event_time(run.status),
                events=events,
                events_per_second=(last - first) / (last_at - first_at) if last_at > first_at else 0.0,
                lag=self._lag(),
                predictions=run.status["counts"]["predictions"],
                drift_events=run.status["counts"]["drift_events"],
                rss=run.status["rss_bytes"],
                models=run.status["models"],
                newest=newest_predictions(reader, self._places.topics.predictions)
                if shown.wants_predictions
                else (),
            )
        )

    def _final_status(self) -> dict[str, Any]:
        """The status whose metrics cover everything: the one written as the worker ends."""
        self._worker.stop()
        status = read_status(self._path)
        if status is None or (status["counts"]["predictions"] and not status["models"]):
            raise self._worker.failure("the worker left no final status")
        return status


def _event_time(status: dict[str, Any]) -> float | None:
    """Newest event time that the worker has seen, in seconds; None before the first event."""
    at = status["event_time"]
    return at if at is not None and at > NEVER else None
