"""The payments, Kafka to Kafka: in one partition, where all stages are one, and as a chain on four.

python -m driftline.bench.speed.chains --events 60000 --rounds 3

There is a payment in each second of event time, so no partition of the chain has to wait for another one, as
in a live case. The workers serve before the first event, and then get all events at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from driftline.bench.log import Log, mark_of_request
from driftline.bench.peers import process
from driftline.bench.peers.process import Assignment, Limits, PeerFailed, Process
from driftline.bench.speed import latency
from driftline.bench.speed.attempts import attempt, medians, say
from driftline.bench.speed.kafka_runs import PACE_SECONDS, WORKER, KafkaRuns
from driftline.bench.speed.scale import Size, events
from driftline.infra.local.kafka import LocalStack
from driftline.infra.settings import Settings
from driftline.streams.code.hash_seed import pin
from driftline.streams.declare.usecase import load_case

CARDS = 10_000


class Shape(NamedTuple):
    """A case as it is deployed: on so many partitions, which the path tells, and workers."""

    case_path: str
    workers: int


SHAPES = {
    "one_partition": Shape("driftline.bench.cases:payments_on_1", 1),
    "chain": Shape("driftline.bench.cases:payments_on_4", 1),
    "chain_two_workers": Shape("driftline.bench.cases:payments_on_4", 2),
}


class ShapeRuns:
    """The runs of one shape; the topics of each are removed after it."""

    def __init__(self, shape: Shape, count: int, bootstrap: str, folder: Path, limits: Limits) -> None:
        self._shape, self._limits, self._bootstrap = shape, limits, bootstrap
        self._case = load_case(shape.case_path)
        self._log = Log.laid_out(self._case, islice(events(Size(CARDS, count, 1.0)), count))
        asked = mark_of_request(self._case)
        self._requests = sum(asked in record.value for _, record in self._log.sequence)
        self._runs = KafkaRuns(bootstrap, self._log, folder, limits, case_path=shape.case_path)

    def throughput(self) -> dict[str, Any]:
        """CPU of all workers for an event of the log, and events a second."""
        assignment = self._runs.assign(own=True, case=self._shape.case_path)
        expected = dict.fromkeys((assignment.predictions, assignment.outcomes), self._requests)
        try:
            with ExitStack() as stack:
                workers = self._serving(stack, assignment)
                self._log.produce(self._bootstrap, assignment.log)
                process.await_outputs(workers, assignment, expected, self._limits)
                return process.figures(workers, len(self._log))
        finally:
            self._runs.clean()

    def latency(self, rounds: int) -> dict[str, Any]:
        """p50 and p99 in ms by rate."""
        assignment = self._runs.assign(own=True, case=self._shape.case_path)
        try:
            with ExitStack() as stack:
                (worker,) = self._serving(stack, assignment)
                services = {"driftline": (worker, assignment)}
                measured = latency.measure(
                    self._case, self._log, services, PACE_SECONDS, rounds, self._limits
                )
                found: dict[str, Any] = asyncio.run(measured)["driftline"]
                return found
        finally:
            self._runs.clean()

    def _serving(self, stack: ExitStack, assignment: Assignment) -> list[Process]:
        """The workers, when they serve all partitions of all stages, each its own."""
        workers = [
            stack.enter_context(process.running(WORKER, assignment, self._limits))
            for _ in range(self._shape.workers)
        ]
        partitions = sum(stage.partitions for stage in self._case.plan.stages)
        begun = time.monotonic()
        while not _shared(Path(assignment.home), len(workers), partitions):
            for worker in workers:
                worker.check()
            if time.monotonic() - begun > self._limits.round:
                raise PeerFailed(f"{len(workers)} workers did not come to serve {partitions} partitions")
            time.sleep(0.1)
        return workers


def _shared(home: Path, workers: int, partitions: int) -> bool:
    statuses = [json.loads(path.read_text()) for path in home.glob("worker-*/status.json")]
    served = [sum(p["state"] == "serving" for p in one["partitions"].values()) for one in statuses]
    return len(served) == workers and all(served) and sum(served) == partitions


def measure(
    bootstrap: str, folder: Path, limits: Limits, *, count: int, rounds: int, latency_rounds: int
) -> dict[str, Any]:
    """Throughput of each shape, and what follows: the CPU that a further stage adds, how much faster two
    workers are, and how p99 grows by stages."""
    found: dict[str, Any] = {}
    for name, shape in SHAPES.items():
        say(f"payments, {name.replace('_', ' ')}")
        runs = ShapeRuns(shape, count, bootstrap, folder, limits)
        found[name] = medians(runs.throughput, rounds)
        if shape.workers == 1:
            found[name]["latency"] = attempt(lambda one=runs: one.latency(latency_rounds))  # type: ignore[misc]
    stages = len(load_case(SHAPES["chain"].case_path).plan.stages)
    return found | {"events": count, "stages": stages, "ratios": ratios(found, stages)}


def ratios(found: dict[str, Any], stages: int) -> dict[str, float | None]:
    """What the shapes say of each other; None where one of two figures was not measured.

    `two_workers_speed` is as measured, where producer, broker and both workers share this machine's cores;
    `two_workers_speed_apart` is by the CPU of an event: of two workers that have a core each, as one has.
    """
    one, chain, two = (found[name] for name in SHAPES)

    def compared(name: str, above: dict[str, Any], below: dict[str, Any]) -> float | None:
        return above[name] / below[name] if above[name] and below[name] else None

    def p99(rate: int) -> float | None:
        ours, least = (shape["latency"].get(str(rate)) for shape in (chain, one))
        return ours["p99_ms"] / least["p99_ms"] if ours and least else None

    times = compared("cpu_us_per_event", chain, one)
    apart = compared("cpu_us_per_event", chain, two)
    added = None if times is None else (times - 1.0) * one["cpu_us_per_event"] / (stages - 1)
    return {
        "added_us_per_stage": added,
        "two_workers_speed": compared("events_per_second", two, chain),
        "two_workers_speed_apart": apart and 2.0 * apart,
    } | {f"latency_p99_{rate}": p99(rate) for rate in PACE_SECONDS}


def main(settings: Settings, *, count: int, rounds: int, latency_rounds: int) -> dict[str, Any]:
    """Measure on the broker of the settings, or on the local one, started when it does not run."""
    stack = None if settings.bootstrap else LocalStack(settings.home)
    was_up = stack is None or stack.status() is not None
    bootstrap = settings.bootstrap or (stack.up().bootstrap if stack else "")
    try:
        with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
            return measure(
                bootstrap,
                Path(folder),
                Limits(),
                count=count,
                rounds=rounds,
                latency_rounds=latency_rounds,
            )
    finally:
        if stack is not None and not was_up:
            stack.down()


if __name__ == "__main__":
    pin()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=60_000, dest="count", help="events of the log")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-rounds", type=int, default=5)
    json.dump(main(Settings.read(), **vars(parser.parse_args())), sys.stdout, indent=2)
