"""CPU of a process under measurement, asked for by the process that started it."""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from typing import NamedTuple


def cpu_seconds() -> float:
    """User and system CPU of this process, all threads, and of children that have ended: a driftline
    worker's checkpoints are written by such."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Reading(NamedTuple):
    """CPU and wall clock, both in seconds."""

    cpu: float
    at: float


def read() -> Reading:
    """The reading of this moment."""
    return Reading(cpu_seconds(), time.time())


class Gauge:
    """Remembers the reading at the first event; answers every line on standard input with the
    first and the present one, and ends the process when its parent is gone."""

    def __init__(self) -> None:
        self.first: Reading | None = None
        # standard output is for the answers alone: what a framework prints goes to standard error
        self._out = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        threading.Thread(target=self._answer, daemon=True).start()

    def event(self) -> None:
        """An event is about to be processed."""
        if self.first is None:
            self.first = read()

    def _answer(self) -> None:
        for _ in sys.stdin:
            answer = json.dumps({"first": self.first, "now": read()}) + "\n"
            os.write(self._out, answer.encode())
        os._exit(1)
