"""The figures of the models that a worker's status shows, computed again as often as is affordable."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from driftline.online_models.pool.report import member_reports
from driftline.streams.owner.owned_partition import OwnedPartition
from driftline.streams.owner.partition_fold import PartitionFold
from driftline.streams.records.outputs import Target
from driftline.streams.status.metrics import PartitionLabels, Readings

COMPUTED_EVERY = 5.0
CPU_SHARE = 0.02
TIME_SHARE = 0.005
IDLE_SHARE = 0.1
"""Seconds between figures of the models, at least; shares that computing them may take: of the worker's CPU,
of the time in any case, and of the time of a worker to which nothing comes."""


class PoolFigures(NamedTuple):
    """How many pools are in which state of drift, open incidents by kind, in how many subjects they show by
    kind and state, by partition the offset of the newest label that a pool learned from, and by partition and
    member how often it failed."""

    states: Counter[str]
    incidents: Counter[str]
    subjects: Counter[tuple[str, str]]
    learned_through: dict[int, int]
    failures: Counter[tuple[int, str]]

    @classmethod
    def of(cls, processors: Iterable[PartitionFold]) -> PoolFigures:
        """Of the pools as they are now."""
        figures = cls(Counter(), Counter(), Counter(), {}, Counter())
        for processor in processors:
            pools = processor.pools()
            figures.learned_through[processor.partition] = max(
                (pool.learned_through for pool in pools), default=-1
            )
            for seat in (seat for pool in pools for seat in pool.roster.seats):
                failures = seat.state.failures
                figures.failures[processor.partition, seat.name] += failures.total if failures else 0
            for drift in (pool.drift for pool in pools):
                if drift is not None:
                    figures.states[drift.state] += 1
                    for subject in drift.suspected:
                        figures.subjects[subject, drift.state] += 1
                    if drift.open_incident is not None:
                        figures.incidents[drift.open_incident] += 1
        return figures


def add_pools(
    readings: Readings,
    figures: PoolFigures,
    serving: Mapping[int, OwnedPartition],
    labels: Callable[[int], PartitionLabels],
) -> None:
    """Add what the pools have come to; of partitions only those that are served, under their `labels`."""
    for state, count in figures.states.items():
        readings.set("pools", count, state)
    for kind, count in figures.incidents.items():
        readings.set("open_incidents", count, kind)
    for (subject, state), count in figures.subjects.items():
        readings.set("drift_subjects", count, subject, state)
    for number, offset in figures.learned_through.items():
        if number in serving:
            readings.set(
                "model_staleness_records", serving[number].acknowledged - offset - 1, *labels(number)
            )
    for (number, member), count in figures.failures.items():
        if number in serving:
            readings.set("model_failures", count, *labels(number), member)


Processors = Callable[[], Sequence[PartitionFold]]


class _Computed(NamedTuple):
    """When figures were computed: by the clock, by CPU spent until then, and what they cost (seconds)."""

    at: float
    cpu: float
    cost: float

    def is_outdated(self, settled: bool) -> bool:
        """Whether to compute them again; `settled`: nothing has come since the last look."""
        passed = time.monotonic() - self.at
        if settled:
            return passed >= self.cost / IDLE_SHARE
        spent = time.process_time() - self.cpu
        affordable = spent >= self.cost / CPU_SHARE or passed >= self.cost / TIME_SHARE
        return affordable and passed >= COMPUTED_EVERY


class ModelFigures:
    """The newest figures of each member over a worker's partitions, as `models`, by the member's name, and of
    the pools in `served` ones: while a partition is folded again, what is counted there goes back."""

    def __init__(self, processors: Processors, served: Processors) -> None:
        self._processors = processors
        self._served = served
        self._computed = _Computed(float("-inf"), 0.0, 0.0)
        self._computing: asyncio.Task[None] | None = None
        self._offsets: Mapping[Target, int] | None = None
        self._final: Mapping[Target, int] | None = None
        self.models: dict[str, Any] = {}
        self.pools = PoolFigures.of(())

    def look(self, offsets: Mapping[Target, int]) -> None:
        """Begin to compute them again when they are outdated; `offsets` say how far each partition has come.

        Raises what computing them has failed with.
        """
        # when nothing moves any more the figures are made final soon
        settled = offsets == self._offsets and offsets != self._final
        if self._computing is not None and self._computing.done():
            self._computing.result()
            self._computing = None
        if self._computing is None and self._computed.is_outdated(settled):
            self._computing = asyncio.create_task(self._compute())
            if settled:
                self._final = offsets
        self._offsets = offsets

    async def finish(self) -> None:
        """Compute them for the last time."""
        if self._computing is not None:
            self._computing.cancel()
        await self._compute()

    async def _compute(self) -> None:
        """Compute them on another thread: answers do not wait for them."""
        models, cost = {}, 0.0
        pools = PoolFigures.of(self._served())
        each = [pool for processor in self._processors() for pool in processor.pools()]
        for name, report in member_reports(each):
            models[name], seconds = await asyncio.to_thread(_timed, report)
            cost += seconds
        if models:
            self.models = models
            self.pools = pools
            self._computed = _Computed(time.monotonic(), time.process_time(), cost)


def _timed(compute: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], float]:
    """The result, and the seconds of CPU it took."""
    begun = time.thread_time()
    return compute(), time.thread_time() - begun
