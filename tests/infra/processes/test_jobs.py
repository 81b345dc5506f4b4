"""The partitions of a case, each worked on by a process of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import NamedTuple

import pytest

from driftline.infra.errors import InfraError
from driftline.infra.processes.jobs import Report, in_processes


class Job(NamedTuple):
    partition: int


class Unpicklable(Exception):
    def __init__(self, partition: int, reason: str) -> None:
        super().__init__(f"partition {partition}: {reason}")


def square(job: Job, report: Report[int]) -> int:
    report(job.partition)
    report(os.getpid())
    return job.partition**2


def fail_or_wait(job: Job, report: Report[int]) -> None:
    if job.partition == 1:
        raise ValueError("partition 1 cannot be folded")
    report(os.getpid())
    threading.Event().wait()


def fail_unpicklably(job: Job, report: Report[int]) -> None:
    raise Unpicklable(job.partition, "torn")


def die(job: Job, report: Report[int]) -> None:
    os._exit(7)


def unreported(job: Job, progress: int) -> None:
    raise AssertionError(f"{job} reports {progress}")


def test_results_come_in_the_order_of_the_jobs_and_progress_by_job() -> None:
    reports: dict[int, list[int]] = {0: [], 1: [], 2: []}
    jobs = [Job(2), Job(0), Job(1)]
    found = asyncio.run(
        in_processes(square, jobs, lambda job, progress: reports[job.partition].append(progress))
    )
    assert found == [4, 0, 1]
    assert [reported[0] for reported in reports.values()] == [0, 1, 2]
    processes = {reported[1] for reported in reports.values()}
    assert len(processes) == 3
    assert os.getpid() not in processes


def test_the_failure_of_one_job_ends_all_and_is_raised_with_its_traceback() -> None:
    waiting: list[int] = []
    jobs = [Job(0), Job(1)]
    with pytest.raises(ValueError, match="partition 1 cannot be folded") as raised:
        asyncio.run(in_processes(fail_or_wait, jobs, lambda _, pid: waiting.append(pid)))
    assert "in fail_or_wait" in "".join(raised.value.__notes__)
    for pid in waiting:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_an_error_that_cannot_be_pickled_is_reported_by_its_message() -> None:
    with pytest.raises(InfraError, match="Unpicklable: partition 3: torn"):
        asyncio.run(in_processes(fail_unpicklably, [Job(3)], unreported))


def test_a_process_that_dies_is_reported_by_its_partition_and_exit_code() -> None:
    with pytest.raises(InfraError, match="the process of partition 5 ended with exit code 7"):
        asyncio.run(in_processes(die, [Job(5)], unreported))
