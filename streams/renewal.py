"""A worker that has lost its way to Kafka begins anew: the same process, with a new image.

Faust ends its app when one of its services fails, and its consumer may stay in a group without being given
records (both seen after a broker was killed). What such an app leaves behind (threads that wait for one
another, connections, a member of the group) cannot be ended from within; executing the same command does, and
the partitions are taken over from the last checkpoints. Process id, arguments, environment, working folder,
standard streams and children stay, so a supervisor sees nothing of it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import Protocol

log = logging.getLogger("driftline.worker")

ENDS_WITHIN = 20.0
"""Seconds that a worker has to end by itself, once it was asked to or has failed."""


class Lost(Exception):
    """The worker's connection to Kafka failed in a way that only a new start mends."""


class Endable(Protocol):
    """What `Deadline` watches."""

    @property
    def is_ending(self) -> bool:
        """Whether the end has begun."""
        ...

    def last_resort(self) -> None:
        """End the process, or begin it anew; called on a thread of its own."""
        ...


class Deadline(threading.Thread):
    """Sees to it that an end that has begun comes, though the event loop may be blocked for ever."""

    def __init__(self, watched: Endable) -> None:
        super().__init__(name="deadline", daemon=True)
        self._watched = watched
        self._over = threading.Event()

    def run(self) -> None:
        """Wait for the end to begin, then for it to come."""
        while not self._watched.is_ending:
            if self._over.wait(0.5):
                return
        if not self._over.wait(ENDS_WITHIN):
            self._watched.last_resort()

    def over(self) -> None:
        """The end has come by itself."""
        self._over.set()


def begin_anew(reason: str) -> None:
    """Execute this process's command again; does not return."""
    log.warning("the worker begins anew: %s", reason)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the new image inherits the mask of this thread
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def end_now(code: int) -> None:
    """End this process without waiting for anything; does not return."""
    logging.shutdown()
    os._exit(code)
