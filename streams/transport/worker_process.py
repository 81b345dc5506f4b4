"""Runs a worker in this process until a signal, or until its connection to Kafka is lost."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import faust

from driftline import logs
from driftline.garbage_collection import seldom_collected
from driftline.streams.connection.library_log_filter import leave_out_what_passes
from driftline.streams.connection.log_throttling import hold_back_repeats
from driftline.streams.transport.process_restart import WORKER_ENDS_WITHIN, Deadline, Lost, Renewals, end_now
from driftline.streams.transport.worker import Worker

log = logging.getLogger("driftline.worker")

LAST_MOMENT = 0.05
"""Seconds for connections to close before the event loop does; all waiting tasks have ended by then."""


class _Service(faust.Worker):  # type: ignore[misc]
    """Faust's worker, with a readable log, and with a failure at the start reported as one."""

    crash_reason: BaseException | None
    case: str

    async def start(self) -> None:
        """Start, and serve. An error at the start is a crash; mode would log it, and end as after a
        signal."""
        try:
            await super().start()
        except Exception as error:
            self.crash_reason = self.crash_reason or error

    async def _sentinel_task(self) -> None:
        await asyncio.sleep(LAST_MOMENT)  # mode's own sleeps for a second

    def on_setup_root_logger(self, logger: logging.Logger, level: int) -> None:
        super().on_setup_root_logger(logger, level)
        logs.as_set(logger, case=self.case)
        hold_back_repeats(logger)


class _Term:
    """One worker's life within this process, and how it ends."""

    def __init__(self, worker: Worker, renewals: Renewals) -> None:
        self._worker = worker
        self._renewals = renewals
        self.service = _Service(worker.app, loglevel="WARN", quiet=True)
        self.service.case = worker.case.name
        self.service.spinner = None  # it would set every library's log to DEBUG

    @property
    def is_ending(self) -> bool:
        return bool(self.service.should_stop or self._worker.app.should_stop)

    @property
    def failure(self) -> BaseException | None:
        """The error that ended the worker, if any."""
        if self._worker.failure is not None:
            return self._worker.failure
        crash = self.service.crash_reason or self._worker.app.crash_reason
        if crash is not None and self.service._signal_stop_time is None:
            return Lost(f"{type(crash).__name__}: {crash}")
        return None

    def last_resort(self) -> None:
        failure = self.failure
        self.write_reason()
        log.warning("what the worker had begun did not end within %g s", WORKER_ENDS_WITHIN)
        if isinstance(failure, Lost):
            self._renewals.restart(str(failure))
        if failure is not None:
            log.error("driftline: %s", failure)
        end_now(0 if failure is None else 1)

    def write_reason(self) -> None:
        """Write to the status file why it ended."""
        failure = self.failure
        if failure is None:
            self._worker.status.write_end(self._worker.superseded or "it was asked to end", failed=False)
        elif isinstance(failure, Lost):
            self._worker.status.write_end(f"it {self._renewals.announcement(str(failure))}", failed=True)
        else:
            self._worker.status.write_end(str(failure) or type(failure).__name__, failed=True)


@seldom_collected()
def run(worker: Worker, renewals: Renewals, closing: Callable[[], Awaitable[None]] | None = None) -> None:
    """Run until SIGTERM or SIGINT, or until other code has taken over; leaves the group and exits 0 then,
    else raises what ended it.

    If that is the connection to Kafka, the process restarts, by `renewals`. `closing` is awaited when the
    partitions have been given back.
    """
    sys.setswitchinterval(0.0005)  # the row writer's thread must not delay answers by 5 ms
    term = _Term(worker, renewals)

    @worker.app.on_before_shutdown.connect  # type: ignore[untyped-decorator]
    async def ending(*_: Any, **__: Any) -> None:
        await worker.close()
        if closing is not None:
            await closing()

    leave_out_what_passes()
    deadline = Deadline(term)
    deadline.start()
    exited: SystemExit | None = None
    try:
        term.service.execute_from_commandline()
    except SystemExit as error:
        exited = error
    deadline.over()
    term.write_reason()
    failure = term.failure
    if isinstance(failure, Lost):
        renewals.restart(str(failure))
    if failure is not None:
        raise failure
    if exited is not None:
        raise exited
