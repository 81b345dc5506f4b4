"""A worker that has lost its connection to Kafka restarts: the same process, with a new image.

Faust ends its app when one of its services fails, and its consumer may stay in a group without being given
records (both seen after a broker was killed). The remains of such an app (threads that wait for one another,
connections, a member of the group) cannot be ended from within. Executing the same command again ends them,
and the partitions are taken over from the last checkpoints. Process id, arguments, environment, working
folder, standard streams and children stay, so a supervisor does not notice it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import Protocol

log = logging.getLogger("driftline.worker")

WORKER_ENDS_WITHIN = 20.0
"""Seconds that a worker has to end by itself, after a signal or a failure."""
FIRST_RESTART_PAUSE = 2.0
LONGEST_RESTART_PAUSE = 60.0
"""Longest time between two starts, in seconds: from the second restart in a row on, the time doubles each
time; a process that has lasted that long restarts at once."""
CALM = 120.0
"""Seconds that a process has to last for its next restart to count as the first in a row again."""
IN_A_ROW = "DRIFTLINE_BEGUN_ANEW"
PAUSE = "DRIFTLINE_BEGINS_AFTER"
"""Names in the environment, which the new image inherits: how often in a row, and the seconds to wait."""


class Lost(Exception):
    """The worker's connection to Kafka failed in a way that only a restart mends."""


class Endable(Protocol):
    """What `Deadline` watches."""

    @property
    def is_ending(self) -> bool:
        """Whether the end has begun."""
        ...

    def last_resort(self) -> None:
        """End the process, or restart it; called on a thread of its own."""
        ...


class Deadline(threading.Thread):
    """Ensures that a process that is ending does end, even if the event loop is blocked for ever."""

    def __init__(self, watched: Endable) -> None:
        super().__init__(name="deadline", daemon=True)
        self._watched = watched
        self._over = threading.Event()

    def run(self) -> None:
        """Wait for the end to begin, then for its completion."""
        while not self._watched.is_ending:
            if self._over.wait(0.5):
                return
        if not self._over.wait(WORKER_ENDS_WITHIN):
            self._watched.last_resort()

    def over(self) -> None:
        """The process has ended its work in time."""
        self._over.set()


class Renewals:
    """How often in a row this process has restarted; made at the start of each of its images.

    A failure at every start must not repeat every few seconds: the time from one start to the next grows.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._in_a_row = int(os.environ.get(IN_A_ROW, "0"))
        self._wait = float(os.environ.get(PAUSE, "0"))

    def wait(self) -> None:
        """Wait until this image may start. SIGTERM and SIGINT end the process meanwhile as they end a
        worker."""
        if not self._wait:
            return
        asked = {signal.SIGTERM, signal.SIGINT}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, asked)
        if signal.sigtimedwait(asked, self._wait) is not None:
            end_now(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._started = time.monotonic()

    @property
    def _lasted(self) -> float:
        return time.monotonic() - self._started

    @property
    def _next(self) -> int:
        return 1 if self._lasted > CALM else self._in_a_row + 1

    @property
    def _pause(self) -> int:
        """Whole seconds that the next image waits."""
        return max(0, round(_between(self._next) - self._lasted))

    def announcement(self, reason: str) -> str:
        """The text of the log for restarting for a reason."""
        pause = self._pause
        return f"restarts{f' after {pause} s' if pause else ''}: {reason}"

    def restart(self, reason: str) -> None:
        """Execute this process's command again; does not return."""
        log.warning("the worker %s", self.announcement(reason))
        os.environ[PAUSE] = str(self._pause)
        os.environ[IN_A_ROW] = str(self._next)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the new image inherits the mask of this thread
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _between(in_a_row: int) -> float:
    """Seconds from the previous start to the one with this number in a row."""
    return min(LONGEST_RESTART_PAUSE, FIRST_RESTART_PAUSE * 2.0 ** (in_a_row - 2)) if in_a_row > 1 else 0.0


def end_now(code: int) -> None:
    """End this process without waiting for anything; does not return."""
    logging.shutdown()
    os._exit(code)
