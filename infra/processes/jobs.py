"""A command's work on the partitions of a case, each in a process of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from driftline.infra.errors import InfraError
from driftline.infra.processes.children import end_with_parent


class PartitionJob(Protocol):
    """What the process of one partition is given."""

    @property
    def partition(self) -> int: ...


_Job = TypeVar("_Job", bound=PartitionJob)
_Progress = TypeVar("_Progress")
_Result = TypeVar("_Result")

Report = Callable[[_Progress], None]
"""What a job calls to report how far it is."""

_SPAWN = multiprocessing.get_context("spawn")
"""Not forked: the threads and sockets of Kafka's clients would be shared, or left half way."""


class _Done(NamedTuple, Generic[_Result]):
    result: _Result


class _Failed(NamedTuple):
    error: Exception


class _Reported(NamedTuple, Generic[_Progress]):
    progress: _Progress


async def in_processes(
    work: Callable[[_Job, Report[_Progress]], _Result],
    jobs: Sequence[_Job],
    reported: Callable[[_Job, _Progress], None],
) -> list[_Result]:
    """The results of the jobs in their order, from as many processes at once as there are cores.

    `work`, a function of a module, and the jobs are pickled. `reported` is called, on other threads, with
    what a job reports. Where one job fails, or this is cancelled, all processes end; the job's error is
    raised, and InfraError for a process that died.
    """
    turns = asyncio.Semaphore(os.cpu_count() or 1)
    tasks = [asyncio.create_task(_in_turn(turns, work, job, reported)) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _in_turn(
    turns: asyncio.Semaphore,
    work: Callable[[_Job, Report[_Progress]], _Result],
    job: _Job,
    reported: Callable[[_Job, _Progress], None],
) -> _Result:
    async with turns:
        receiving, sending = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(target=_run, args=(work, job, sending), daemon=True)
        process.start()
        sending.close()
        try:
            end = await asyncio.to_thread(_received, receiving, lambda progress: reported(job, progress))
        finally:
            process.terminate()  # it has nothing left to do
            await asyncio.to_thread(process.join)
            receiving.close()
    if isinstance(end, _Done):
        result: _Result = end.result
        return result
    if isinstance(end, _Failed):
        raise end.error
    raise InfraError(f"the process of partition {job.partition} ended with exit code {process.exitcode}")


def _received(receiving: Connection, report: Callable[[Any], None]) -> _Done[Any] | _Failed | None:
    """How a job ended; None where its process died."""
    try:
        while isinstance(message := receiving.recv(), _Reported):
            report(message.progress)
    except EOFError:
        return None
    end: _Done[Any] | _Failed = message
    return end


def _run(work: Callable[[_Job, Report[Any]], Any], job: _Job, sending: Connection) -> None:
    """In the job's process: do the work, and send the result or the error."""
    end_with_parent()
    try:
        end: _Done[Any] | _Failed = _Done(work(job, lambda progress: sending.send(_Reported(progress))))
    except Exception as error:
        end = _Failed(_to_send(error))
    sending.send(end)


def _to_send(error: Exception) -> Exception:
    """The error, or its message where it cannot be pickled; its traceback, which never can, is a note."""
    try:
        sent: Exception = pickle.loads(pickle.dumps(error))
    except Exception:
        sent = InfraError(f"{type(error).__name__}: {error}")
    sent.add_note(traceback.format_exc())
    return sent
