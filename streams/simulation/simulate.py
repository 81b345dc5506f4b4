"""The fold over a file or a case's own source, without Kafka: the same bytes as production."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from itertools import chain
from typing import Any, Protocol

from driftline.garbage_collection import seldom_collected
from driftline.streams.code.hash_seed import warn_unless_pinned
from driftline.streams.declare.case_models import check_models_of
from driftline.streams.declare.events import Event
from driftline.streams.declare.plan import plan_of
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.processor import PartitionProcessor, Summary, summarize
from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.chain_simulation import ChainSimulation
from driftline.streams.simulation.digest import Digests
from driftline.streams.simulation.recording import Recorded
from driftline.streams.simulation.sources import (
    AS_IT_IS,
    LogRecord,
    as_warm_up,
    layout,
    open_log,
    open_source,
    with_closing_clock,
)
from driftline.streams.simulation.tables import Reading


def result(
    case: UseCase, summary: Summary, seconds: float, cpu_seconds: float, digests: dict[str, str]
) -> dict[str, Any]:
    """The one JSON object that simulate and demo print; `digest` is that of the predictions."""
    counts = summary.counts
    events = max(counts["events"], 1)
    return {
        "case": case.name,
        **counts,
        "labels": asdict(summary.labels),
        "seconds": round(seconds, 3),
        "events_per_second": round(events / seconds, 1) if seconds else None,
        "cpu_us_per_event": round(cpu_seconds / events * 1e6, 3),
        "models": summary.models,
        "digest": digests["predictions"],
        "digests": digests,
    }


class Progress(Protocol):
    """How far a simulation is."""

    cpu_seconds: float

    def digests(self) -> dict[str, str]: ...
    def summary(self) -> Summary: ...


class Simulation:
    """The processors of every partition, fed in chunks; `cpu_seconds` is the fold's own time."""

    def __init__(self, case: UseCase, partitions: int | None = None) -> None:
        self.partitions = partitions or case.partitions
        self.case = replace(case, partitions=self.partitions)
        check_models_of(self.case)
        self.processors = [PartitionProcessor(self.case, p) for p in range(self.partitions)]
        self._digests = Digests(self.partitions)
        self.cpu_seconds = 0.0

    def step(self, partition: int, records: list[LogRecord]) -> Outputs:
        """Fold one chunk of one partition."""
        started = time.process_time()
        out = self.processors[partition].step(records)
        self.cpu_seconds += time.process_time() - started
        self._digests.add(partition, out)
        return out

    def digests(self) -> dict[str, str]:
        """Digests of the outputs so far, by kind."""
        return self._digests.as_dict()

    def summary(self) -> Summary:
        """Counts and metrics so far."""
        return summarize(self.processors)


@seldom_collected()
def simulate(
    case: UseCase,
    source: str | None = None,
    *,
    limit: int | None = None,
    partitions: int | None = None,
    chunk: int = 500,
    warm_up: str | None = None,
    reading: Reading = AS_IT_IS,
    on_outputs: Callable[[int, Outputs], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Fold `source` (default: the case's own) and return counts, metrics and digests.

    `limit` is a number of source events; `chunk` the records a step (the result is the same for any);
    `warm_up` is a source to learn from first, without any output. `on_outputs(partition, outputs)` gets all
    outputs. If the partitions need several stages, all of them are folded, record by record in the source's
    order.
    """
    warn_unless_pinned()
    started = time.perf_counter()
    events = with_closing_clock(case, open_log(case, source, limit, reading))
    if warm_up is not None:
        events = chain(as_warm_up(case, open_source(case, warm_up, None, reading)), events)
    if plan_of(case, partitions).is_chain:
        return _in_stages(case, partitions or case.partitions, events, on_outputs, on_progress)
    simulation = Simulation(case, partitions)
    waiting: list[list[LogRecord]] = [[] for _ in simulation.processors]

    def fold(partition: int) -> None:
        out = simulation.step(partition, waiting[partition])
        waiting[partition] = []
        if on_outputs is not None:
            on_outputs(partition, out)
        if on_progress is not None:
            on_progress(simulation)

    for partition, record in layout(case, events, simulation.partitions):
        waiting[partition].append(record)
        if len(waiting[partition]) >= chunk:
            fold(partition)
    for partition, left in enumerate(waiting):
        if left:
            fold(partition)
    seconds = time.perf_counter() - started
    return result(case, simulation.summary(), seconds, simulation.cpu_seconds, simulation.digests())


def _in_stages(
    case: UseCase,
    partitions: int,
    events: Iterable[Event | Recorded],
    on_outputs: Callable[[int, Outputs], None] | None,
    on_progress: Callable[[Progress], None] | None,
) -> dict[str, Any]:
    started = time.perf_counter()
    stages = ChainSimulation(case, partitions)
    for number, out in stages.fold(events):
        if on_outputs is not None:
            on_outputs(number, out)
        if on_progress is not None:
            on_progress(stages)
    seconds = time.perf_counter() - started
    return result(case, stages.summary(), seconds, stages.cpu_seconds, stages.digests())
