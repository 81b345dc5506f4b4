"""What a take-over costs: the fence, the silent fold, and a worker killed and started again."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from driftline.bench.log import Log
from driftline.bench.peers.process import Assignment, Process
from driftline.bench.peers.worker_command import WorkerCommand
from driftline.infra.serving.deploy import deploy
from driftline.infra.settings import Settings
from driftline.streams.code.hash_seed import pin
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.takeover import take_over
from driftline.streams.simulation.simulate import Simulation
from driftline.streams.transport.kafka_broker import RECORDS_IN_READ, KafkaBroker

FENCES = 11
"""Fences that are timed."""
WITHIN = 120.0
"""Seconds in which a worker must have answered what it was asked."""


def _deployment(assignment: Assignment, home: Path) -> Deployment:
    """The case with no checkpoint."""
    settings = Settings(home=home, bootstrap=assignment.bootstrap, namespace=assignment.namespace)
    return deploy(load_case(assignment.case), settings, KafkaBroker(assignment.bootstrap))


async def _fence_seconds(deployment: Deployment) -> float:
    """Median of fencing out the owner of partition 0."""
    found = []
    for _ in range(FENCES):
        started = time.perf_counter()
        appender = await deployment.broker.fence(deployment.owner(0), list(deployment.outputs(0).values()))
        found.append(time.perf_counter() - started)
        await appender.close()
    return median(found)


@dataclass(slots=True)
class _Spent:
    """CPU and wall seconds of the rounds."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    _begun: tuple[float, float] = (0.0, 0.0)

    def __enter__(self) -> None:
        self._begun = time.process_time(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.cpu.append(time.process_time() - self._begun[0])
        self.wall.append(time.perf_counter() - self._begun[1])


async def _silent_fold(assignment: Assignment, log: Log, folder: Path, rounds: int) -> dict[str, Any]:
    """The whole log folded by take-overs without a checkpoint, beside `simulate` of the same chunks."""
    case = load_case(assignment.case)
    simulated, recovered, taken = _Spent(), _Spent(), []
    deployment = _deployment(assignment, folder)
    for _ in range(rounds):
        simulation = Simulation(case)
        chunks = log.chunks(RECORDS_IN_READ)
        with simulated:
            for partition, records in chunks:
                simulation.step(partition, records)
        owners = []
        for partition in range(log.partitions):
            started = time.perf_counter()
            owners.append(await take_over(deployment, partition))
            taken.append(time.perf_counter() - started)
        with recovered:
            for owned in owners:
                async for _ in owned.recover():
                    pass
        for owned in owners:
            await owned.close()
    fence = await _fence_seconds(deployment)
    await deployment.broker.close()
    return {
        "fence_ms": fence * 1e3,
        "take_over_ms": median(taken) * 1e3,
        "silent_fold_events_per_second": len(log) / median(recovered.wall),
        "simulate_events_per_second": len(log) / median(simulated.wall),
        "silent_fold_speed": median(simulated.wall) / median(recovered.wall),
        "silent_fold_cpu": median(simulated.cpu) / median(recovered.cpu),
    }


def silent_fold(assignment: Assignment, log: Log, folder: Path, rounds: int) -> dict[str, Any]:
    """Costs of taking over the partitions of a case whose outputs are all on the broker."""
    return asyncio.run(_silent_fold(assignment, log, folder, rounds))


class _Predictions:
    """Reads the predictions' topic as they come."""

    def __init__(self, assignment: Assignment, partitions: int) -> None:
        from kafka import KafkaConsumer, TopicPartition

        self._reader = KafkaConsumer(bootstrap_servers=assignment.bootstrap, isolation_level="read_committed")
        places = [TopicPartition(assignment.predictions, p) for p in range(partitions)]
        self._reader.assign(places)
        self._reader.seek_to_beginning()

    def read(self, worker: Process | WorkerCommand, enough: int) -> None:
        """Return when so many more have come; raises PeerFailed when the worker ends or is silent."""
        deadline = time.monotonic() + WITHIN
        while enough > 0:
            enough -= sum(map(len, self._reader.poll(timeout_ms=20).values()))
            worker.check()
            if time.monotonic() > deadline:
                raise worker.failure(f"left {enough} requests unanswered")

    def close(self) -> None:
        """End the connection."""
        self._reader.close()


def all_answered(assignment: Assignment, log: Log, worker: Process) -> None:
    """Wait until a worker has answered every request of the log."""
    predictions = _Predictions(assignment, log.partitions)
    try:
        predictions.read(worker, _requests(load_case(assignment.case), log, 0, len(log)))
    finally:
        predictions.close()


def kill(assignment: Assignment, log: Log) -> dict[str, Any]:
    """Seconds from SIGKILL and immediate restart to the next new prediction, and of a SIGTERM to the exit.

    The checkpoint then is that of an orderly end a quarter of the log before.
    """
    case = load_case(assignment.case)
    quarters = [len(log) * part // 4 for part in range(5)]
    asked = [_requests(case, log, *bounds) for bounds in pairwise(quarters)]
    predictions = _Predictions(assignment, log.partitions)
    settings = Settings(
        home=Path(assignment.home), bootstrap=assignment.bootstrap, namespace=assignment.namespace
    )
    worker = WorkerCommand(assignment.case, settings)
    try:
        log.produce(assignment.bootstrap, assignment.log, 0, quarters[2])
        predictions.read(worker, asked[0] + asked[1])
        started = time.perf_counter()
        worker.end(signal.SIGTERM)
        stopped = time.perf_counter() - started
        worker = WorkerCommand(assignment.case, settings)
        log.produce(assignment.bootstrap, assignment.log, quarters[2], quarters[3])
        predictions.read(worker, asked[2])
        worker.end(signal.SIGKILL)
        killed = time.perf_counter()
        worker = WorkerCommand(assignment.case, settings)
        log.produce(assignment.bootstrap, assignment.log, quarters[3], quarters[4])
        predictions.read(worker, 1)
        back = time.perf_counter() - killed
    finally:
        worker.end()
        predictions.close()
    return {
        "kill_to_prediction_seconds": back,
        "checkpoint_behind_records": quarters[3] - quarters[2],
        "sigterm_to_exit_seconds": stopped,
    }


def _requests(case: UseCase, log: Log, begin: int, end: int) -> int:
    """How many records of a stretch of the log ask for a prediction."""
    decode = case.codec().decode
    return sum(
        isinstance(decode(record.value, record.key), case.task.ask) for _, record in log.sequence[begin:end]
    )


def main(assignment: Assignment, log: Log, what: str, rounds: int) -> dict[str, Any]:
    """The measurement named `silent_fold` or `kill`."""
    if what == "kill":
        return kill(assignment, log)
    return silent_fold(assignment, log, Path(assignment.home) / "recovery", rounds)


if __name__ == "__main__":
    pin()
    measured = main(Assignment.from_arguments(), Log.load(Path(sys.argv[2])), sys.argv[3], int(sys.argv[4]))
    print(json.dumps(measured))
