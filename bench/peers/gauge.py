"""Measures the CPU of a process, on request of the process that started it."""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from typing import NamedTuple


def cpu_seconds() -> float:
    """User and system CPU seconds of this process, all threads, and of its ended children: a driftline
    worker's checkpoints are written by child processes."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Reading(NamedTuple):
    """CPU and wall clock, both in seconds."""

    cpu: float
    at: float


def read() -> Reading:
    """The current reading."""
    return Reading(cpu_seconds(), time.time())


class Gauge:
    """Keeps the reading at the first event. Answers every line on standard input with the first and the
    current reading, and ends the process when its parent has ended."""

    def __init__(self) -> None:
        self.first: Reading | None = None
        # standard output is for the answers only: prints of a framework go to standard error
        self._out = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        threading.Thread(target=self._answer, daemon=True).start()

    def event(self) -> None:
        """Note that an event is about to be processed."""
        if self.first is None:
            self.first = read()

    def _answer(self) -> None:
        for _ in sys.stdin:
            answer = json.dumps({"first": self.first, "now": read()}) + "\n"
            os.write(self._out, answer.encode())
        os._exit(1)
